"""The base of all reasons why the stack cannot run; each is told to the user as it is."""


class CannotRunError(Exception):
    """The message says what is wrong and what to do."""
