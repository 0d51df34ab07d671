"""Scripts as typed functions: what Lua gets, what Python gets back, and an unknown hash."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from redis.asyncio import Redis

from shared.lua import Key, Keys, lua_script

LEAD_ID = UUID("0190a1b2-0000-7000-8000-000000000001")


@lua_script("""
local kinds = {type(number), type(span), type(flag), type(text), type(lead_id), type(many)}
return {number + 1, span + 1, flag and 1 or 0, text, lead_id, table.concat(many, '|'),
  table.concat(kinds, ' '), key}
""")
def show(
    *,
    key: Key,
    number: int,
    span: timedelta,
    flag: bool,
    text: bytes,
    lead_id: UUID,
    many: Sequence[str],
) -> list[bytes | int]:
    """Return what Lua got."""
    raise NotImplementedError


@lua_script("for i, key in ipairs(keys) do redis.call('SET', key, values[i]) end return #keys")
def set_all(*, keys: Keys, values: Sequence[str]) -> int:
    raise NotImplementedError


@lua_script("return redis.call('SET', key, value, 'NX')")
def set_once(*, key: Key, value: str) -> bool:
    raise NotImplementedError


@lua_script("return redis.call('GET', key)")
def get(*, key: Key) -> str:
    raise NotImplementedError


@lua_script("return {1, 2}")
def pair(*, key: Key) -> tuple[int, int]:
    raise NotImplementedError


async def test_parameters_are_locals_of_their_types(redis: Redis) -> None:
    shown = await show(
        redis,
        key="k",
        number=1,
        span=timedelta(seconds=2),
        flag=True,
        text=b"\xff",
        lead_id=LEAD_ID,
        many=["a", "b"],
    )
    assert shown == [
        2,
        2001,
        1,
        b"\xff",
        str(LEAD_ID).encode(),
        b"a|b",
        b"number number boolean string string table",
        b"k",
    ]


async def test_results_are_of_the_declared_type(redis: Redis) -> None:
    assert await set_once(redis, key="k", value="first") is True
    assert await set_once(redis, key="k", value="second") is False
    assert await get(redis, key="k") == "first"
    assert await pair(redis, key="k") == (1, 2)


async def test_a_sequence_of_keys_goes_with_a_sequence_of_arguments(redis: Redis) -> None:
    assert await set_all(redis, keys=["a", "b"], values=["1", "2"]) == 2
    assert await redis.mget("a", "b") == [b"1", b"2"]


async def test_a_server_that_forgot_the_script_is_given_it_again(redis: Redis) -> None:
    await set_once(redis, key="k", value="v")
    await redis.script_flush()
    assert await get(redis, key="k") == "v"


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_pipeline_needs_no_script_to_be_known(redis: Redis, *, transaction: bool) -> None:
    await redis.script_flush()
    async with redis.pipeline(transaction=transaction) as pipeline:
        set_once.queue(pipeline, key="k", value="v")
        get.queue(pipeline, key="k")
        replies = await pipeline.execute()
    assert replies[1] == b"v"


def test_only_the_last_argument_may_be_a_sequence() -> None:
    def declaration(*, key: Key, values: Sequence[str], last: int) -> None:
        raise NotImplementedError

    with pytest.raises(TypeError, match="values: only the last"):
        lua_script("return 1")(declaration)
