"""How leads are written: by the syncer alone.

Methods raise `UnavailableError` when PostgreSQL or Redis is down, and `TransientError` to have the
work repeated.
"""
