"""`--json` prints one line of JSON, whatever the command and whether there is anything to show."""

from pathlib import Path

import orjson
import pytest

from shared.events.data import LeadCreated
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from tests.integration.ops.conftest import Ops
from tests.support.builders import lead_created, letter_of


@pytest.mark.parametrize(
    "arguments",
    [
        "dead-letters show 1",
        "dead-letters list",
        "dead-letters list --summary",
        "dead-letters retry 1 --yes",
        "dead-letters discard 1 --yes",
        "doctor",
        "events",
        "export events --output {}/events",
        "export leads --format csv --output {}/leads",
        "log",
        "migrate",
        "replays",
        "streams",
        "summaries backfill --dry-run",
    ],
)
async def test_is_one_line(arguments: str, ops: Ops, database: Database, tmp_path: Path) -> None:
    event = lead_created()
    assert isinstance(event.data, LeadCreated)
    await DeadLetterRepository(database).add_letter(letter_of(event))
    ended = await ops(*arguments.format(tmp_path).split(), "--json")
    # What is exported may go to standard output.
    lines = (ended.stderr if arguments.startswith("export") else ended.stdout).splitlines()
    assert (ended.code in {0, 1}, len(lines)) == (True, 1), ended
    assert isinstance(orjson.loads(lines[0]), dict | list)
