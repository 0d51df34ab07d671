"""What services share of PostgreSQL.

Everything here raises `UnavailableError` while PostgreSQL is down, and `TransientError` when
another transaction was in the way (`pool.translated_errors` says which error is which).
"""
