"""Putting past events back into their streams."""
