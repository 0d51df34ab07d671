"""The way of a request and nothing else: HTTP, a stream, a worker, PostgreSQL, a reply.

`python -m bench.limits.way PORT DSN REDIS_URL [MODEL_URL]` is two processes, as one API and one
consuming service are. What waits is sent, stored and answered together. Nothing is checked,
archived, retried, cached, announced, logged or counted. With a model each request is a call of it,
and what it says is stored.
"""

import asyncio
import contextlib
import multiprocessing
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple, cast

import aiohttp
import asyncpg
import orjson
import uvloop
from aiohttp import web
from redis.asyncio import Redis

from bench.limits import serve
from shared.background import background
from shared.batcher import Batcher, open_batcher

MOST = 200
BLOCK_MS = 1_000
TABLE = """
    CREATE TABLE IF NOT EXISTS bench_way (
        id uuid PRIMARY KEY, external_id uuid UNIQUE, email text UNIQUE, document jsonb NOT NULL
    )
"""
INSERT = """
    INSERT INTO bench_way SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[])
"""

Item = tuple[str, bytes]
"""A request's id and its body, or its answer's."""


class Streams(NamedTuple):
    """The streams that a request comes by and its answer."""

    requests: str
    replies: str


async def serve_api(port: int, redis_url: str, streams: Streams) -> None:
    """Serve until cancelled: add each body to the stream, answer what comes back."""
    waiting: dict[str, asyncio.Future[bytes]] = {}
    async with Redis.from_url(redis_url, protocol=3) as redis:

        async def wake() -> None:
            async for id_, body in _entries(redis, streams.replies):
                waiting.pop(id_).set_result(body)

        async with _adding(redis, streams.requests) as adding, background(wake(), name="replies"):

            async def post(request: web.Request) -> web.Response:
                id_, body = str(uuid.uuid4()), await request.read()
                reply = waiting[id_] = asyncio.get_running_loop().create_future()
                await adding.submit((id_, body))
                status = 201 if request.path == "/leads" else 200
                return web.Response(
                    status=status, body=await reply, content_type="application/json"
                )

            async def is_ready(_request: web.Request) -> web.Response:
                return web.Response()

            app = web.Application()
            app.router.add_get("/", is_ready)
            app.router.add_post("/leads", post)
            app.router.add_post("/leads/{id}/summary", post)
            await serve(app, port)


async def work(dsn: str, redis_url: str, model: str | None, streams: Streams, ready: Event) -> None:
    """Store what is in the stream, or what the model says to it, and reply, forever."""
    async with (
        asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool,
        Redis.from_url(redis_url, protocol=3) as redis,
        _adding(redis, streams.replies) as replying,
        _storing(pool, replying) as storing,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as calls,
    ):
        await pool.execute(TABLE)
        ready.set()

        async def call(id_: str, body: bytes) -> None:
            async with http.post(f"{model}/v1", data=body) as answer:
                said = orjson.loads(await answer.read())["choices"][0]["message"]["content"]
            storing.submit((id_, orjson.dumps({"lead": "Ada Lovelace", "said": said})))

        async for id_, body in _entries(redis, streams.requests):
            if model is None:
                storing.submit((id_, body))
            else:
                calls.create_task(call(id_, body))


@contextlib.asynccontextmanager
async def _adding(redis: Redis, stream: str) -> AsyncGenerator[Batcher[Item, None]]:
    async def add(items: Sequence[Item]) -> Sequence[None]:
        async with redis.pipeline(transaction=False) as pipeline:
            for id_, body in items:
                pipeline.xadd(stream, {"id": id_, "body": body}, maxlen=10_000, approximate=True)
            await pipeline.execute()
        return [None] * len(items)

    async with open_batcher(add, name=stream, most=MOST) as adding:
        yield adding


@contextlib.asynccontextmanager
async def _storing(
    pool: "asyncpg.Pool[asyncpg.Record]", replying: Batcher[Item, None]
) -> AsyncGenerator[Batcher[Item, None]]:
    async def store(items: Sequence[Item]) -> Sequence[None]:
        ids = [uuid.UUID(id_) for id_, _ in items]
        emails = [orjson.loads(body).get("email", id_) for id_, body in items]
        await pool.execute(INSERT, ids, ids, emails, [body.decode() for _, body in items])
        for item in items:
            replying.submit(item)
        return [None] * len(items)

    async with open_batcher(store, name="storing", most=MOST) as storing:
        yield storing


async def _entries(redis: Redis, stream: str) -> AsyncIterator[Item]:
    """Yield what is in a stream and what comes, forever."""
    last: Any = "0-0"
    while True:
        reply = cast("dict[bytes, Any]", await redis.xread({stream: last}, MOST, BLOCK_MS))
        for entries in reply.values():
            for entry_id, fields in entries[0]:
                last = entry_id
                yield fields[b"id"].decode(), fields[b"body"]


def _work(dsn: str, redis_url: str, model: str | None, streams: Streams, ready: Event) -> None:
    uvloop.run(work(dsn, redis_url, model, streams, ready))


def main(port: int, dsn: str, redis_url: str, model: str | None = None) -> None:
    """Serve, with a worker that is a process of its own, until ended."""
    streams = Streams(f"bench:way:{port}:requests", f"bench:way:{port}:replies")
    processes = multiprocessing.get_context("spawn")
    ready = processes.Event()
    arguments = (dsn, redis_url, model, streams, ready)
    processes.Process(target=_work, args=arguments, daemon=True).start()
    ready.wait()
    uvloop.run(serve_api(port, redis_url, streams))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
