"""`/admin/replays`, for operators: past events put back for one consumer group."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from services.api.handlers.admin_schemas import ReplayInput
from services.api.handlers.replay_runner import ReplayRunner
from services.api.server.routing import Call
from services.api.web.body import read_json_object
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import canonical_id
from services.api.web.responses import json_body, json_response, json_value
from services.api.web.validation import parse
from shared.administration.replays import Replays
from shared.domain.errors import PermanentError
from shared.events.replay import ReplayOrder
from shared.streams.replays.jobs import ReplayProgress, ReplayState
from shared.streams.replays.tally import ReplayResult

# The part of an order that each code of a refusal is about.
WRONG_PARTS = {"unknown-group": "group", "unknown-type": "types"}


class ReplayHandlers:
    """Orders replays and tells how far they have come."""

    def __init__(self, replays: Replays, runner: ReplayRunner, *, body_timeout: timedelta) -> None:
        self._replays = replays
        self._jobs = replays.jobs
        self._runner = runner
        self._body_timeout = body_timeout

    async def order(self, call: Call) -> web.StreamResponse:
        """POST /admin/replays: 200 with the plan of a dry run, else 202 once it has begun."""
        wanted = parse(ReplayInput, await read_json_object(call.request, within=self._body_timeout))
        order = await self._bounded(wanted.order())
        if wanted.dry_run:
            return json_response(json_body(await self._replays.plan(order)))
        await self._jobs.save(order)
        return await self._begin(order)

    async def list(self, _call: Call) -> web.StreamResponse:
        """GET /admin/replays: the latest, newest first."""
        orders = await self._jobs.recent()
        told = [_told(order, await self._jobs.progress(order.id)) for order in orders]
        return json_response(json_body(told))

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /admin/replays/{id}."""
        order = await self._find(call)
        return json_response(json_body(_told(order, await self._jobs.progress(order.id))))

    async def resume(self, call: Call) -> web.StreamResponse:
        """POST /admin/replays/{id}/resume: goes on with one that was cut short."""
        return await self._begin(await self._find(call))

    async def _begin(self, order: ReplayOrder) -> web.StreamResponse:
        progress = await self._jobs.progress(order.id)
        if progress.state is not ReplayState.FINISHED:
            await self._runner.start(order)
        headers = {"Location": f"/admin/replays/{order.id}"}
        return json_response(json_body(_told(order, progress)), status=202, headers=headers)

    async def _bounded(self, order: ReplayOrder) -> ReplayOrder:
        try:
            return await self._replays.bounded(order)
        except PermanentError as error:
            raise validation_problem({WRONG_PARTS[error.code]: str(error)}) from error

    async def _find(self, call: Call) -> ReplayOrder:
        order = await self._jobs.find_order(canonical_id(call.param, missing="replay-not-found"))
        if order is None:
            raise Problem("replay-not-found", "There is no replay with this id, or not any more")
        return order


def _told(order: ReplayOrder, progress: ReplayProgress) -> dict[str, Any]:
    said: dict[str, Any] = json_value(order)
    del said["recordedBefore"]
    return {
        **{name: value for name, value in said.items() if name != "selection"},
        **said["selection"],
        "state": progress.state,
        "examined": progress.examined,
        "added": progress.added,
        "applied": progress.results.get(ReplayResult.APPLIED, 0),
        "alreadyApplied": progress.results.get(ReplayResult.ALREADY_APPLIED, 0),
        "dead": progress.results.get(ReplayResult.DEAD, 0),
        "outstanding": progress.outstanding,
    }
