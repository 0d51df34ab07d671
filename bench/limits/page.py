"""The list's query through asyncpg and nothing else: `python -m bench.limits.page PORT DSN`."""

import sys

import asyncpg
import uvloop
from aiohttp import web

from bench.limits import serve

CONNECTIONS = 10
PAGE = """
    SELECT leads.lead_json(lead) AS json FROM leads.lead ORDER BY created_at DESC, id DESC LIMIT 100
"""


async def main(port: int, dsn: str) -> None:
    """Serve until cancelled."""
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:

        async def page(_request: web.Request) -> web.Response:
            rows = await pool.fetch(PAGE)
            body = "[" + ",".join([row["json"] for row in rows]) + "]"
            return web.Response(body=body.encode(), content_type="application/json")

        app = web.Application()
        app.router.add_get("/", page)
        await serve(app, port)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
