"""From the schema of any earlier version to today's: the same end, and no table is rewritten."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from pydantic import SecretStr

from devstack.servers.postgres import EmbeddedPostgres
from services.api.storage.lead_search import LeadSearch
from shared.settings import PostgresSettings
from shared.storage.lead_export import LeadFilters
from shared.storage.migrations.known import DIRECTORY
from shared.storage.migrations.runner import migrate
from shared.storage.pool import open_database
from tests.support.earlier_schema import EARLIER, earlier_migrations, empty_database

# All of a schema but a function that a later version drops.
_SCHEMA: LiteralString = """
    SELECT format('%s.%s %s %s %s %s %s %s', attrelid::regclass, attname, atttypid::regtype,
                  attnotnull, attidentity, attgenerated, attstattarget,
                  pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = 'leads'::regnamespace AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace = 'leads'::regnamespace
    UNION ALL
    SELECT format('%s %s', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index
    JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = 'leads'::regnamespace
    UNION ALL
    SELECT pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'leads'::regnamespace AND prokind = 'f' AND probin IS NULL
      AND proname <> 'selected_events'
    UNION ALL
    SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1
"""
# A rewritten table has another file.
_FILES: LiteralString = """
    SELECT relname, relfilenode FROM pg_class
    WHERE relnamespace = 'leads'::regnamespace AND relname IN ('lead', 'event', 'summary')
"""
_LEADS: LiteralString = """
    INSERT INTO leads.lead (
        id, first_name, last_name, email, email_key, country, source, created_at, updated_at
    )
    SELECT gen_random_uuid(), 'Ada', name, name, name, 'Ελλάς', 'manual', now(), now()
    FROM unnest(ARRAY['Łuk', 'Müller', 'Smith']) AS name
"""
# What happened, and in which order it was recorded: number 3 before number 2.
HISTORY = [
    ("one", "created", None),
    ("other", "created", None),
    ("one", "updated", 3),
    ("one", "version-mismatch", 1),
    ("other", "deleted", 2),
    ("one", "summarised", 2),
    ("one", "updated", None),
    ("one", "updated", 4),
]
_EVENT: LiteralString = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash, outcome,
        detail, recorded_at
    ) VALUES (
        gen_random_uuid(), 'lead-updated', 'tests', %s, '', '{}', now(), '', '', %s,
        jsonb_strip_nulls(jsonb_build_object('version', %s::int)),
        timestamptz '2026-01-01' + %s * interval '1 s'
    )
"""
_ORDER: LiteralString = """
    SELECT subject, outcome, (detail ->> 'version')::int FROM leads.event ORDER BY position
"""


@pytest.fixture
async def empty(postgres: EmbeddedPostgres) -> AsyncGenerator[str]:
    async with empty_database(postgres, "upgraded") as dsn:
        yield dsn


async def test_earlier_migrations_are_those_that_were_mended() -> None:
    for path in EARLIER.iterdir():
        assert (DIRECTORY / path.name).read_text() != path.read_text()


@pytest.mark.parametrize(
    "last",
    [1, 5, 12, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3, 4, 8, 9, 10, 11, 13, 14))],
)
async def test_every_installation_ends_as_a_new_one(
    last: int, empty: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await _run(empty, earlier_migrations(tmp_path / "earlier", last=last))
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(_LEADS)
        for place, (subject, outcome, version) in enumerate(HISTORY):
            connection.execute(_EVENT, (subject, outcome, version, place))
        files = connection.execute(_FILES).fetchall()
        assert await _run(empty) == [name for name in _names() if int(name[:4]) > last]
        assert set(files) <= set(connection.execute(_FILES).fetchall())

        connection.execute(_EVENT, ("one", "updated", 5, -1))
        history = list(HISTORY)
        history[2], history[5] = history[5], history[2]
        if last < 12:
            expected = [*history, ("one", "updated", 5)]
            assert connection.execute(_ORDER).fetchall() == expected
        with psycopg.connect(postgres.dsn) as new:
            assert connection.execute(_SCHEMA).fetchall() == new.execute(_SCHEMA).fetchall()
    assert await _found(empty, "luk") == await _found(empty, "muller") == 1
    assert await _found(empty, "ελλασ") == 3


async def test_the_generated_column_of_before_rewrites_the_table(
    empty: str, tmp_path: Path
) -> None:
    await _run(empty, earlier_migrations(tmp_path / "4", last=4))
    with psycopg.connect(empty, autocommit=True) as connection:
        files = connection.execute(_FILES).fetchall()
        await _run(empty, earlier_migrations(tmp_path / "5", last=5))
        assert not set(files) <= set(connection.execute(_FILES).fetchall())


async def test_rollbacks_lead_back_to_nothing_and_all_can_be_applied_again(
    empty: str, postgres: EmbeddedPostgres
) -> None:
    await _run(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(_LEADS)
        for name in reversed(_names()[1:]):
            connection.execute((DIRECTORY / f"{name}.rollback.sql").read_bytes())
        connection.execute("DELETE FROM leads._yoyo_migration WHERE migration_id > '0002'")
        await _run(empty)
        with psycopg.connect(postgres.dsn) as new:
            assert connection.execute(_SCHEMA).fetchall() == new.execute(_SCHEMA).fetchall()
    assert await _found(empty, "luk") == 1


def _names() -> list[str]:
    paths = sorted(DIRECTORY.glob("*.sql"))
    return [path.stem for path in paths if not path.name.endswith(".rollback.sql")]


async def _run(dsn: str, directory: Path = DIRECTORY) -> list[str]:
    return await asyncio.to_thread(migrate, dsn, directory=directory)


async def _found(dsn: str, word: str) -> int:
    settings = PostgresSettings(supabase_connection_string=SecretStr(dsn))
    async with open_database(settings) as database:
        page = await LeadSearch(database).page(limit=9, filters=LeadFilters(words=(word,)))
    return len(page.rows)
