"""What the peers share: who asks, what a lead is, how one is stored, and how an API is served."""

import os
import socket
import sys
import time
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, EmailStr, Field
from pydantic.alias_generators import to_camel

CONNECTIONS = 10
BACKLOG = 1024
TABLE = """
    CREATE TABLE IF NOT EXISTS public.peer_lead (
        id uuid PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL,
        email text NOT NULL UNIQUE, phone text, city text, country text, created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
"""
INSERT = """
    INSERT INTO public.peer_lead (
        id, first_name, last_name, email, phone, city, country, created_by
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *
"""


class NewLead(BaseModel):
    """What a client posts."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    first_name: str = Field(min_length=1, max_length=50)
    last_name: str = Field(min_length=1, max_length=50)
    email: EmailStr
    phone: str | None = Field(None, min_length=7, max_length=20)
    city: str | None = Field(None, max_length=50)
    country: str | None = Field(None, max_length=50)


class Lead(NewLead):
    """What is stored, and answered."""

    id: UUID
    created_by: str
    created_at: datetime


class TakenError(Exception):
    """Another lead has this e-mail address."""


def open_pool() -> Any:
    """Return a pool of connections to PostgreSQL, to be entered."""
    return asyncpg.create_pool(
        os.environ["PEER_DSN"], min_size=CONNECTIONS, max_size=CONNECTIONS, init=_create_table
    )


async def _create_table(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        await connection.execute(TABLE)


async def store(pool: asyncpg.Pool, lead: NewLead, *, created_by: str) -> Lead:
    """Insert a lead and return it, committed; raises `TakenError`."""
    values = (lead.first_name, lead.last_name, lead.email, lead.phone, lead.city, lead.country)
    try:
        row = await pool.fetchrow(INSERT, uuid4(), *values, created_by)
    except asyncpg.UniqueViolationError as error:
        raise TakenError from error
    return Lead.model_validate(dict(row))


def taken() -> HTTPException:
    """Return the answer to a lead whose address is another's."""
    return HTTPException(status.HTTP_409_CONFLICT, "A lead with this e-mail exists already")


_keys = jwt.PyJWKClient(os.environ["PEER_JWKS"])


# The product keeps tokens that it has checked too: the peers shall not lose by that.
@lru_cache(maxsize=10_000)
def _claims(token: str) -> dict[str, Any]:
    key = _keys.get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=["ES256", "RS256"], audience="authenticated")


async def _user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> str:
    try:
        claims = _claims(credentials.credentials)
    except jwt.InvalidTokenError as error:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "The token is not valid") from error
    if claims["exp"] < time.time():
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "The token has expired")
    return str(claims["sub"])


User = Annotated[str, Depends(_user)]


def serve(app: FastAPI) -> None:
    """Serve on the port on the command line, which several processes may share."""

    @app.get("/health")
    async def is_ready() -> None: ...

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(BACKLOG)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[listener])
