"""Whatever happens to leads, in any order, they are what a plain model of them says."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.events.envelope import Event, new_id
from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database
from tests.integration.syncer.conftest import Handlers, leads_table, lose_leads, rows
from tests.support.builders import (
    lead_created,
    lead_deleted,
    lead_fields,
    lead_updated,
    lead_upserted,
)

EXAMPLES = 30
LONGEST = 14
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

# Few of each, so that they meet.
external_ids = st.sampled_from([UUID(int=number) for number in range(1, 3)])
emails = st.sampled_from(["a@example.com", "b@example.com", "c@example.com"])
cities = st.sampled_from(["Rome", "Oslo"])
authors = st.sampled_from(["manual", "randomuser"])
places = st.integers(0, LONGEST)

CREATE = st.tuples(st.just("create"), authors, st.none() | external_ids, emails)
UPDATE = st.tuples(
    st.just("update"),
    places,
    st.fixed_dictionaries(
        {},
        optional={
            "city": cities | st.none(),
            "email": emails,
            "external_id": external_ids | st.none(),
        },
    ),
    st.none() | st.integers(1, 3),
)
UPSERT = st.tuples(
    st.just("upsert"),
    authors,
    external_ids,
    emails,
    st.fixed_dictionaries({}, optional={"city": cities | st.none()}),
)
DELETE = st.tuples(st.just("delete"), places)
AGAIN = st.tuples(st.sampled_from(["replay", "repeat"]), places)
Command = tuple[Any, ...]
COMMANDS: st.SearchStrategy[list[Command]] = st.lists(
    CREATE | CREATE | UPDATE | UPDATE | UPSERT | DELETE | AGAIN, max_size=LONGEST
)

Row = dict[str, Any]


@dataclass
class Model:
    """Leads as they should be, and who must not come back."""

    leads: dict[UUID, Row] = field(default_factory=dict[UUID, Row])
    barred: dict[str, set[Any]] = field(
        default_factory=lambda: {"external_id": set(), "email": set()}
    )

    def create(self, event: Event, author: str, row: Row) -> OutcomeStatus:
        if self._taken(row):
            return OutcomeStatus.DUPLICATE
        if author == "manual":
            for key, values in self.barred.items():
                values.discard(row[key])
        elif any(row[key] in values for key, values in self.barred.items()):
            return OutcomeStatus.ERASED
        made = {"city": None, "source": author, "version": 1, "written_by": event.id}
        self.leads[event.data.lead_id] = made | row | {"edited_fields": []}  # type: ignore[attr-defined]  # a creation's
        return OutcomeStatus.CREATED

    def change(
        self, event: Event, lead_id: UUID, changes: Row, *, by_person: bool = True
    ) -> OutcomeStatus:
        lead = self.leads[lead_id]
        new = {
            name: value
            for name, value in changes.items()
            if lead[name] != value and (by_person or name not in lead["edited_fields"])
        }
        if self._taken(new, but=lead_id):
            return OutcomeStatus.DUPLICATE
        if new:
            edited = {*lead["edited_fields"], *(new if by_person else ())}
            lead |= new | {
                "version": lead["version"] + 1,
                "written_by": event.id,
                "edited_fields": sorted(edited),
            }
        return OutcomeStatus.UPDATED

    def update(
        self, event: Event, lead_id: UUID, changes: Row, version: int | None
    ) -> OutcomeStatus:
        if lead_id not in self.leads:
            return OutcomeStatus.NOT_FOUND
        if version not in {None, self.leads[lead_id]["version"]}:
            return OutcomeStatus.VERSION_MISMATCH
        return self.change(event, lead_id, changes)

    def upsert(self, event: Event, author: str, row: Row) -> OutcomeStatus:
        for lead_id, lead in self.leads.items():
            if lead["external_id"] == row["external_id"]:
                return self.change(event, lead_id, row, by_person=author == "manual")
        return self.create(event, author, row)

    def delete(self, lead_id: UUID) -> OutcomeStatus:
        lead = self.leads.pop(lead_id, None)
        if lead is None:
            return OutcomeStatus.NOT_FOUND
        for key, values in self.barred.items():
            values.update({lead[key]} - {None})
        return OutcomeStatus.DELETED

    def _taken(self, row: Row, *, but: UUID | None = None) -> bool:
        return any(
            row.get(key) is not None and row[key] == lead[key]
            for lead_id, lead in self.leads.items()
            for key in self.barred
            if lead_id != but
        )


class History:
    """What happens to leads, to the model and to the syncer alike."""

    def __init__(self, handlers: Handlers, database: Database) -> None:
        self._handlers = handlers
        self._database = database
        self._model = Model()
        self.events: list[Event] = []

    async def apply(self, command: Command) -> None:
        kind, *details = command
        if kind in {"replay", "repeat"}:
            await self._again(kind, *details)
        else:
            act: Callable[..., tuple[Event, OutcomeStatus]] = getattr(self, f"_{kind}")
            event, status = act(*details)
            self.events.append(event)
            outcome = await self._handlers.one(event)
            assert (outcome.status, outcome.repeated) == (status, False), command
        await self.check()

    async def check(self) -> None:
        expected = self._model.leads
        stored = {row["id"]: row for row in await leads_table(self._database)}
        assert stored.keys() == expected.keys()
        stamps = await rows(self._database, "SELECT id, applied_at FROM leads.event")
        applied_at = {row["id"]: row["applied_at"] for row in stamps}
        for lead_id, lead in expected.items():
            wanted = {name: value for name, value in lead.items() if name != "written_by"}
            wanted["updated_at"] = applied_at[lead["written_by"]]
            assert {name: stored[lead_id][name] for name in wanted} == wanted

    async def rebuild(self) -> None:
        """Lose all leads and replay all events: nothing may differ afterwards."""
        before = await leads_table(self._database)
        await self._replay_all(self.events)
        assert await leads_table(self._database) == before
        await self._replay_all(self.events[::-1])
        assert await leads_table(self._database) == before
        # As before the columns that an event had set were kept, and with them partition keys.
        async with self._database.connection() as connection:
            await connection.execute("UPDATE leads.event SET changed = NULL")
        await self._replay_all(self.events)
        keyless = [row | {"partition_key": None} for row in before]
        assert await leads_table(self._database) == keyless

    async def _replay_all(self, events: Sequence[Event]) -> None:
        await lose_leads(self._database)
        for event in events:
            await self._handlers.one(replace(event, replay_id="rebuild", attempt=3))

    async def _again(self, kind: str, place: int) -> None:
        if not self.events:
            return
        event = self.events[place % len(self.events)]
        again = replace(event, replay_id="replay" if kind == "replay" else None)
        assert (await self._handlers.one(again)).repeated

    def _create(self, author: str, external_id: UUID | None, email: str) -> Any:
        lead = lead_fields(external_id=external_id, last_name="Lovelace", email=email, city=None)
        event = lead_created(lead, by=author, time=self._now())
        row = {"external_id": external_id, "email": email}
        return event, self._model.create(event, author, row)

    def _update(self, place: int, changes: Row, version: int | None) -> Any:
        lead_id = self._lead(place)
        event = lead_updated(
            lead_id, expected_version=version, attempt=3, time=self._now(), **changes
        )
        return event, self._model.update(event, lead_id, changes, version)

    def _upsert(self, author: str, external_id: UUID, email: str, given: Row) -> Any:
        event = lead_upserted(external_id, by=author, email=email, time=self._now(), **given)
        row = {"external_id": external_id, "email": email} | given
        return event, self._model.upsert(event, author, row)

    def _delete(self, place: int) -> Any:
        lead_id = self._lead(place)
        event = lead_deleted(lead_id, attempt=3, time=self._now())
        return event, self._model.delete(lead_id)

    def _lead(self, place: int) -> UUID:
        """Return one of the leads there are or were, or that never came to be."""
        known = [UUID(event.subject) for event in self.events]
        return known[place % len(known)] if known else new_id()

    def _now(self) -> datetime:
        return BEGINNING + timedelta(seconds=len(self.events))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(commands=COMMANDS)
async def test_leads_are_what_the_model_says(
    handlers: Handlers, database: Database, commands: list[Command]
) -> None:
    async with database.connection() as connection:
        await connection.execute("TRUNCATE leads.lead, leads.event, leads.tombstone CASCADE")
    history = History(handlers, database)
    for command in commands:
        await history.apply(deepcopy(command))
    await history.rebuild()
