"""The ids of rows: the same each time, and no other row's."""

from uuid import UUID, uuid5

import pytest

from shared.events.data import row_event_id, row_lead_id
from shared.events.envelope import new_id

KEYED = uuid5(UUID(int=0), "a key")


@pytest.mark.parametrize("kind", ["time-ordered", "of a key"])
def test_a_row_has_ids_of_its_own_that_begin_as_its_imports(kind: str) -> None:
    import_id = row_event_id(KEYED if kind == "of a key" else new_id(), 0)
    events = [row_event_id(import_id, row) for row in range(1, 1_000)]
    leads = [row_lead_id(event_id) for event_id in events]
    assert len({import_id, *events, *leads}) == 1 + 2 * 999
    assert events == sorted(events)
    assert leads == sorted(leads)
    assert {one.hex[:22] for one in (*events, *leads)} == {import_id.hex[:22]}
    assert {one.version for one in (*events, *leads)} == {import_id.version}
    assert events[-1] == row_event_id(events[0], 999)
