"""Servers that speak the vendors' wire protocols, so that the real client libraries run unchanged.

Each is `python -m devstack.standins.<name>`, listens on `STANDIN_HOST`:`STANDIN_PORT`, and can be
set at run time to be slow, to fail or to answer nonsense: see `devstack.standins.serving`.
"""
