"""`/admin/model`, for operators: what is taken of the language model, and whether it is called."""

from typing import Annotated, Self

from aiohttp import web
from pydantic import Field

from services.api.server.routing import Call
from services.api.web.endpoint import Access, Answer, Endpoint, Tag
from services.api.web.responses import Representation, json_response, list_body, with_example
from shared.streams.model_status import ModelStatuses, ModelUse


class Summarizer(Representation):
    """A summarizer, and whether it turns calls away after a run of failures."""

    model_config = with_example(name="summarizer:host-1:7-4711", circuitOpen=False)

    name: str
    circuit_open: bool


class Model(Representation):
    """A language model that summarizers call: what all of them together take, and may.

    A limit that is null is none.
    """

    model_config = with_example(
        provider="groq",
        model="openai/gpt-oss-20b",
        calls=12,
        mostCalls=30,
        tokens=5210,
        mostTokens=8000,
        waiting=0,
        callsToday=480,
        tokensToday=201_730,
        mostSummaries=500,
        pausedFor=None,
        summarizers=[{"name": "summarizer:host-1:7-4711", "circuitOpen": False}],
    )

    provider: str
    model: str
    calls: Annotated[
        int | None,
        Field(description="In the last minute; null: without limits a minute's are not counted"),
    ]
    most_calls: Annotated[int | None, Field(description="A minute")]
    tokens: Annotated[
        int | None,
        Field(description="In the last minute, as reserved where the model did not say; or null"),
    ]
    most_tokens: Annotated[int | None, Field(description="A minute")]
    waiting: Annotated[int, Field(description="Calls that have their place in a minute to come")]
    calls_today: Annotated[int, Field(description="Since midnight (UTC), some seconds late")]
    tokens_today: int
    most_summaries: Annotated[int | None, Field(description="That a user may have written a day")]
    paused_for: Annotated[
        float | None, Field(description="Seconds for which the provider wants no call; null: none")
    ]
    summarizers: list[Summarizer]

    @classmethod
    def of_use(cls, use: ModelUse) -> Self:
        """Return a model with what is taken of it, and the limits of the first summarizer."""
        first = use.statuses[0]
        return cls(
            provider=first.provider,
            model=first.model,
            calls=use.calls,
            most_calls=first.most_calls,
            tokens=use.tokens,
            most_tokens=first.most_tokens,
            waiting=use.waiting,
            calls_today=use.calls_today,
            tokens_today=use.tokens_today,
            most_summaries=first.most_summaries,
            paused_for=None if use.pause is None else round(use.pause.total_seconds(), 3),
            summarizers=[
                Summarizer(name=one.consumer, circuit_open=one.is_circuit_open)
                for one in use.statuses
            ],
        )


class ModelHandlers:
    """Shows the use of language models."""

    def __init__(self, statuses: ModelStatuses) -> None:
        self._statuses = statuses

    @Endpoint(
        "GET",
        "/admin/model",
        id="listModels",
        tag=Tag.ADMINISTRATION,
        summary="See what is taken of the language model",
        explanation="One entry, unless summarizers call several models; none while no summarizer "
        "runs. What they say is up to 20 seconds old.",
        access=Access.OPERATOR,
        answers=(Answer.json(200, list[Model], "The models in use"),),
        problems=("unavailable",),
    )
    async def list_models(self, _call: Call) -> web.StreamResponse:
        """Answer with what summarizers say, and what is taken."""
        return json_response(list_body(map(Model.of_use, await self._statuses.uses())))
