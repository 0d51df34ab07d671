"""Pages of leads: every order, every filter, the search, and what concurrent inserts do to them."""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.storage.lead_search import LeadSearch, LeadSort
from services.api.storage.pages import Page, Position
from shared.events.envelope import new_id
from shared.storage.lead_export import LeadFilters
from shared.storage.migrations.known import DIRECTORY
from shared.storage.pool import Database
from tests.support.earlier_schema import apply_again
from tests.support.lead_table import insert_lead

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


# The keys of some leads, in the order in which these are given.
_KEY = """
    SELECT {key} AS key, id FROM unnest($1::uuid[]) WITH ORDINALITY AS given (id, number)
    JOIN leads.lead USING (id) ORDER BY number
"""
_KEYS = {
    "createdAt": _KEY.format(key="created_at"),
    "updatedAt": _KEY.format(key="updated_at"),
    "lastName": _KEY.format(key="leads.folded(last_name)"),
}

_PLACES = "SELECT id, version, updated_at, ctid FROM leads.lead ORDER BY id"
_OTHERWISE = """
    SELECT letter, leads.folded(leads.unaccent(letter)) AS plain
    FROM unnest($1::text[], $2::text[]) AS given (letter, folded)
    WHERE leads.folded(letter) NOT IN (leads.folded(leads.unaccent(letter)))
       OR leads.folded(letter) <> leads.folded(folded)
"""


_NOT_FILLED = """
    ALTER TABLE leads.lead ALTER COLUMN search_text DROP NOT NULL;
    ALTER TABLE leads.lead DISABLE TRIGGER set_search_text;
"""
_FILLED = """
    UPDATE leads.lead
    SET search_text = leads.search_text(first_name, last_name, email, city, country);
    ALTER TABLE leads.lead ALTER COLUMN search_text SET NOT NULL;
"""


def named(letter: str) -> str:
    """Return a letter's name; that of its decomposition is in it for those of Greek."""
    return unicodedata.name(letter, "") + "".join(
        unicodedata.name(part, "") for part in unicodedata.normalize("NFKD", letter)
    )


def ids(page: Page) -> list[UUID]:
    return [UUID(orjson.loads(lead)["id"]) for lead in page.rows]


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
    seen: list[UUID] = []
    ends: list[tuple[Any, UUID]] = []
    after: Position | None = None
    while True:
        page = await leads.page(limit=limit, sort=sort, filters=filters, after=after)
        seen += ids(page)
        after = page.next_after
        if after is None:
            assert len(page.rows) <= limit
            break
        assert len(page.rows) == limit
        assert after.id == seen[-1]
        ends.append((after.key, after.id))
        if arriving:
            await insert_lead(database, **arriving.pop())
    assert len(set(seen)) == len(seen)
    assert present <= set(seen)
    assert ends == sorted(set(ends), reverse=sort.startswith("-"))
    async with database.connection() as connection:
        rows = await connection.fetch(_KEYS[sort.removeprefix("-")], seen)
    keys = [(row["key"], row["id"]) for row in rows]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


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
            LeadFilters(country="\uff33\uff41\uff4f Tome"),
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
        assert await leads.page(limit=9, filters=filters) == Page([], None)
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

    @pytest.mark.parametrize(
        ("stored", "asked"),
        [
            ("Łódź", "lodz"),
            ("λόγος", "ΛΟΓΟΣ"),
            ("ΠΑΠΑΔΌΠΟΥΛΟΣ", "παπαδόπουλος"),
            ("Weißstraße", "WEISSSTRASSE"),
            ("WEIẞ", "weiss"),
            ("Irmak", "\u0131rmak"),
            ("İstanbul", "istanbul"),
            ("\uff21\uff44\uff41", "ada"),
            ("\ufb01nch", "Finch"),
            ("Ærøskøbing", "aeroskobing"),
            ("Þórðarson", "thordarson"),
            ("Đorđević", "dordevic"),
            ("O\u2019Brien", "o'brien"),
            ("Mäkelä\u2013Virtanen", "makela-virtanen"),
            ("ЖУКОВ", "жуков"),
            ("Għarb", "gharb"),
        ],
    )
    async def test_a_word_is_found_by_another_spelling(
        self, stored: str, asked: str, database: Database
    ) -> None:
        for one, other in ((stored, asked), (asked, stored)):
            lead = await insert_lead(database, last_name=one, country=one)
            assert lead in await search(database, other)
            found = await LeadSearch(database).page(limit=9, filters=LeadFilters(country=other))
            assert lead in ids(found)

    async def test_letters_are_folded_as_unicode_and_unaccent_do(self, database: Database) -> None:
        letters = [
            letter
            for letter in map(chr, range(0x80, 0x3000))
            if unicodedata.category(letter)[0] == "L" and "YPOGEGRAMMENI" not in named(letter)
        ]
        folded = [letter.casefold() for letter in letters]
        async with database.connection() as connection:
            await connection.execute("CREATE EXTENSION unaccent SCHEMA leads")
            rows = await connection.fetch(_OTHERWISE, letters, folded)
        # What remains stands for two letters: signs of phonetics and of the Middle Ages.
        one_letter = {row["letter"] for row in rows if len(row["plain"]) == 1}
        assert {letter for letter in one_letter if named(letter).startswith("LATIN")} == set(
            "\u013f\u0140\u1e9a"
        )
        assert len(rows) < 40

    async def test_a_search_goes_by_the_index(self, database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL enable_seqscan = off")
            await connection.execute("SET LOCAL enable_indexscan = off")
            plan = await connection.fetch(
                "EXPLAIN SELECT 1 FROM leads.lead WHERE search_text LIKE leads.folded('%Grâce%')"
            )
        assert "lead_search_trigrams" in str(plan)


class TestDuringAnUpgrade:
    """Leads from before, before and after their text is filled."""

    async def test_leads_without_a_text_are_found_all_the_same(self, database: Database) -> None:
        async with database.connection() as connection:
            await connection.execute(_NOT_FILLED)
        leads = [
            await insert_lead(database, last_name="Łuk", country="Ελλάς", email="a@example.com"),
            await insert_lead(database, last_name="Müller", country=None, city="Łódź"),
        ]
        for text, found in (("luk", leads[:1]), ("lodz mul", leads[1:]), ("example", leads)):
            assert await search(database, text) == set(found)
        # A search that has begun before the text is filled goes by its index afterwards.
        searching = LeadSearch(database)
        for fill in ("SELECT 1", _FILLED):
            async with database.connection() as connection:
                await connection.execute(fill)
            page = await searching.page(limit=9, filters=LeadFilters(words=("luk",)))
            assert ids(page) == leads[:1]

    async def test_only_what_is_folded_otherwise_is_written(
        self, database: Database, postgres_dsn: str
    ) -> None:
        leads = [
            await insert_lead(database, last_name="Łuk", country="Ελλάς", email="a@example.com"),
            await insert_lead(database, last_name="Müller", country="Österreich"),
        ]
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE leads.lead SET search_text = ' from before' WHERE id = $1", leads[0]
            )
            before = await connection.fetch(_PLACES)
            await apply_again(postgres_dsn, "0016")
            after = await connection.fetch(_PLACES)
        assert [one["id"] for one, other in zip(before, after, strict=True) if one != other] == [
            leads[0]
        ]
        assert await search(database, "luk") == {leads[0]}

    async def test_it_goes_by_indexes_of_what_is_folded(self, database: Database) -> None:
        async with database.connection() as connection:
            await connection.execute("SET enable_seqscan = off")
            for condition, index in (
                ("leads.folded(country) = leads.folded('ΕΛΛΑΣ')", "lead_country"),
                ("leads.folded(last_name) > 'luk'", "lead_last_name"),
            ):
                plan = await connection.fetch(f"EXPLAIN SELECT FROM leads.lead WHERE {condition}")
                assert index in str(plan)
            await connection.execute("RESET enable_seqscan")


class TestWithoutTrigrams:
    """Where the extension cannot be had: an account that may not create it."""

    @pytest.fixture(autouse=True)
    async def migrated_without(self, database: Database, postgres_dsn: str) -> None:
        extension = (DIRECTORY / "0005.create-search.sql").read_text().partition("DO $$")[2]
        async with database.connection() as connection:
            await connection.execute("DROP INDEX leads.lead_search_trigrams")
            await connection.execute("DROP EXTENSION pg_trgm")
            owner = "nobody_special"
            await connection.execute(
                f"""
                DO $$ BEGIN CREATE ROLE {owner}; EXCEPTION WHEN duplicate_object THEN END $$;
                SET ROLE {owner};
                """
            )
            await connection.execute(f"DO $$ {extension}")
            await connection.execute("RESET ROLE")
        await apply_again(postgres_dsn, "0018")

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
