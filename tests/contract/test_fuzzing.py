"""Requests made up from the OpenAPI document, right ones and wrong ones, singly and in sequences.

`FULL=1` sends up to 2,000 for each operation, else a few; `EVERY_VALUE=1` adds the borders of each
parameter, one by one.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.api.documents import openapi_json
from tests.support.repository import ROOT
from tests.support.stack import Stack

FULL = os.environ.get("FULL") == "1"
EXAMPLES = 2_000 if FULL else 3
EVERY_VALUE = FULL or os.environ.get("EVERY_VALUE") == "1"
PHASES = "examples,coverage,fuzzing,stateful" if EVERY_VALUE else "examples,fuzzing,stateful"
DEADLINE = timedelta(hours=2) if FULL else timedelta(seconds=110)  # a busy machine
LOG_OUT = "logOut"


def endless_operations() -> Iterator[str]:
    """Yield the operations whose answer is a stream without an end."""
    for item in json.loads(openapi_json())["paths"].values():
        for operation in item.values():
            answer = operation["responses"].get("200", {})
            if answer.get("content", {}).keys() == {"text/event-stream"}:
                yield operation["operationId"]


def all_but(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--exclude-operation-id", name)]


# A log-out would end the session in which all others are tried.
SELECTIONS: dict[str, Callable[[], list[str]]] = {
    "everything": lambda: [*all_but(LOG_OUT, *endless_operations()), "--phases", PHASES],
    "log-out": lambda: ["--include-operation-id", LOG_OUT, "--phases", "examples,coverage,fuzzing"],
}


@pytest.mark.long
@pytest.mark.parametrize("selection", SELECTIONS)
async def test_made_up_requests_are_answered_as_described(
    selection: str, stack: Stack, token: str, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", ROOT / "tests/contract/schemathesis.toml"),
        *("run", f"{stack.url}/openapi.json", "--max-examples", str(EXAMPLES)),
        *("--header", f"Authorization: Bearer {token}"),
        *("--header", f"X-API-Key: {stack.environment['API_KEY']}"),
        *("--request-timeout", "10", "--continue-on-failure"),
        *(() if FULL else ("--seed", "1")),
        *SELECTIONS[selection](),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.contract.hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    report = output.decode()
    assert process.returncode == 0, report
    assert "Test cases:" in report, report
