"""The lead cache in Redis: may be lost at any time, never older than what it last knew.

Writes raise `UnavailableError` when Redis is down; reads then find nothing.
"""
