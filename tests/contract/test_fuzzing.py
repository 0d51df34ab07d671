"""Requests made up from the OpenAPI document, right ones and wrong ones, singly and in sequences.

`FULL=1` sends 2,000 for each operation, else a few.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from services.api.documents import openapi_json
from tests.support.repository import ROOT
from tests.support.stack import Stack

FULL = os.environ.get("FULL") == "1"
EXAMPLES = 2_000 if FULL else 5
SECONDS = 3_600 if FULL else 100  # a busy machine


def endless_operations() -> Iterator[str]:
    """Yield the operations whose answer is a stream without an end."""
    for item in json.loads(openapi_json())["paths"].values():
        for operation in item.values():
            answer = operation["responses"].get("200", {})
            if answer.get("content", {}).keys() == {"text/event-stream"}:
                yield operation["operationId"]


async def test_made_up_requests_are_answered_as_described(
    stack: Stack, token: str, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", ROOT / "tests/contract/schemathesis.toml"),
        *("run", f"{stack.url}/openapi.json", "--checks", "all", "--max-examples", str(EXAMPLES)),
        *("--header", f"Authorization: Bearer {token}", "--request-timeout", "10"),
        *(() if FULL else ("--seed", "1")),
    ]
    for name in endless_operations():
        command += ["--exclude-operation-id", name]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.contract.hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, output.decode()
    assert b"Stateful" in output
