"""FastAPI on asyncpg: each request is one INSERT. No event is kept, and nothing outlives an outage.

`python -m bench.peers.fastapi_asyncpg PORT`
"""

import contextlib
from collections.abc import AsyncGenerator

from fastapi import FastAPI, Request, status

from bench.peers.leads import Lead, NewLead, TakenError, User, open_pool, serve, store, taken


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Hold the pool while the application runs."""
    async with open_pool() as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/leads", status_code=status.HTTP_201_CREATED)
async def create(lead: NewLead, user: User, request: Request) -> Lead:
    """Store a lead."""
    try:
        return await store(request.app.state.pool, lead, created_by=user)
    except TakenError as error:
        raise taken() from error


if __name__ == "__main__":
    serve(app)
