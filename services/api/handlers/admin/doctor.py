"""`/admin/doctor`, for operators: what is wrong with what the system stands on, and what to do."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from services.api.server.routing import Call
from services.api.web.endpoint import Access, Answer, Endpoint, Tag
from services.api.web.responses import Representation, json_response, list_body, with_example
from shared.administration.doctor.diagnosis import Severity
from shared.administration.doctor.examination import Doctor


class Finding(Representation):
    """One thing that was looked at: how it is, and what to do unless that is nothing."""

    model_config = with_example(
        check="redis eviction",
        severity="failure",
        detail="allkeys-lru",
        advice="CONFIG SET maxmemory-policy noeviction: evicting drops whole streams with their "
        "groups. A cache that evicts belongs on another server (CACHE_REDIS_URL).",
    )

    check: Annotated[str, Field(description="What was looked at")]
    severity: Severity
    detail: Annotated[str, Field(description="What was found")]
    advice: Annotated[str | None, Field(description="What to do; null: nothing")]


class DoctorHandlers:
    """Has everything examined."""

    def __init__(self, doctor: Doctor) -> None:
        self._doctor = doctor

    @Endpoint(
        "GET",
        "/admin/doctor",
        id="examine",
        tag=Tag.ADMINISTRATION,
        summary="Check everything the system stands on, and say what to do",
        explanation="As `ops doctor`, from where the API is. Takes some seconds: each check may "
        "take 3, and one that hangs has failed. Whoever asks meanwhile gets the same findings.",
        access=Access.OPERATOR,
        answers=(Answer.json(200, list[Finding], "What was found, the good with the bad"),),
    )
    async def examine(self, _call: Call) -> web.StreamResponse:
        """Answer with all findings: servers that are away are findings, too."""
        return json_response(list_body(map(Finding.of, await self._doctor.examine())))
