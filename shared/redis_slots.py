"""Which slot of a Redis Cluster a command's key is in, and which master has it."""

import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ClusterDownError

Address: TypeAlias = tuple[str, int]

# What may follow these is no key.
_WITHOUT_KEY = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FLUSHALL", "FLUSHDB", "FUNCTION"}
    | {
        "INFO",
        "KEYS",
        "LATENCY",
        "MODULE",
        "PUBLISH",
        "SCAN",
        "SCRIPT",
        "SELECT",
        "SLOWLOG",
        "WAIT",
    }
)


class SlotMap:
    """Which master has which slot, and which masters have replicas, as some node said.

    `ranges` is the reply to CLUSTER SLOTS.
    """

    def __init__(self, ranges: Sequence[Sequence[Any]], *, told_by: Address) -> None:
        self.masters: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self.replicated: set[Address] = set()
        self.addresses: list[Address] = []
        self.known_at = time.monotonic()
        for first, last, *nodes in ranges:
            master, *replicas = [_address(node, told_by) for node in nodes]
            self.masters[first : last + 1] = [master] * (last + 1 - first)
            self.addresses += [one for one in (master, *replicas) if one not in self.addresses]
            if replicas:
                self.replicated.add(master)

    @property
    def age(self) -> float:
        """Seconds since this was said."""
        return time.monotonic() - self.known_at

    def master_of(self, slot: int) -> Address:
        """Return the master of a slot."""
        master = self.masters[slot]
        if master is None:
            raise ClusterDownError("Hash slot not served")
        return master

    def tags(self) -> list[str]:
        """Return a hash tag for each master: keys that have it are there."""
        masters = {master for master in self.masters if master is not None}
        found: dict[Address, str] = {}
        for number in range(REDIS_CLUSTER_HASH_SLOTS * 10):  # enough for a master of one slot
            if len(found) == len(masters):
                break
            tag = str(number)
            master = self.masters[key_slot(tag.encode())]
            if master is not None:
                found.setdefault(master, tag)
        return list(found.values())


def slot_of(args: Sequence[Any]) -> int:
    """Return the slot of a command's key: of its first, since the server wants all in one.

    Raises `DataError` for a command without a key, which is for one node: see `nodes`.
    """
    position = 1
    if args[0] in {"EVAL", "EVALSHA"}:
        position = 3
    elif args[0] in {"XREAD", "XREADGROUP"}:
        position = first_stream(args)
    if len(args) <= position or str(args[0]).partition(" ")[0] in _WITHOUT_KEY:
        raise redis.DataError(f"{args[0]} has no key, and so no node of a cluster to go to")
    key = args[position]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def first_stream(args: Sequence[Any]) -> int:
    """Return the place of the first stream among what XREAD or XREADGROUP is given."""
    return next(place for place, arg in enumerate(args) if arg in {b"STREAMS", "STREAMS"}) + 1


def _address(node: Sequence[Any], told_by: Address) -> Address:
    """Return a node's address; one that does not know its own host is where it was asked."""
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return host if host not in {None, "", "?"} else told_by[0], int(node[1])
