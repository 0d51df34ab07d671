"""Who is calling: Supabase's accounts and the tokens they are given.

Raises `Problem` for what the caller did wrong, and `UnavailableError` when the auth server, or
Redis, cannot be asked.
"""
