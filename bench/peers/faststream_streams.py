"""FastAPI before FastStream on a Redis Stream: a worker stores the lead and replies to the API.

`python -m bench.peers.faststream_streams PORT` is an API, without a port a worker.
"""

import contextlib
import os
import sys
from collections.abc import AsyncGenerator

import uvloop
from fastapi import FastAPI, status
from faststream import Context, ContextRepo
from faststream import FastStream as Worker
from faststream.redis import RedisBroker, StreamSub
from pydantic import BaseModel

from bench.peers.leads import Lead, NewLead, TakenError, User, open_pool, serve, store, taken

STREAM = "faststream"
AT_A_TIME = 256

# A request takes two connections: one waits for its reply.
broker = RedisBroker(os.environ["PEER_REDIS_URL"], max_connections=2_048, logger=None)


class Command(BaseModel):
    """What the API asks the worker for."""

    lead: NewLead
    user: str


class Outcome(BaseModel):
    """What became of it: no lead where another one has its address."""

    lead: Lead | None


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Hold the broker while the application runs."""
    async with broker:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/leads", status_code=status.HTTP_201_CREATED)
async def create(lead: NewLead, user: User) -> Lead:
    """Have a lead stored."""
    reply = await broker.request(Command(lead=lead, user=user), stream=STREAM, timeout=10.0)
    outcome = Outcome.model_validate_json(reply.body)
    if outcome.lead is None:
        raise taken()
    return outcome.lead


worker = Worker(broker, logger=None)


@broker.subscriber(
    stream=StreamSub(STREAM, group="workers", consumer="worker", last_id=">"),
    max_workers=AT_A_TIME,
)
async def store_lead(command: Command, pool: object = Context()) -> Outcome:
    """Store a lead."""
    try:
        return Outcome(lead=await store(pool, command.lead, created_by=command.user))
    except TakenError:
        return Outcome(lead=None)


@worker.on_startup
async def open_everything(context: ContextRepo) -> None:
    """Open the pool that handlers are given."""
    context.set_global("pool", await open_pool())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(app)
    else:
        uvloop.run(worker.run())
