"""`/admin/dead-letters`, for operators: what could not be done, and another chance for it."""

from dataclasses import asdict
from typing import Any

from aiohttp import web

from services.api.handlers.admin_schemas import LARGEST_ID, LetterConditions, LetterListQuery
from services.api.handlers.replay_runner import ACTOR
from services.api.server.routing import Call
from services.api.web.paging import page_response
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import parse_query
from services.api.web.responses import empty_response, json_body, json_response, json_value
from shared.administration.dead_letters import DeadLetters
from shared.storage.admin_log import AdminLog
from shared.storage.dead_letters import KeptLetter, LetterSelection


class DeadLetterHandlers:
    """Lists, shows, retries and discards dead letters; the last two are recorded."""

    def __init__(self, dead_letters: DeadLetters, actions: AdminLog) -> None:
        self._dead_letters = dead_letters
        self._letters = dead_letters.letters
        self._actions = actions

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /admin/dead-letters: newest first, without the events themselves."""
        query = parse_query(LetterListQuery, call.request.query)
        letters = await self._letters.page(
            query.selection, limit=query.limit + 1, before=query.before
        )
        return page_response(
            call.request,
            [json_body(_told(kept)) for kept in letters],
            limit=query.limit,
            cursor=str(letters[: query.limit][-1].id) if letters else None,
        )

    async def count(self, call: Call) -> web.StreamResponse:
        """GET /admin/dead-letters/counts: by group, type and reason."""
        query = parse_query(LetterConditions, call.request.query)
        counts = await self._letters.counts(query.selection)
        return json_response(json_body(counts))

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /admin/dead-letters/{id}: with the whole event."""
        kept = await self._find(call)
        return json_response(json_body({**_told(kept), "fields": kept.letter.fields}))

    async def retry(self, call: Call) -> web.StreamResponse:
        """POST /admin/dead-letters/{id}/retry."""
        kept = await self._find(call)
        return await self._retry(LetterSelection(ids=(kept.id,)))

    async def retry_many(self, call: Call) -> web.StreamResponse:
        """POST /admin/dead-letters/retry: all that meet the conditions."""
        return await self._retry(_conditions(call))

    async def discard(self, call: Call) -> web.StreamResponse:
        """DELETE /admin/dead-letters/{id}."""
        kept = await self._find(call)
        await self._discard(LetterSelection(ids=(kept.id,)))
        return empty_response(204, headers={})

    async def discard_many(self, call: Call) -> web.StreamResponse:
        """DELETE /admin/dead-letters: all that meet the conditions."""
        discarded = await self._discard(_conditions(call))
        return json_response(json_body({"discarded": discarded}))

    async def _find(self, call: Call) -> KeptLetter:
        text = call.param
        if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_ID)):
            number = min(int(text), LARGEST_ID)
            for kept in await self._letters.page(LetterSelection(ids=(number,)), limit=1):
                return kept
        raise Problem("dead-letter-not-found", "There is no dead letter with this number")

    async def _retry(self, selection: LetterSelection) -> web.StreamResponse:
        async with self._actions.recording(
            "dead-letters retry", actor=ACTOR, detail=_detail(selection)
        ) as recording:
            report = await self._dead_letters.retry(selection)
            recording.affected = report.retried
        return json_response(json_body(report))

    async def _discard(self, selection: LetterSelection) -> int:
        async with self._actions.recording(
            "dead-letters discard", actor=ACTOR, detail=_detail(selection)
        ) as recording:
            recording.affected = await self._dead_letters.discard(selection)
        return recording.affected


def _conditions(call: Call) -> LetterSelection:
    selection = parse_query(LetterConditions, call.request.query).selection
    if selection == LetterSelection():
        raise validation_problem({"reason": "Say which: by reason, group, type or eventId"})
    return selection


def _told(kept: KeptLetter) -> dict[str, Any]:
    letter: dict[str, Any] = json_value(kept.letter)
    del letter["fields"]
    return {"id": kept.id, "deadAt": kept.dead_at, **letter}


def _detail(selection: LetterSelection) -> dict[str, Any]:
    return {name: value for name, value in asdict(selection).items() if value}
