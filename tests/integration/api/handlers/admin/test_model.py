"""`/admin/model`: what summarizers say of the model, and what all have taken of it."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.summarizer.settings import GroqSettings, SummarySettings
from services.summarizer.storage.budget import MinuteBudget
from services.summarizer.upstream import Reservation
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from shared.streams.model_status import ModelStatus, ModelStatuses
from shared.streams.publisher import add_events
from tests.support.eventually import eventually
from tests.support.summaries import Says, answer, requested, stored_lead
from tests.support.summarizer import running_summarizer, summarizer_settings

STATUS: dict[str, Any] = {
    "provider": "groq",
    "model": "large",
    "account": "ours",
    "most_calls": 2,
    "most_tokens": 1000,
    "most_summaries": 500,
    "is_circuit_open": False,
}


def status(consumer: str, **changes: Any) -> ModelStatus:
    given: dict[str, Any] = {**STATUS, **changes}
    return ModelStatus(consumer=consumer, **given)


async def models(operator: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await operator.get("/admin/model")
    assert answer.status_code == 200
    shown: list[dict[str, Any]] = answer.json()
    return shown


async def test_what_is_taken_stands_beside_what_may_be(
    operator: httpx.AsyncClient, redis: Redis
) -> None:
    assert await models(operator) == []
    statuses = ModelStatuses(redis)
    await statuses.tell(status("one"), calls=3, tokens=700)
    await statuses.tell(status("two", is_circuit_open=True), calls=4, tokens=5)
    budget = MinuteBudget(redis, name="groq:large", account="ours", calls=2, tokens=1000)
    for tokens in (100, 200, 300):
        within = timedelta(minutes=5)
        reserved = await budget.reserve(tokens=tokens, within=within, background=False)
        assert isinstance(reserved, Reservation)
    await budget.pause(timedelta(seconds=30))
    [shown] = await models(operator)
    assert 0 < shown.pop("pausedFor") <= 30
    assert shown == {
        "provider": "groq",
        "model": "large",
        "calls": 2,
        "mostCalls": 2,
        "tokens": 300,
        "mostTokens": 1000,
        "waiting": 1,
        "callsToday": 7,
        "tokensToday": 705,
        "mostSummaries": 500,
        "summarizers": [
            {"name": "one", "circuitOpen": False},
            {"name": "two", "circuitOpen": True},
        ],
    }


@pytest.mark.parametrize(
    ("changes", "calls", "tokens"),
    [
        ({"most_calls": None, "most_tokens": None}, None, None),
        ({"most_calls": None}, 0, 0),
        ({"most_tokens": None, "most_summaries": None}, 0, 0),
    ],
)
async def test_what_is_not_counted_is_unknown(
    changes: dict[str, None],
    calls: int | None,
    tokens: int | None,
    operator: httpx.AsyncClient,
    redis: Redis,
) -> None:
    await ModelStatuses(redis).tell(status("one", **changes), calls=0, tokens=0)
    [shown] = await models(operator)
    assert (shown["calls"], shown["tokens"], shown["pausedFor"]) == (calls, tokens, None)
    assert shown["mostCalls"] == (None if "most_calls" in changes else 2)


async def test_who_has_died_or_left_is_forgotten(operator: httpx.AsyncClient, redis: Redis) -> None:
    statuses = ModelStatuses(redis)
    for consumer, model in (("one", "small"), ("two", "large"), ("three", "large")):
        await statuses.tell(status(consumer, model=model), calls=0, tokens=0)
    assert [model["model"] for model in await models(operator)] == ["large", "small"]
    assert 0 < await redis.pttl("{models}:two") <= 20_000
    await redis.delete("{models}:two")  # as time does
    await statuses.leave("one")
    [shown] = await models(operator)
    assert [one["name"] for one in shown["summarizers"]] == ["three"]
    assert len(await redis.smembers("{models}")) == 1


async def test_a_summarizer_says_what_it_has_taken(
    operator: httpx.AsyncClient,
    redis: Redis,
    database: Database,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> None:
    settings = summarizer_settings(
        postgres_settings,
        streams_settings,
        summary=SummarySettings(summary_daily_quota=7),
        groq=GroqSettings(groq_api_key=SecretStr("gsk_tests"), groq_tokens_per_minute=0),
    )
    says = Says(answer())
    async with running_summarizer(settings, provider=says):

        async def told() -> dict[str, Any] | None:
            return next(iter(await models(operator)), None)

        shown = await eventually(told)
        assert [shown[name] for name in ("mostCalls", "mostTokens", "mostSummaries")] == [
            30,
            None,
            7,
        ]
        assert [one["circuitOpen"] for one in shown["summarizers"]] == [False]
        await add_events(redis, [requested(await stored_lead(database))])

        async def has_called() -> bool:
            return bool((await models(operator))[0]["calls"])

        await eventually(has_called)
    # At its end it says what it has not said yet, and then no more.
    assert await models(operator) == []
    await ModelStatuses(redis).tell(
        status("late", provider=says.name, model=says.model), calls=0, tokens=0
    )
    [shown] = await models(operator)
    assert (shown["callsToday"], shown["tokensToday"] > 0) == (1, True)
