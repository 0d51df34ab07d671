"""A Redis Cluster of three masters, each with a replica: killed, healed, its slots moved about."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from devstack.data_directory import write_secret
from devstack.free_ports import LOOPBACK, free_port
from devstack.servers.valkey import EmbeddedValkey
from shared.settings import StreamsSettings
from tests.support.eventually import eventually

PASSWORD = "swordfish"
MASTERS = 3
# A master that is silent for so long is replaced.
NODE_TIMEOUT = timedelta(seconds=2)
STARTED = timedelta(seconds=30)
KEYS_AT_ONCE = 10

CONFIGURATION = """\
cluster-enabled yes
cluster-port {bus}
cluster-node-timeout {timeout}
cluster-replica-validity-factor 0
repl-diskless-sync-delay 0
masterauth {password}
"""


class ClusterNode(EmbeddedValkey):
    """A server that is a node of a cluster."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, appendfsync="no")
        self.bus = free_port()

    @property
    def client(self) -> Redis:
        """A client of this node alone, to be closed."""
        return Redis.from_url(self.url)

    async def ask(self, *command: str | int) -> Any:
        """Send this node a command."""
        [answer] = await self.ask_all(command)
        return answer

    async def ask_all(self, *commands: tuple[str | int, ...]) -> list[Any]:
        """Send this node some commands, one after the other."""
        async with self.client as client:
            send = cast("Any", client.execute_command)
            return [await send(*command) for command in commands]

    async def id(self) -> str:
        """Return the node's name in the cluster."""
        return cast("bytes", await self.ask("CLUSTER", "MYID")).decode()

    async def is_master(self) -> bool:
        """Whether the node has slots now."""
        return bool((await self.ask("ROLE"))[0] == b"master")

    def _write_configuration(self) -> Path:
        path = super()._write_configuration()
        with path.open("a") as configuration:
            timeout = NODE_TIMEOUT // timedelta(milliseconds=1)
            configuration.write(
                CONFIGURATION.format(bus=self.bus, timeout=timeout, password=PASSWORD)
            )
        return path


class Cluster:
    """Three masters with a replica each. Use through `open_cluster`."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes = nodes
        self._dead: list[ClusterNode] = []

    @property
    def url(self) -> str:
        """The address by two of the nodes."""
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://:{PASSWORD}@{hosts}"

    @property
    def settings(self) -> StreamsSettings:
        return StreamsSettings(redis_url=SecretStr(self.url))

    async def masters(self) -> list[ClusterNode]:
        """Return the nodes that run and are masters."""
        running = [node for node in self.nodes if node not in self._dead]
        return [node for node in running if await node.is_master()]

    async def master_of(self, key: str) -> ClusterNode:
        """Return the node that has a key's slot."""
        slot = key_slot(key.encode())
        for node in await self.masters():
            for first, last, (_, port, *_), *_ in await node.ask("CLUSTER", "SLOTS"):
                if first <= slot <= last and port == node.port:
                    return node
        raise LookupError(key)

    async def replica_of(self, key: str) -> ClusterNode:
        """Return the node that has a copy of a key's slot."""
        master = await self.master_of(key)
        _, _, [(_, port, _)] = await master.ask("ROLE")
        return next(node for node in self.nodes if node.port == int(port))

    async def clear(self) -> None:
        """Forget all data."""
        for node in await self.masters():
            await node.ask("FLUSHALL")

    async def has_all_masters(self) -> bool:
        """Return whether the slots of those that were killed have another master."""
        return len(await self.masters()) == MASTERS

    async def heal(self) -> None:
        """Have all nodes run, in their roles, and the replicas have all data."""
        while self._dead:
            await self._dead.pop().start()
        await self.is_whole()

    async def kill(self, node: ClusterNode) -> None:
        """End a node with SIGKILL."""
        self._dead.append(node)
        await node.kill()

    async def is_whole(self) -> None:
        """Wait until each master has its replica, and all know of it."""
        await eventually(self._is_whole, within=STARTED)

    async def move_slot(self, key: str, *, pause: timedelta = timedelta(0)) -> None:
        """Move a key's slot to another master, which takes it over after a pause or two."""
        slot = key_slot(key.encode())
        source = await self.master_of(key)
        target = next(node for node in await self.masters() if node is not source)
        source_id, target_id = await source.id(), await target.id()
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        await asyncio.sleep(pause.total_seconds())
        while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            to = ("MIGRATE", LOOPBACK, target.port, "", 0, 5_000, "AUTH", PASSWORD, "KEYS")
            await source.ask(*to, *keys)
        await asyncio.sleep(pause.total_seconds())
        for node in (target, source, *await self.masters()):
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    async def _is_whole(self) -> bool:
        for node in self.nodes:
            slots, state, (role, *link) = await node.ask_all(
                ("CLUSTER", "SLOTS"), ("CLUSTER", "INFO"), ("ROLE",)
            )
            has_all = sum(last - first + 1 for first, last, *_ in slots) == REDIS_CLUSTER_HASH_SLOTS
            # Beside the first and the last slot each has its master and the replica.
            if not has_all or any(len(nodes) < 2 for _, _, *nodes in slots):
                return False
            is_linked = role == b"master" or link[2] == b"connected"
            if b"cluster_state:ok" not in state or not is_linked:
                return False
        return True


@asynccontextmanager
async def open_cluster(directory: Path) -> AsyncGenerator[Cluster]:
    """Start a cluster in an empty directory, and end it with the block."""
    nodes: list[ClusterNode] = []
    async with AsyncExitStack() as stack:
        for number in range(2 * MASTERS):
            place = directory / f"node{number}"
            place.mkdir(mode=0o700)
            write_secret(place / "password", PASSWORD)
            nodes.append(ClusterNode(place))
            stack.push_async_callback(nodes[-1].kill)
        await asyncio.gather(*(node.start() for node in nodes))
        cluster = Cluster(nodes)
        await _join(nodes)
        await cluster.is_whole()
        yield cluster


async def _join(nodes: list[ClusterNode]) -> None:
    """Share the slots among the first nodes, and have the others follow them."""
    bounds = [REDIS_CLUSTER_HASH_SLOTS * number // MASTERS for number in range(MASTERS + 1)]
    for number, (first, end) in enumerate(itertools.pairwise(bounds)):
        await nodes[number].ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        await nodes[number].ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    for node in nodes[1:]:
        await nodes[0].ask("CLUSTER", "MEET", LOOPBACK, node.port, node.bus)

    async def know_all() -> bool:
        known = [len((await node.ask("CLUSTER", "NODES")).splitlines()) for node in nodes]
        return known == [len(nodes)] * len(nodes)

    await eventually(know_all, within=STARTED)
    for number in range(MASTERS):
        replica, master = nodes[MASTERS + number], nodes[number]
        await replica.ask("CLUSTER", "REPLICATE", await master.id())
