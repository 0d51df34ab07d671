"""What only operators ask of PostgreSQL.

Everything here raises `UnavailableError` while PostgreSQL is down.
"""
