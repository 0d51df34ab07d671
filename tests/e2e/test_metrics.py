"""Every process of a running system exports itself, and all of it is found and put together."""

from collections import defaultdict

import httpx
import orjson

from devstack.environment import TARGETS_FILE
from ops.exporter.metrics import merge, rows
from tests.support.api_client import ApiClient
from tests.support.eventually import eventually
from tests.support.stack import Stack

MOST_SERIES = 1_500


def texts_of(stack: Stack) -> dict[str, str]:
    """Ask every process, as Prometheus would."""
    groups = orjson.loads((stack.data / TARGETS_FILE).read_bytes())
    return {
        group["labels"]["job"]: httpx.get(f"http://{target}/metrics").raise_for_status().text
        for group in groups
        for target in group["targets"]
    }


async def test_a_create_is_counted_on_its_way(stack: Stack, client: ApiClient) -> None:
    await client.get("/leads")

    async def is_told() -> bool:
        try:
            texts = texts_of(stack)
        except httpx.TransportError:
            return False  # nobody waits for the exporter's start
        assert set(texts) == {"api", "syncer", "summarizer", "exporter"}
        found: defaultdict[str, float] = defaultdict(float)
        for row in (row for family in merge(list(texts.values())) for row in rows(family)):
            found[row.name] += row.value
        assert found["http_server_request_duration_seconds"] > 0
        assert found["leads_events_total"] > 0
        assert found["leads_exporter_up"] == 4
        assert found["leads_partitions_owned"] == 8
        series = {
            name: sum(not line.startswith("#") for line in text.splitlines())
            for name, text in texts.items()
        }
        assert max(series.values()) <= MOST_SERIES, series
        return True

    await eventually(is_told)
