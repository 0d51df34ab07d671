"""What handlers share: bodies, queries, headers, pages, answers and problems.

Raises `Problem` for what the client did wrong.
"""
