"""Errors named by what to do about them."""

from typing import Any


class TransientError(Exception):
    """Worth another try later: the runtime retries the event a bounded number of times."""


class UnavailableError(TransientError):
    """A dependency is down: hold the work and wait, however long it takes.

    An outage says nothing about the event, so it uses up none of its attempts. `dependency` names
    the server that is away (`redis`, `postgres`), where it is one.
    """

    def __init__(self, message: str, *, dependency: str | None = None) -> None:
        super().__init__(message)
        self.dependency = dependency


class FencedError(Exception):
    """Another process owns the partition by now: whatever was to be written is its to write."""


class UnfinishedError(Exception):
    """A part of the work is done and kept; the rest goes on with another delivery.

    For work that takes long: each part is a delivery of its own, with all its attempts.
    """


class PermanentError(Exception):
    """No retry will help: the event is parked as a dead letter, or the request refused.

    `code` is a stable machine-readable reason.
    """

    def __init__(self, message: str, *, code: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details
