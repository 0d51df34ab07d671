"""Pages of leads: every order, every filter, the search, and what concurrent inserts do to them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.storage.lead_search import LeadSearch, LeadSort
from services.api.storage.pages import PageRow, Position
from shared.events.envelope import new_id
from shared.storage.lead_export import LeadFilters
from shared.storage.pool import Database
from tests.support.lead_table import insert_lead
from tests.support.repository import ROOT

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ADA_KEY = "ada@example.com"

# Few values, so that there are many equals for the ids to decide between.
ROWS = st.fixed_dictionaries(
    {
        "created_at": st.integers(0, 3).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        "updated_at": st.integers(0, 3).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        "last_name": st.sampled_from(["Ångström", "angstrom", "Zuse", "de Vries", "李"]),
    }
)


def ids(page: Sequence[PageRow]) -> list[UUID]:
    return [lead.position.id for lead in page]


async def search(database: Database, text: str) -> set[UUID]:
    page = await LeadSearch(database).page(
        limit=500, filters=LeadFilters(words=tuple(text.split()))
    )
    return set(ids(page))


@given(
    there=st.lists(ROWS, max_size=12),
    arriving=st.lists(ROWS, max_size=6),
    limit=st.integers(1, 5),
    sort=st.sampled_from(LeadSort),
    filters=st.sampled_from([LeadFilters(), LeadFilters(status="new")]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_a_walk_finds_every_lead_that_was_there_throughout_once(
    database: Database,
    there: list[dict[str, Any]],
    arriving: list[dict[str, Any]],
    limit: int,
    sort: LeadSort,
    filters: LeadFilters,
) -> None:
    async with database.connection() as connection:
        await connection.execute("TRUNCATE leads.lead CASCADE")
    present = {await insert_lead(database, **row) for row in there}
    leads = LeadSearch(database)
    seen: list[PageRow] = []
    after: Position | None = None
    while page := await leads.page(limit=limit, sort=sort, filters=filters, after=after):
        assert page[-1].position != after
        seen += page
        after = page[-1].position
        if arriving:
            await insert_lead(database, **arriving.pop())
    assert len(set(ids(seen))) == len(seen)
    assert present <= set(ids(seen))
    places = [(lead.position.key, lead.position.id) for lead in seen]
    assert places == sorted(places, reverse=sort.startswith("-"))


class TestFilters:
    @pytest.fixture
    async def ada(self, database: Database) -> UUID:
        """Return one lead out of two that have nothing in common."""
        await insert_lead(
            database,
            email="other@example.com",
            country="France",
            city="Paris",
            status="converted",
            source="import",
            summary="A summary.",
            created_at=NOON - timedelta(days=2),
            updated_at=NOON - timedelta(days=1),
        )
        return await insert_lead(
            database,
            email="Ada@Example.com",
            external_id=UUID(int=7),
            country="São Tomé",
            created_at=NOON,
            updated_at=NOON + timedelta(days=1),
        )

    @pytest.mark.parametrize(
        "filters",
        [
            LeadFilters(email_key=ADA_KEY),
            LeadFilters(external_id=UUID(int=7)),
            LeadFilters(status="new"),
            LeadFilters(source="manual"),
            LeadFilters(country="SAO TOMÉ"),
            LeadFilters(created_after=NOON),
            LeadFilters(created_after=NOON, created_before=NOON + timedelta(milliseconds=1)),
            LeadFilters(updated_after=NOON, updated_before=NOON + timedelta(days=2)),
            LeadFilters(has_summary=False),
            LeadFilters(words=("london",)),
            LeadFilters(email_key=ADA_KEY, status="new", country="são tome", words=("ada",)),
        ],
    )
    async def test_each_leaves_what_it_names(
        self, filters: LeadFilters, ada: UUID, database: Database
    ) -> None:
        leads = LeadSearch(database)
        for sort in LeadSort:
            assert ids(await leads.page(limit=9, sort=sort, filters=filters)) == [ada]
        assert await leads.count(filters) == 1
        assert await leads.count() == 2

    @pytest.mark.parametrize(
        "filters",
        [
            LeadFilters(email_key=ADA_KEY, status="converted"),
            LeadFilters(created_before=NOON - timedelta(days=2)),
            LeadFilters(created_after=NOON + timedelta(milliseconds=1)),
            LeadFilters(external_id=new_id()),
            LeadFilters(country="São"),
            LeadFilters(words=("london", "paris")),
        ],
    )
    async def test_together_they_may_leave_nothing(
        self, filters: LeadFilters, ada: UUID, database: Database
    ) -> None:
        assert ada
        leads = LeadSearch(database)
        assert await leads.page(limit=9, filters=filters) == []
        assert await leads.count(filters) == 0


class TestSearch:
    @pytest.fixture
    async def grace(self, database: Database) -> UUID:
        await insert_lead(database, first_name="Other", last_name="Person", city="Oslo")
        return await insert_lead(
            database,
            first_name="Grâce",
            last_name="O'Höpper_100%",
            email="admiral@navy.example.com",
            city="New York",
            country="Сполучені Штати",
        )

    @pytest.mark.parametrize(
        "text",
        [
            *("grace", "GRÂCE", "Gra", "rac", "hopper", "o'hop", "o'h", "_100%", "admiral@navy"),
            *("navy.example", "york new grace", "gr", "Y", "СПОЛУЧЕНІ", "штат", "grace ny york"),
        ],
    )
    async def test_words_are_found(self, text: str, grace: UUID, database: Database) -> None:
        expected = set[UUID]() if text == "grace ny york" else {grace}
        assert await search(database, text) == expected

    @pytest.mark.parametrize(
        "text", ["gr_ce", "hop%100", "rk", "graceo", "grace oslo", "\\", "%%%", "h%r", "___"]
    )
    async def test_nothing_in_a_word_has_a_meaning_of_its_own(
        self, text: str, grace: UUID, database: Database
    ) -> None:
        assert grace not in await search(database, text)

    async def test_a_search_goes_by_the_index(self, database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL enable_seqscan = off")
            await connection.execute("SET LOCAL enable_indexscan = off")
            plan = await connection.fetch(
                "EXPLAIN SELECT 1 FROM leads.lead WHERE search_text LIKE leads.folded('%Grâce%')"
            )
        assert "lead_search_trigrams" in str(plan)


class TestWithoutTrigrams:
    """Where the extension cannot be had: an account that may not create it."""

    @pytest.fixture(autouse=True)
    async def migrated_without(self, database: Database) -> None:
        migrations = ROOT / "migrations"
        async with database.connection() as connection:
            await connection.execute((migrations / "0005.create-search.rollback.sql").read_text())
            await connection.execute("DROP EXTENSION pg_trgm")
            owner = "nobody_special"
            await connection.execute(
                f"""
                DO $$ BEGIN CREATE ROLE {owner}; EXCEPTION WHEN duplicate_object THEN END $$;
                ALTER SCHEMA leads OWNER TO {owner};
                ALTER TABLE leads.lead OWNER TO {owner};
                ALTER TABLE leads.event OWNER TO {owner};
                SET ROLE {owner};
                """
            )
            await connection.execute((migrations / "0005.create-search.sql").read_text())
            await connection.execute("RESET ROLE")

    @pytest.fixture
    async def grace(self, database: Database) -> UUID:
        await insert_lead(database, first_name="Other", last_name="Person", city="Oslo")
        return await insert_lead(
            database, first_name="Grâce", last_name="O'Höpper", email="admiral@navy.example.com"
        )

    @pytest.mark.parametrize(
        "text", ["grace", "GRÂ", "hop", "o'hop", "admiral@nav", "navy", "lond gr", "admiral & navy"]
    )
    async def test_beginnings_of_words_are_found(
        self, text: str, grace: UUID, database: Database
    ) -> None:
        assert await search(database, text) == {grace}

    @pytest.mark.parametrize("text", ["race", "opper", "grace oslo", "' | !", "xyz:*"])
    async def test_and_nothing_else(self, text: str, grace: UUID, database: Database) -> None:
        assert grace not in await search(database, text)

    async def test_a_search_goes_by_the_index(self, database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL enable_seqscan = off")
            plan = await connection.fetch(
                "EXPLAIN SELECT 1 FROM leads.lead WHERE to_tsvector('simple'::regconfig,"
                " regexp_replace(search_text, '[^[:alnum:]]+', ' ', 'g'))"
                " @@ to_tsquery('simple'::regconfig, 'grace:*')"
            )
        assert "lead_search_words" in str(plan)
