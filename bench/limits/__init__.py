"""Tiny servers that mark what this machine could do at best."""

import asyncio

from aiohttp import web

from devstack.free_ports import LOOPBACK

BACKLOG = 1024


async def serve(app: web.Application, port: int) -> None:
    """Serve until cancelled."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port, backlog=BACKLOG).start()
    await asyncio.Event().wait()
