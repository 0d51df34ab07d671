"""The usual way to store what is posted: one INSERT a request, on a pool of connections.

`python -m bench.limits.insert PORT DSN` fills a table of its own, with the unique columns of
`leads.lead`. It checks nothing: no token, no field.
"""

import sys
import uuid

import asyncpg
import orjson
import uvloop
from aiohttp import web

from bench.limits import serve

CONNECTIONS = 10
TABLE = """
    CREATE TABLE IF NOT EXISTS bench_lead (
        id uuid PRIMARY KEY, external_id uuid UNIQUE, email text UNIQUE, document jsonb NOT NULL
    )
"""
INSERT = "INSERT INTO bench_lead VALUES ($1, $2, $3, $4)"


async def main(port: int, dsn: str) -> None:
    """Serve until cancelled."""
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(TABLE)

        async def insert(request: web.Request) -> web.Response:
            body = await request.read()
            email = orjson.loads(body)["email"]
            await pool.execute(INSERT, uuid.uuid4(), uuid.uuid4(), email, body.decode())
            return web.Response(status=201, body=body, content_type="application/json")

        async def is_ready(_request: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        app.router.add_get("/", is_ready)
        app.router.add_post("/leads", insert)
        await serve(app, port)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
