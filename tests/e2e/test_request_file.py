"""The requests in `docs/leads.http` are answered, and as the OpenAPI document describes."""

import httpx

from tests.support.contract import check_response
from tests.support.repository import ROOT
from tests.support.request_files import Replay, http_requests
from tests.support.stack import Stack

REQUESTS = list(http_requests((ROOT / "docs/leads.http").read_text()))


async def test_the_requests_succeed_in_their_order(stack: Stack) -> None:
    async with httpx.AsyncClient(
        base_url=stack.url, timeout=30, event_hooks={"response": [check_response]}
    ) as http:
        replay = Replay(http, baseUrl=stack.url, email="walk@example.com")
        answers = [await replay.send(request) for request in REQUESTS]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 201, 200, 200, 201, 200, 200, 200, 202, 202, 200, 200, 200, 204]
