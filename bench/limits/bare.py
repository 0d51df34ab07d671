"""The least an aiohttp server can do: `python -m bench.limits.bare PORT` answers 400 bytes."""

import sys

import uvloop
from aiohttp import web

from bench.limits import serve

BODY = b'{"text":"' + b"x" * 389 + b'"}'


async def answer(_request: web.Request) -> web.Response:
    """Answer what every request is answered."""
    return web.Response(body=BODY, content_type="application/json")


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/", answer)
    uvloop.run(serve(app, int(sys.argv[1])))
