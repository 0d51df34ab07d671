"""The documents say what the code does, where a test can tell."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.events.catalog import FLOWS, Flow
from shared.events.envelope import Event, EventData, now
from shared.streams.codec import encode
from tests.support.repository import ROOT

EVENTS = (ROOT / "docs/events.md").read_text()
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"])


def rows(page: str, header: str) -> Iterator[list[str]]:
    """Yield the cells of the first table with this header, without backticks."""
    table = page.split(f"\n{header}", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip().replace("`", "") for cell in line.strip("| ").split(" | ")]


def example_of(event: type[EventData]) -> str:
    section = EVENTS.split(f"### `{event.type}`\n", maxsplit=1)[1]
    match = re.search(r"```json\n(.*?)\n```", section, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.event.type)
def test_the_example_of_an_event_is_one(flow: Flow) -> None:
    example = example_of(flow.event)
    event = flow.event.model_validate_json(example)

    shown = json.loads(example)
    assert event.model_dump(mode="json", exclude_none=True) == shown
    assert shown.keys() == {str(field.alias) for field in flow.event.model_fields.values()}


def test_the_table_of_streams_is_the_catalog() -> None:
    shown = {(row[0], row[1]): row[3] for row in rows(EVENTS, "| stream | event |")}

    assert shown.keys() == {(flow.stream, flow.event.type) for flow in FLOWS}
    for flow in FLOWS:
        for group in flow.groups:
            assert f"group {group}" in shown[flow.stream, flow.event.type]


def test_every_field_of_the_envelope_is_explained() -> None:
    shown = {name for row in rows(EVENTS, "| field | |") for name in row[0].split(", ")}
    fields = set(map(str, encode(_full_event())))

    assert fields == shown


def _full_event() -> Event:
    flow = FLOWS[-1]
    return Event(
        source="tests",
        subject="x",
        data=flow.event.model_validate_json(example_of(flow.event)),
        traceparent="x",
        tracestate="x",
        tracelink="x",
        reply_to="x",
        expires=now(),
        only_group="x",
        replay_id="x",
        replay_number=0,
        with_model=True,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(
        r"`((?:services|shared|ops|devstack|deploy|migrations|tests)/[\w./-]*)`", text
    )

    assert [path for path in named if not (ROOT / path).exists()] == []
