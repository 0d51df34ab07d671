"""The statements of the summary table: PostgreSQL puts shared functions in place of their calls."""

import re
from pathlib import Path

import pytest

import services.summarizer.storage
from shared.storage.pool import Database

STATEMENTS = sorted(Path(services.summarizer.storage.__file__).parent.glob("*.sql"))
CALL = re.compile(r"\b(leads\.)?(summary_input|summary_input_hash|lead_json|iso_time)\(")


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.stem)
async def test_no_call_of_a_shared_function_is_left_in_a_generic_plan(
    database: Database, path: Path
) -> None:
    statement = path.read_text()  # noqa: ASYNC240 (a small file)
    query = f"EXPLAIN (GENERIC_PLAN, VERBOSE) {statement}"
    parameters = [None for _ in set(re.findall(r"\$\d", re.sub(r"--.*", "", statement)))]
    async with database.connection() as connection:
        plan = "\n".join(row[0] for row in await connection.fetch(query, *parameters))
    assert "leads.summary" in plan
    assert not CALL.search(plan)
