"""Everything `make run` starts on a machine that has neither servers nor accounts.

What cannot run raises a `CannotRunError`, whose text says what the user can do about it.
"""


class CannotRunError(Exception):
    """Something keeps the stack from running."""
