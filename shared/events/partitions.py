"""The partitions of an ordered stream, as PostgreSQL keeps them and the runtime uses them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

# How many partitions a stream gets at its first start: the most processes that can share it.
DEFAULT_PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """One division of a stream; `number` counts from 1."""

    stream: str
    number: int
    partitions: int

    def name(self, partition: int) -> str:
        """Return the stream of a partition. What is in braces keeps it in one slot of a cluster."""
        return f"{self.stream}:{{{self.number}.{partition}}}"

    @property
    def names(self) -> Sequence[str]:
        """The streams of all partitions."""
        return [self.name(partition) for partition in range(self.partitions)]

    def partition_of(self, key: str) -> int:
        """Return the partition of the events with this key."""
        return zlib.crc32(key.encode()) % self.partitions

    def name_for(self, key: str) -> str:
        """Return the stream of the events with this key."""
        return self.name(self.partition_of(key))


@dataclass(frozen=True, slots=True)
class Division:
    """All layouts of a stream so far, and whether events may be published to the last one."""

    layouts: Sequence[Layout]
    is_open: bool

    @property
    def last(self) -> Layout:
        """The layout that is in use, or will be next."""
        return self.layouts[-1]

    @property
    def names(self) -> Sequence[str]:
        """All streams that it consists of, the one from before there were partitions first."""
        return [self.last.stream, *(name for layout in self.layouts for name in layout.names)]


@dataclass(frozen=True, slots=True)
class Member:
    """A process that shares partitions: alive while its `beat` grows.

    `process` tells the processes of a host apart, of one boot and of several.
    """

    token: UUID
    name: str
    host: str
    process: str
    beat: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and how far it has come; `owner` is its member's token."""

    layout: int
    number: int
    owner: UUID | None
    epoch: int
    position: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition that this process owns, unless another one has taken it over since.

    Each time it is taken `epoch` is one more: so what was begun before a partition was lost is told
    from what its owner does once he has it back.
    """

    stream: str
    layout: int
    number: int
    owner: UUID
    epoch: int


@dataclass(frozen=True, slots=True)
class Survey:
    """Who there is, who owns what in a stream, and how it is divided; None when it never was."""

    members: Sequence[Member] = ()
    partitions: Sequence[Partition] = ()
    division: Division | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEntry:
    """An entry kept back until `wait` is over: it failed, or is behind one that did.

    `fields` are those of the stream entry. One with attempt 0 has ended, as a dead letter: it is
    kept until no later owner can read it again.
    """

    entry_id: str
    key: str
    attempt: int
    wait: timedelta
    fields: Mapping[bytes, bytes] = field(repr=False)

    @property
    def has_ended(self) -> bool:
        """Whether it is parked, and not to be tried again."""
        return self.attempt == 0
