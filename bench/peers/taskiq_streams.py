"""FastAPI before taskiq on a Redis Stream: a worker stores the lead, the API awaits its result.

`python -m bench.peers.taskiq_streams PORT` is an API, without a port a worker.
"""

import contextlib
import os
import sys
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import uvloop
from fastapi import FastAPI, status
from taskiq import Context, TaskiqDepends
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers.leads import Lead, NewLead, TakenError, User, open_pool, serve, store, taken

URL = os.environ["PEER_REDIS_URL"]
# A result is asked for so often, in seconds, and for so long. By default it is 0.2, at which no
# caller would create more than five leads a second.
CHECK, TIMEOUT = 0.01, 10.0
AT_A_TIME = 256

broker = RedisStreamBroker(URL, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(URL, keep_results=False, result_ex_time=60)
)


@broker.task
async def store_lead(
    lead: dict[str, Any], user: str, context: Annotated[Context, TaskiqDepends()]
) -> dict[str, Any] | None:
    """Store a lead; returns None where another one has its address."""
    try:
        stored = await store(context.state.pool, NewLead.model_validate(lead), created_by=user)
    except TakenError:
        return None
    return stored.model_dump(mode="json")


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Hold the broker while the application runs."""
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)


@app.post("/leads", status_code=status.HTTP_201_CREATED)
async def create(lead: NewLead, user: User) -> Lead:
    """Have a lead stored."""
    task = await store_lead.kiq(lead.model_dump(mode="json"), user)
    result = await task.wait_result(check_interval=CHECK, timeout=TIMEOUT)
    if result.return_value is None:
        raise taken()
    return Lead.model_validate(result.return_value)


async def work() -> None:
    """Work on what is in the stream until ended."""
    async with open_pool() as broker.state.pool:
        await run_receiver_task(broker, run_startup=True, max_async_tasks=AT_A_TIME)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(app)
    else:
        uvloop.run(work())
