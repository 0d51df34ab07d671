"""Prometheus beside a running system, with rules whose times are shortened, and what it says."""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from devstack.free_ports import LOOPBACK, free_port
from shared.background import background
from tests.support.eventually import eventually
from tests.support.repository import ROOT

RULES = ROOT / "deploy/observability/alerts.yaml"
BINARY = shutil.which("prometheus")
START = timedelta(seconds=30)
LOOK_EVERY = timedelta(milliseconds=300)

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# In strings numbers are codes; below this they are counts and shares.
_STRINGS = re.compile(r'("[^"]*")')
_LEAST_SECONDS = 300


def shortened_rules(text: str, *, by: int) -> str:
    """Return rules whose windows, waits and limits in seconds are so many times shorter."""
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _shortened(rule["expr"], by)
            for name in rule.keys() & {"for", "keep_firing_for"}:
                rule[name] = _duration(rule[name], by)
    return yaml.safe_dump(rules)


def _shortened(query: str, by: int) -> str:
    # Between the strings.
    parts = _STRINGS.split(query)
    for index in range(0, len(parts), 2):
        part = re.sub(
            r"(\[|offset )(\d+[smhd])\b",
            lambda found: found[1] + _duration(found[2], by),
            parts[index],
        )
        parts[index] = re.sub(
            r"(?<![\w.:])\d{3,}(?![\w.])", lambda found: _seconds(int(found[0]), by), part
        )
    return "".join(parts)


def _duration(text: str, by: int) -> str:
    return f"{int(text[:-1]) * _UNITS[text[-1]] * 1_000 // by}ms"


def _seconds(number: int, by: int) -> str:
    return str(number // by if number >= _LEAST_SECONDS else number)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that fires. Written `Name label=value`, as much of it as matters."""

    name: str
    labels: Mapping[str, str]
    says: str

    def is_it(self, text: str) -> bool:
        """Return whether this is what the text names."""
        name, *labels = text.split(" ")
        wanted = dict(label.split("=") for label in labels)
        return self.name == name and wanted.items() <= self.labels.items()


class Prometheus:
    """A running one."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._latest: Sequence[Alert] = []
        self.ever: list[Alert] = []

    async def firing(self) -> Sequence[Alert]:
        """Return what fires now."""
        answer = (await self._http.get("/api/v1/alerts")).raise_for_status().json()
        return [
            Alert(
                one["labels"]["alertname"],
                one["labels"],
                " ".join(map(str, one["annotations"].values())),
            )
            for one in answer["data"]["alerts"]
            if one["state"] == "firing"
        ]

    async def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series that a query gives now."""
        answer = await self._http.get("/api/v1/query", params={"query": text})
        result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return result

    async def watch(self) -> None:
        """Note whatever fires, for however short a time; never returns."""
        while True:
            with suppress(httpx.HTTPError):
                self._latest = await self.firing()
                self.ever += [one for one in self._latest if one not in self.ever]
            await asyncio.sleep(LOOK_EVERY.total_seconds())

    async def fires(self, *alerts: str, within: timedelta) -> None:
        """Wait until each of these has fired since `begin`."""

        async def all_fired() -> bool:
            missing = [text for text in alerts if not any(one.is_it(text) for one in self.ever)]
            assert not missing, f"{missing} did not fire, but {self.ever}"
            return True

        await eventually(all_fired, within=within)

    async def ends(self, *alerts: str, within: timedelta) -> None:
        """Wait until none of these fires."""

        async def all_ended() -> bool:
            left = [text for text in alerts if any(one.is_it(text) for one in self._latest)]
            assert not left, f"{left} did not end"
            return True

        await eventually(all_ended, within=within)

    def begin(self) -> Self:
        """Forget what has fired before."""
        self.ever = []
        return self

    async def is_ready(self) -> None:
        """Wait until it has scraped all its targets."""

        async def has_scraped() -> bool:
            with suppress(httpx.HTTPError):
                answer = (await self._http.get("/api/v1/targets")).raise_for_status()
                targets = answer.json()["data"]["activeTargets"]
                return bool(targets) and all(one["health"] == "up" for one in targets)
            return False

        await eventually(has_scraped, within=START)


@asynccontextmanager
async def running_prometheus(
    directory: Path, *, targets: Mapping[str, Sequence[int]], rules: str, every: str
) -> AsyncGenerator[Prometheus]:
    """Run one that scrapes these ports of each job, for the length of the block."""
    assert BINARY is not None, "Prometheus is not installed"
    configuration = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"{LOOPBACK}:{port}" for port in ports]}],
            }
            for job, ports in targets.items()
        ],
    }
    (directory / "rules.yaml").write_text(rules)
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(BINARY, f"--config.file={directory}/prometheus.yaml"),
        *(f"--storage.tsdb.path={directory}/data", f"--web.listen-address={LOOPBACK}:{port}"),
        "--log.level=warn",
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=10) as http:
            prometheus = Prometheus(http)
            await prometheus.is_ready()
            async with background(prometheus.watch(), name="watch alerts"):
                yield prometheus
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
