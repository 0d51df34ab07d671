"""The catalog is the map of the system, so what is there must be in the tree and the reverse."""

from pathlib import Path

import pytest

from shared.events.catalog import BY_TYPE, FLOWS
from shared.events.envelope import EventData
from tests.support.repository import ROOT

# Handlers of these services are named after events; the API's after resources.
CONSUMERS = ("syncer", "summarizer")


def handler_path(group: str, event_type: str) -> Path:
    return Path("services", group, "handlers", event_type.replace("-", "_") + ".py")


def consumed() -> set[Path]:
    return {handler_path(group, flow.event.type) for flow in FLOWS for group in flow.groups}


def subclasses(base: type[EventData]) -> set[type[EventData]]:
    direct = set(base.__subclasses__())
    return direct.union(*(subclasses(one) for one in direct))


def present() -> set[Path]:
    return {
        path.relative_to(ROOT)
        for service in CONSUMERS
        for path in (ROOT / "services" / service / "handlers").glob("[!_]*.py")
    }


def test_each_event_has_a_handler_named_after_it_in_each_group() -> None:
    assert consumed() - present() == set()


def test_every_handler_is_named_after_an_event() -> None:
    """Readers of a stream without a group of its own in the catalog have handlers as well."""
    assert {path.stem.replace("_", "-") for path in present()} <= BY_TYPE.keys()


@pytest.mark.parametrize("path", sorted(present()), ids=str)
def test_a_handler_opens_with_the_event_it_consumes(path: Path) -> None:
    first_line = (ROOT / path).read_text().splitlines()[0]

    assert first_line.startswith(f'"""{path.stem.replace("_", "-")}: '), first_line


def test_every_event_is_in_the_catalog_once() -> None:
    assert len(BY_TYPE) == len(FLOWS)
    assert {flow.event for flow in FLOWS} == {
        event for event in subclasses(EventData) if event.__module__.startswith("shared.")
    }


def test_every_flow_is_documented() -> None:
    documents = (ROOT / "docs/events.md").read_text()

    for flow in FLOWS:
        assert f"### `{flow.event.type}`" in documents, flow.event.type
        assert f"`{flow.stream}`" in documents, flow.stream
