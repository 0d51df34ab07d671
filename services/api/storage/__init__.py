"""What only the API reads from PostgreSQL, and notes in Redis.

Raises `UnavailableError` when the server that is asked is down.
"""
