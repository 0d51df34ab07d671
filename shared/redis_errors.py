"""Which errors of Redis' client mean that Redis is away, and which are defects of ours."""

import traceback

import redis
from redis.exceptions import ClusterCrossSlotError

# What is our own defect: a wrong command, argument, type or script. BUSYGROUP is an answer that the
# caller handles. Everything else that a server says is an outage, also that a stream or a group is
# not there: it went with all data a moment ago, and is made anew by who works on it. A command that
# is not known or not allowed is the operator's, who may rename and forbid commands.
_DEFECTS = (
    "BUSYGROUP",
    "Script attempted to access a non local key",
    "WRONGTYPE",
    "Error compiling script",
    "Invalid stream ID",
    "syntax error",
    "user_script:",
    "value is not",
    "Wrong number of args calling command from script",
    "wrong number of arguments",
)
# How the client begins the error of a command in a pipeline.
_IN_PIPELINE = "of pipeline caused error: "


def without_command(message: str) -> str:
    """Return what the server said, and not the command that it was about: that is personal data."""
    return message.rpartition(_IN_PIPELINE)[2]


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that Redis cannot serve now.

    That includes any error of the client or of the network that is not shown to be a defect of
    ours: an error that no one listed must not end a process or park an event.
    """
    match error:
        case redis.DataError() | redis.WatchError() | ClusterCrossSlotError():
            return False  # a wrong type or key; an answer for the caller
        case redis.ResponseError():
            message = without_command(str(error)).lstrip("('\"")
            return not message.startswith(_DEFECTS)
        case redis.RedisError() | OSError():
            return True
        case _:
            # A write to a connection that was reset a moment ago: uvloop raises RuntimeError,
            # asyncio's own loop TypeError (https://github.com/python/cpython/issues/136234).
            return isinstance(error, Exception) and _passed_through_client(error)


def _passed_through_client(error: Exception) -> bool:
    return any(
        str(frame.f_globals.get("__name__", "")).partition(".")[0] == "redis"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )
