"""Applying lead-upserted events: the lead with an externalId is changed, or else made."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from services.syncer.storage.creation import Created, Creation, create_unique
from services.syncer.storage.held_leads import Change, HeldLeads
from services.syncer.storage.update import ChangeOrder, change_again, change_first
from shared.events.outcome import OutcomeStatus
from shared.storage.inbox import Applied, Ended, columns, recall
from shared.storage.pool import Connection, Database, outlasting_races

# An upsert belongs to the lead that it changed, whatever id it brought for a new one.
_REMARK = """
    UPDATE leads.event SET
        outcome = marked.outcome, detail = marked.detail::jsonb, subject = marked.subject
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
         AS marked (id, outcome, detail, subject)
    WHERE event.id = marked.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """An event, the lead that it makes if there is none, and the change if there is one."""

    creation: Creation
    change: Change
    attempt: int

    @property
    def event_id(self) -> UUID:
        """The event's id."""
        return self.creation.event.id

    def order_for(self, lead_id: UUID) -> ChangeOrder:
        """Return the change of a lead that is there."""
        return ChangeOrder(
            event=replace(self.creation.event, subject=str(lead_id)),
            lead_id=lead_id,
            change=self.change,
            attempt=self.attempt,
            replayed=self.creation.replayed,
        )


class LeadUpsertRepository:
    """Writes leads. Raises `UnavailableError`, or `TransientError` to have it repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, upserts: Sequence[Upsert]) -> list[Applied]:
        """Apply each upsert once, all in one transaction; returns what became of each."""
        return await outlasting_races(lambda: self._upsert(upserts))

    async def _upsert(self, upserts: Sequence[Upsert]) -> list[Applied]:
        unique = {upsert.event_id: upsert for upsert in upserts}
        applied: dict[UUID, Applied] = {}
        async with self._database.transaction() as connection:
            for round_ in _rounds(unique.values()):
                applied |= await _apply(connection, round_)
        return [applied[upsert.event_id] for upsert in upserts]


def _rounds(upserts: Iterable[Upsert]) -> Iterator[Sequence[Upsert]]:
    """Yield upserts in rounds: those of one lead one after the other, the others at once."""
    seen: Counter[UUID | None] = Counter()
    rounds: defaultdict[int, list[Upsert]] = defaultdict(list)
    for upsert in upserts:
        external_id = upsert.creation.lead.external_id
        rounds[seen[external_id]].append(upsert)
        seen[external_id] += 1
    yield from rounds.values()


async def _apply(connection: Connection, upserts: Sequence[Upsert]) -> dict[UUID, Applied]:
    created = await create_unique(connection, [upsert.creation for upsert in upserts])
    applied = {event_id: _answered(one) for event_id, one in created.items()}
    present = [
        upsert.order_for(holder)
        for upsert in upserts
        if (holder := created[upsert.event_id].holder) is not None
    ]
    repeated = [upsert for upsert in upserts if created[upsert.event_id].outcome.repeated]
    known = await recall(connection, [upsert.event_id for upsert in repeated])
    again = [
        upsert.order_for(UUID(known[upsert.event_id].subject))
        for upsert in repeated
        if created[upsert.event_id].outcome.status is OutcomeStatus.UPDATED
    ]
    leads = await HeldLeads.lock(connection, {order.lead_id for order in (*present, *again)})
    for order in again:
        earlier = known[order.event.id]
        applied[order.event.id] = await change_again(connection, leads, order, earlier)
    return applied | await _change(connection, leads, present)


async def _change(
    connection: Connection, leads: HeldLeads, orders: Sequence[ChangeOrder]
) -> dict[UUID, Applied]:
    applied: dict[UUID, Applied] = {}
    ended: list[Ended] = []
    for order in orders:
        applied[order.event.id], end = await change_first(leads, order)
        ended.append(end)
    if ended:
        rows = [(one.event.id, one.status, one.detail, one.event.subject) for one in ended]
        await connection.execute(_REMARK, *columns(rows))
    return applied


def _answered(created: Created) -> Applied:
    return Applied(
        created.outcome, created.document, change=None if created.document is None else "created"
    )
