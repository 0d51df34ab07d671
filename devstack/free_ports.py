"""Unused ports on the loopback address, each given to one process, once."""

import os
import secrets
import socket
from collections import deque
from collections.abc import Iterator

from devstack import CannotRunError

LOOPBACK = "127.0.0.1"
ALL_INTERFACES = "0.0.0.0"
# Below the ranges Linux and macOS take outgoing connections' ports from: a server that restarts
# must find its port free, and not held by some client's connection.
CANDIDATES = range(20_000, 32_000)
# More than anyone starts servers at a time.
CLAIMS_AT_MOST = 256

# Between the look at a port and the server's own bind another call, or another process, could be
# given the same. So a port is claimed by a socket of another kind, UDP, which hinders no server and
# ends with this process, however it ends. Kept by number: an object would be missed at the end.
_claims: deque[int] = deque()


class PortTakenError(CannotRunError):
    """A port that was asked for is not to be had."""


def free_port() -> int:
    """Returns a port nothing listens on, and that nobody else is given here."""
    return next(free_ports())


def free_ports(*, besides: int | None = None) -> Iterator[int]:
    """Yields free ports, none of which this or another process was given of late."""
    first = secrets.randbelow(len(CANDIDATES))
    for number in range(first, first + len(CANDIDATES)):
        port = CANDIDATES[number % len(CANDIDATES)]
        if port != besides and is_free(port) and _claim(port):
            yield port
    raise PortTakenError(f"no free port between {CANDIDATES.start} and {CANDIDATES.stop}")


def is_free(port: int) -> bool:
    return why_taken(port, host=LOOPBACK) is None


def require_free(port: int) -> None:
    """Raises PortTakenError for a port that a server on all interfaces cannot have."""
    if reason := why_taken(port, host=ALL_INTERFACES) or why_taken(port, host=LOOPBACK):
        raise PortTakenError(
            f"port {port} cannot be used ({reason}): take another, as in `make run PORT={port + 1}`"
        )


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((LOOPBACK, port))
    except OSError:
        claim.close()
        return False
    _claims.append(claim.detach())
    if len(_claims) > CLAIMS_AT_MOST:
        os.close(_claims.popleft())
    return True


def why_taken(port: int, *, host: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the last run that linger in TIME_WAIT are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror
        return None
