"""Clients that follow all changes, in a process of their own.

`python -m bench.followers URL COUNT` reads tokens from standard input, one a line. When all follow
it prints `following`; when standard input ends, how many of them got an event, and how many the
API has let go since.
"""

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from itertools import cycle, islice
from typing import cast

import click
import uvloop
from yarl import URL

from bench.load import NoLoadError
from devstack.free_ports import LOOPBACK

# Connections that are opened at a time: a listening socket takes only so many.
AT_A_TIME = 100
RETRY = timedelta(milliseconds=50)
START = timedelta(minutes=2)
END = timedelta(seconds=30)
SPARE_FILES = 200


class Crowd:
    """Followers, and what came for them."""

    def __init__(self, url: URL) -> None:
        self.reached = 0
        self.lost = 0
        self._url = url
        self._place = (url.host or LOOPBACK, url.port or 80)

    async def add(self, token: str) -> None:
        """Follow once more; one process of the API may be full where another is not."""
        loop = asyncio.get_running_loop()
        request = (
            f"GET /changes HTTP/1.1\r\nHost: {self._url.authority}\r\n"
            f"Accept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
        ).encode()
        while True:
            _, follower = await loop.create_connection(
                lambda: Follower(self, request, loop.create_future()),
                *self._place,
            )
            if await follower.answered:
                return
            await asyncio.sleep(RETRY.total_seconds())


class Follower(asyncio.Protocol):
    """One client, that says when its first event comes."""

    def __init__(self, crowd: Crowd, request: bytes, answered: asyncio.Future[bool]) -> None:
        self.answered = answered
        self._crowd = crowd
        self._request = request
        self._is_reached = False
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            is_following = data.startswith(b"HTTP/1.1 200")
            self.answered.set_result(is_following)
            if not is_following and self._transport is not None:
                self._transport.close()
        if not self._is_reached and b"event: lead-changed" in data:
            self._is_reached = True
            self._crowd.reached += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the base's)
        if not self.answered.done():
            self.answered.set_result(False)
        elif self.answered.result():
            self._crowd.lost += 1


@contextlib.asynccontextmanager
async def following(url: str, tokens: Sequence[str], count: int) -> AsyncGenerator[None]:
    """Have so many clients follow for the length of the block.

    Raises `NoLoadError` when they do not get there, or one of them gets no event.
    """
    if count == 0:
        yield
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.followers", url, str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        given = cast("asyncio.StreamWriter", process.stdin)
        lines = cast("asyncio.StreamReader", process.stdout)
        given.write("".join(f"{token}\n" for token in tokens).encode() + b"\n")
        async with asyncio.timeout(START.total_seconds()):
            if await lines.readline() != b"following\n":
                raise NoLoadError(f"{count} followers do not get to follow")
        yield
        given.close()
        async with asyncio.timeout(END.total_seconds()):
            reached, lost = map(int, (await lines.readline()).split())
        if reached < count:
            raise NoLoadError(f"Of {count} followers {reached} got an event, {lost} were let go")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main(url: URL, count: int) -> None:
    """Follow until standard input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + SPARE_FILES)), hard))
    tokens = list(iter(lambda: sys.stdin.readline().strip(), ""))
    crowd = Crowd(url)
    places = asyncio.Semaphore(AT_A_TIME)

    async def add(token: str) -> None:
        async with places:
            await crowd.add(token)

    await asyncio.gather(*(add(token) for token in islice(cycle(tokens), count)))
    click.echo("following")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    click.echo(f"{crowd.reached} {crowd.lost}")


if __name__ == "__main__":
    uvloop.run(main(URL(sys.argv[1]), int(sys.argv[2])))
