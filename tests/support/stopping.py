"""A service in this process, ended as SIGTERM ends one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

# Past any service's own deadline for shutting down.
PATIENCE = timedelta(seconds=15)


@asynccontextmanager
async def until_stopped(
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, name: str
) -> AsyncGenerator[None]:
    """Run a service for the length of the block; how it failed is raised at the end.

    Not cancelled: a cancellation can get lost in the Redis client, and a task group that
    waits for the task which lost it waits for ever.
    """
    stop = asyncio.Event()
    task = asyncio.create_task(run(stop), name=name)
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await task
