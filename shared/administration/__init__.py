"""What operators do to the system: the same for the command line and for the admin routes.

Everything here raises `UnavailableError` while Redis or PostgreSQL is down.
"""
