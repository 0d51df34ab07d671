"""Joins the parts of the Random User stand-in."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.standins.randomuser.query import FIELDS, Query, read_query
from devstack.standins.randomuser.settings import RandomUserFaults, RandomUserSettings
from devstack.standins.serving import Control, install

if TYPE_CHECKING:
    from devstack.standins.randomuser.people import People

VERSION = "1.4"
FORMATS = {"json", "pretty", "prettyjson"}
_REFUSALS = {
    429: "Too many requests",
    500: (
        "Uh oh, something has gone wrong. Please tweet us @randomapi about the issue. Thank you."
    ),
    503: (
        "Whoa, ease up there cowboy. You've requested 5001 users in the last minute. Help us keep "
        "this service free and spare some bandwidth for other users please :)"
    ),
}

Make = Callable[[Query], list[dict[str, Any]]]


def create_app(settings: RandomUserSettings) -> web.Application:
    """With a users file the file is read here, and an unreadable one raises `OSError`."""
    control = Control(settings.faults)
    source = _MadeUp() if settings.users_file is None else _FromFile(settings.users_file)
    api = _Api(control, source.make)
    app = web.Application()
    for path in ("/api", "/api/", f"/api/{VERSION}", f"/api/{VERSION}/"):
        app.router.add_get(path, api.list_users)
    app.cleanup_ctx.append(api.threads)
    install(app, control, refuse=_refuse)
    return app


class _Api:
    """The handler of `/api`."""

    def __init__(self, control: Control[RandomUserFaults], make: Make) -> None:
        self._control = control
        self._make = make
        # One thread: five thousand people take a while, and the generator has one seed.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="people")

    async def threads(self, _app: web.Application) -> AsyncIterator[None]:
        yield
        self._executor.shutdown(cancel_futures=True)

    async def list_users(self, request: web.Request) -> web.Response:
        if (body := self._control.faults.body) is not None:
            return web.Response(text=body, content_type="application/json")
        wanted_format = request.query.get("format", request.query.get("fmt", "json"))
        if wanted_format.lower() not in FORMATS:
            message = f"This stand-in answers JSON, not {wanted_format}."
            return web.json_response({"error": message}, status=400)
        query = read_query(request.query)
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self._executor, self._answer, query)
        return web.Response(
            text=text, content_type="application/json", headers={"Cache-Control": "no-cache"}
        )

    def _answer(self, query: Query) -> str:
        users = [_only(query.fields, user) for user in self._make(query)]
        answer: dict[str, Any] = {"results": users}
        if query.with_info:
            answer["info"] = {
                "seed": query.reported_seed,
                "results": query.results,
                "page": query.page,
                "version": VERSION,
            }
        return json.dumps(answer, ensure_ascii=False, indent=2 if query.is_pretty else None)


class _MadeUp:
    """Makes people up, from the first request on."""

    def __init__(self) -> None:
        self._people: People | None = None

    def make(self, query: Query) -> list[dict[str, Any]]:
        if self._people is None:
            # Not at the top: mimesis and its names are the slow part of starting.
            from devstack.standins.randomuser.people import People  # noqa: PLC0415  see above

            self._people = People()
        return self._people.make(query)


class _FromFile:
    """Serves the users of a file, page by page; past its end there are none."""

    def __init__(self, path: Path) -> None:
        self._users: list[dict[str, Any]] = json.loads(path.read_text())["results"]

    def make(self, query: Query) -> list[dict[str, Any]]:
        start = (query.page - 1) * query.results
        return self._users[start : start + query.results]


def _only(fields: frozenset[str], user: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in user.items() if name in fields or name not in FIELDS}


def _refuse(status: int) -> web.Response:
    message = _REFUSALS.get(status, f"The request failed with status {status}")
    return web.json_response({"error": message}, status=status)
