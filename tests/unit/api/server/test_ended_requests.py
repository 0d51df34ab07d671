"""What the log says of requests that end: those of one turn of the event loop together."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.api.server.gateway import EndedRequests


@pytest.mark.parametrize("number", [1, 2, 50])
async def test_requests_of_one_turn_are_logged_together_each_with_its_ids(number: int) -> None:
    ended = EndedRequests()
    with capture_logs() as logs:
        for turn in range(2):
            for one in range(number):
                ended.add({"status": 200 + turn}, {"request_id": str(one)})
            assert len(logs) == turn
            await asyncio.sleep(0)
    assert [line["event"] for line in logs] == ["request.ended"] * 2
    for turn, line in enumerate(logs):
        assert line["each"] == [
            {"request_id": str(one), "status": 200 + turn} for one in range(number)
        ]
