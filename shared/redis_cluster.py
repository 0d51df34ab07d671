"""A Redis Cluster behind the interface of one server: commands go to the nodes of their keys.

Connections, commands and the protocol are redis-py's. Its own client of clusters is not used: it
sends ASKING and the command that this is for over two connections, runs a thread for each command
of a transaction, turns callers away where they could wait for a connection, and on CLUSTERDOWN
closes connections that others are using.

Nothing is sent twice unless the server has said that it did not carry it out.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, cast

import redis
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)

from shared.background import end
from shared.redis_slots import Address, SlotMap, first_stream, slot_of

Command: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]
"""The arguments of a command, its name first, and what the client needs to read the reply."""

# While a slot is on its way a command may be sent from node to node, or be asked to come again.
MOST_ATTEMPTS = 20
TRY_AGAIN = timedelta(milliseconds=50)

# How old the map of slots may be where it matters whether a master has a replica.
FRESH = timedelta(seconds=5)

# No answer is worth asking more often.
REFRESH_AT_MOST_EVERY = timedelta(milliseconds=100)

# What a node says that is no master, or not yet.
_NOT_NOW = (ClusterDownError, ReadOnlyError)


class NotReplicatedError(redis.RedisError):
    """A master has a replica, and it did not confirm a write in time. The write may last."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a command is to go; `is_asking` to a node that is only about to get its slot."""

    address: Address
    is_asking: bool = False


class ClusterRedis(Redis):
    """A client of all masters of a cluster. `open_node` opens one of a node.

    A command goes where its key is, a pipeline in parts to all nodes of its keys at the same time.
    `confirm_within` is how long a replica may take to confirm what has to be safe.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        open_node: Callable[[Address], Redis],
        *,
        is_outage: Callable[[BaseException], bool],
        confirm_within: timedelta,
    ) -> None:
        self.is_outage = is_outage
        self._seeds = tuple(seeds)
        self._open_node = open_node
        self._confirm_ms = confirm_within // timedelta(milliseconds=1)
        self._nodes: dict[Address, Redis] = {}
        self._slots: SlotMap | None = None
        self._is_stale = True
        self._failed: Address | None = None
        self._lock = asyncio.Lock()
        self._reads: dict[tuple[Any, Any], asyncio.Task[Any]] = {}
        super().__init__(connection_pool=self._node(self._seeds[0]).connection_pool)

    async def nodes(self) -> dict[str, Redis]:
        """Return clients of all masters by their addresses; not to be closed."""
        slots = await self._current_slots()
        masters = sorted({master for master in slots.masters if master is not None})
        return {f"{host}:{port}": self._node((host, port)) for host, port in masters}

    async def tags(self) -> list[str]:
        """Return a hash tag for each master."""
        return (await self._current_slots()).tags()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node of its key, and PING to all masters."""
        if args[0] == "PING":
            nodes = await self.nodes()
            replies = await asyncio.gather(*(node.ping() for node in nodes.values()))
            return all(replies)
        if args[0] == "XREAD":
            return await self._read(args, options)
        return await self._run_one(args, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: ARG002, FBT001, FBT002 (the interface of Redis)
        """Return a pipeline; in a transaction all keys lie in one slot."""
        return ClusterPipeline(self, transaction=transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: ARG002, FBT001 (the interface of Redis)
        """Close the connections to all nodes."""
        for task in self._reads.values():
            await end(task)
        self._ended_reads([])
        for node in self._nodes.values():
            await node.aclose()

    # Commands and their ways.

    async def run(self, commands: Sequence[Command], *, is_safe: bool = False) -> list[Any]:
        """Return what came of each command: its reply, or its error.

        Those with keys in one slot are carried out in their order. With `is_safe` a master's
        replica has them, if it has one.
        """
        slots = await self._current_slots(at_most=FRESH if is_safe else None)
        numbers = [slot_of(args) for args, _ in commands]
        todo = {index: _Target(slots.master_of(slot)) for index, slot in enumerate(numbers)}
        replies: list[Any] = [None] * len(commands)
        for _ in range(MOST_ATTEMPTS):
            groups: defaultdict[Address, list[int]] = defaultdict(list)
            for index, target in todo.items():
                groups[target.address].append(index)
            await asyncio.gather(
                *(
                    self._run_at(address, indexes, todo, commands, replies, is_safe=is_safe)
                    for address, indexes in groups.items()
                )
            )
            todo = {
                index: self._redirected(replies[index], target)
                for index, target in todo.items()
                if isinstance(replies[index], (MovedError, AskError, TryAgainError))
            }
            if not todo:
                break
            if any(isinstance(replies[index], TryAgainError) for index in todo):
                await asyncio.sleep(TRY_AGAIN.total_seconds())
        for index in todo:
            replies[index] = _astray()
        return replies

    async def transact(self, commands: Sequence[Command], *, is_safe: bool = False) -> list[Any]:
        """Return the replies to commands on one slot that take effect all at once, or not at all.

        Raises the first error for which none of them had its effect.
        """
        slots = await self._current_slots(at_most=FRESH if is_safe else None)
        first, *others = {slot_of(args) for args, _ in commands}
        if others:
            raise redis.DataError("The keys of a transaction must lie in one slot")
        wrapped: list[Command] = [(("MULTI",), {}), *commands, (("EXEC",), {})]
        target = _Target(slots.master_of(first))
        for _ in range(MOST_ATTEMPTS):
            replies = await self._send(target, wrapped, is_safe=is_safe)
            errors = [reply for reply in replies if isinstance(reply, Exception)]
            if not errors:
                return cast("list[Any]", replies[-1])
            if not isinstance(errors[0], (MovedError, AskError, TryAgainError)):
                raise errors[0]
            if isinstance(errors[0], TryAgainError):
                await asyncio.sleep(TRY_AGAIN.total_seconds())
            target = self._redirected(errors[0], target)
        raise _astray()

    async def _run_one(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        (reply,) = await self.run([(args, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _run_at(
        self,
        address: Address,
        indexes: Sequence[int],
        targets: Mapping[int, _Target],
        commands: Sequence[Command],
        replies: list[Any],
        *,
        is_safe: bool,
    ) -> None:
        """Send a node its part, in order, and put the replies into their places."""
        part: list[Command] = []
        for index in indexes:
            # Right before its command, on the same connection: it holds for that one alone.
            part += [_ASKING] if targets[index].is_asking else []
            part.append(commands[index])
        answers = iter(await self._send(_Target(address), part, is_safe=is_safe))
        for index in indexes:
            if targets[index].is_asking:
                next(answers)
            replies[index] = next(answers)

    async def _send(
        self, target: _Target, commands: Sequence[Command], *, is_safe: bool
    ) -> list[Any]:
        """Send commands to a node over one connection; returns replies and errors."""
        commands = [*([_ASKING] if target.is_asking else []), *commands]
        waits = is_safe and self._slots is not None and target.address in self._slots.replicated
        try:
            async with self._node(target.address).pipeline(transaction=False) as pipeline:
                for args, options in commands:
                    pipeline.execute_command(*args, **options)
                if waits:
                    pipeline.execute_command("WAIT", 1, self._confirm_ms)
                replies = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 (the caller learns of it: each command may have failed)
            self._is_stale, self._failed = True, target.address
            return [error] * (len(commands) - target.is_asking)
        confirmed = replies.pop() if waits else 1
        if confirmed == 0 or isinstance(confirmed, Exception):
            self._is_stale = True
            reason = confirmed or "in time"
            unsafe = NotReplicatedError(f"No replica has confirmed a write: {reason}")
            replies = [one if isinstance(one, Exception) else unsafe for one in replies]
        if any(isinstance(reply, _NOT_NOW) for reply in replies):
            self._is_stale, self._failed = True, target.address
        return replies[target.is_asking :]

    def _redirected(self, error: Exception, target: _Target) -> _Target:
        """Return where a command goes next that was not carried out."""
        if isinstance(error, TryAgainError):
            return target
        error = cast("AskError", error)  # the other one is its subclass
        address = (cast("str", error.host) or target.address[0], error.port)
        if isinstance(error, MovedError):
            self._is_stale = True
            if self._slots is not None:
                self._slots.masters[error.slot_id] = address
            return _Target(address)
        return _Target(address, is_asking=True)

    # Streams in several slots.

    async def _read(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Wait for entries of any of several streams, each read by a command of its own.

        A read of the others goes on, and is what the next call finds under way: to end it would
        cost its connection.
        """
        first = first_stream(args)
        head, names = args[:first], args[first : (first + len(args)) // 2]
        places = list(zip(names, args[first + len(names) :], strict=True))
        if len({slot_of((*head, *place)) for place in places}) == 1:
            return await self._run_one(args, options)
        for place in places:
            if place not in self._reads:
                self._reads[place] = asyncio.create_task(
                    self._run_one((*head, *place), options), name=f"read {place[0]}"
                )
        block = _block_of(head)
        await asyncio.wait(
            [self._reads[place] for place in places],
            timeout=block,
            return_when=asyncio.ALL_COMPLETED if block is None else asyncio.FIRST_COMPLETED,
        )
        return self._ended_reads(places)

    def _ended_reads(self, places: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
        """Return what was found; raises what went wrong when that is nothing."""
        ended = {place: read for place, read in self._reads.items() if read.done()}
        found: dict[Any, Any] = {}
        errors: list[BaseException] = []
        for place, read in ended.items():
            del self._reads[place]
            # Also of what is not asked for any more: an error that nobody looks at is reported.
            error = None if read.cancelled() else read.exception()
            if place in places and error is not None:
                errors.append(error)
            elif place in places and not read.cancelled():
                found |= read.result() or {}
        if errors and not found:
            raise errors[0]
        return found

    # Who has what.

    async def _current_slots(self, *, at_most: timedelta | None = None) -> SlotMap:
        slots = self._slots
        is_old = at_most is not None and slots is not None and slots.age > at_most.total_seconds()
        if slots is None or is_old or self._is_due:
            async with self._lock:
                if self._slots is slots:  # else another caller has just asked
                    self._slots = await self._ask_for_slots()
                    self._is_stale = False
        return cast("SlotMap", self._slots)

    @property
    def _is_due(self) -> bool:
        return (
            self._is_stale
            and self._slots is not None
            and self._slots.age > REFRESH_AT_MOST_EVERY.total_seconds()
        )

    async def _ask_for_slots(self) -> SlotMap:
        """Ask one node after the other, the one that failed last; raises the last one's error."""
        known = [] if self._slots is None else list(self._slots.addresses)
        random.shuffle(known)
        addresses = list(dict.fromkeys([*known, *self._seeds]))
        addresses.sort(key=lambda address: address == self._failed)
        error: Exception = ClusterDownError("No node has any slots")
        for address in addresses:
            try:
                node = cast("Any", self._node(address))  # this method has no types
                ranges = await node.execute_command("CLUSTER", "SLOTS")
            except Exception as failure:  # noqa: BLE001 (of any kind: another node may answer)
                error = failure
                continue
            if ranges:
                return SlotMap(ranges, told_by=address)
        raise error

    def _node(self, address: Address) -> Redis:
        if address not in self._nodes:
            self._nodes[address] = self._open_node(address)
        return self._nodes[address]


class ClusterPipeline(Pipeline):
    """Queued commands, which go out to their nodes at the same time.

    What is queued after `then` goes out only when all before it was carried out, or refused for
    what it was. With `is_safe` a write counts only once a replica has it, if its master has one.
    """

    def __init__(self, cluster: ClusterRedis, *, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster
        self._first_of_last = 0
        self.is_safe = False

    def then(self) -> None:
        """Have what is queued from now on wait for the success of what was queued before."""
        self._first_of_last = len(self.command_stack)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 (the interface of Pipeline)
        """Send everything; raises the first error, or returns errors in the place of replies.

        An outage that keeps back what comes `then` is raised in any case.
        """
        commands = cast("list[Command]", self.command_stack)
        first, last = commands[: self._first_of_last], commands[self._first_of_last :]
        try:
            if not commands:
                return []
            if self.is_transaction:
                return await self._transact(commands, raise_on_error=raise_on_error)
            replies: list[Any] = []
            for part in (first, last):
                replies += await self._cluster.run(part, is_safe=self.is_safe) if part else []
                errors = [reply for reply in replies if isinstance(reply, Exception)]
                if not raise_on_error and part is first:
                    errors = list(filter(self._cluster.is_outage, errors))
                if errors and (raise_on_error or part is first):
                    raise errors[0]
            return replies
        finally:
            self.command_stack = []

    async def _transact(self, commands: Sequence[Command], *, raise_on_error: bool) -> list[Any]:
        replies = await self._cluster.transact(commands, is_safe=self.is_safe)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if errors and raise_on_error:
            raise errors[0]
        return replies


_ASKING: Command = (("ASKING",), {})


def _block_of(head: Sequence[Any]) -> float | None:
    """Return for how many seconds a read may wait; None when it does not."""
    if b"BLOCK" not in head:
        return None
    return int(head[head.index(b"BLOCK") + 1]) / 1000


def _astray() -> ClusterError:
    return ClusterError("The cluster's nodes sent a command from one to the other")
