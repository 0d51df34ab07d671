"""Rules and dashboard ask for what is exported, and each alert has its section in the runbook."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import yaml

from shared.observability.metrics import REGISTRY, SECONDS, Declaration
from tests.support.metrics_page import declarations
from tests.support.promql import Matcher, parse
from tests.support.repository import ROOT, ProductModule

HOME = ROOT / "deploy/observability"
RUNBOOK = ROOT / "docs/alerts.md"
GROUPS: list[dict[str, Any]] = yaml.safe_load((HOME / "alerts.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
PROMETHEUS: dict[str, Any] = yaml.safe_load((HOME / "prometheus.yaml").read_text())
DASHBOARD: dict[str, Any] = json.loads((HOME / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
JOBS = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}

SECTIONS = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
# What Prometheus adds to what it scrapes, and series of its own.
TARGET = frozenset({"job", "instance"})
OWN = {
    "up": frozenset[str](),
    "process_start_time_seconds": frozenset[str](),
    "process_cpu_seconds_total": frozenset[str](),
    "process_resident_memory_bytes": frozenset[str](),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}
PARTS = {"_bucket": frozenset({"le"}), "_sum": frozenset[str](), "_count": frozenset[str]()}


@dataclass(frozen=True, slots=True)
class Exported:
    """The series there are: their labels, and the values of these that are known beforehand."""

    labels: Mapping[str, frozenset[str]]
    values: Mapping[tuple[str, str], frozenset[str]]

    def faults(self, text: str) -> Iterator[str]:
        """Yield what a query asks for that is not there."""
        query = parse(text)
        known: set[str] = set()
        for name, matchers in query.selectors:
            if name not in self.labels:
                yield f"{name} is not exported"
                continue
            known |= self.labels[name]
            for one in matchers:
                if one.label not in self.labels[name]:
                    yield f"{name} has no label {one.label}"
                elif not self._occurs(name, one):
                    yield f"{name}: {one.label} is never {one.value}"
        nowhere = query.grouped - query.made - known
        yield from (f"no series has the label {one}" for one in nowhere)

    def _occurs(self, name: str, one: Matcher) -> bool:
        known = self.values.get((name, one.label))
        if known is None or one.op in {"NotEqual", "NotRe"}:
            return True
        # One version of Prometheus writes a whole bound as `60`, another as `60.0`.
        forms = {form for value in known for form in (value, value.removesuffix(".0"))}
        if one.label == "le" and float(one.value.partition("|")[0]).is_integer():
            return set(one.value.split("|")) <= forms and "|" in one.value
        return any(re.fullmatch(one.value, form) for form in forms)


@pytest.fixture(scope="module")
def exported(modules: list[ProductModule]) -> Exported:
    labels = dict(OWN)
    for one in declarations(modules):
        labels.update(_series(one))
    for rule in RULES:
        if "record" in rule:
            query = parse(rule["expr"])
            inner = [labels[name] for name, _ in query.selectors if ":" in name]
            found = query.grouped.union(rule.get("labels", {}), *inner)
            labels[rule["record"]] = labels.get(rule["record"], frozenset()) | found
    return Exported({name: own | TARGET for name, own in labels.items()}, _values(labels))


def _series(one: Declaration) -> Iterator[tuple[str, frozenset[str]]]:
    own = frozenset(one.labels)
    if one.kind != "histogram":
        yield one.name, own
        return
    for suffix, more in PARTS.items():
        yield one.name + suffix, own | more


def _values(labels: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], frozenset[str]]:
    """Return the values of labels that series begin with, of metrics that begin with some."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for family in REGISTRY.collect():
        for sample in family.samples:
            for label, value in sample.labels.items():
                found[sample.name, label] = found.get((sample.name, label), frozenset()) | {value}
    # Of these some series are there from the start, and not all.
    found = {key: value for key, value in found.items() if not key[0].startswith("db_client_")}
    for name in labels:
        found[name, "job"] = frozenset(JOBS)
    bounds = frozenset(str(float(bound)) for bound in SECONDS)
    return {("http_server_request_duration_seconds_bucket", "le"): bounds, **found}


def faults_of(rules: list[dict[str, Any]], exported: Exported) -> list[str]:
    """Return what is wrong with rules, each beside its name."""
    return [
        f"{rule.get('alert') or rule['record']}: {fault}"
        for rule in rules
        for fault in exported.faults(rule["expr"])
    ]


def test_rules_ask_for_what_is_exported(exported: Exported) -> None:
    assert faults_of(RULES, exported) == []


def test_panels_ask_for_what_is_exported(exported: Exported) -> None:
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    queries += [one["expr"] for one in DASHBOARD["annotations"]["list"]]

    assert [fault for query in queries for fault in exported.faults(query)] == []


@pytest.mark.parametrize(
    "query",
    [
        "leads_accepted_total",
        'leads_refused_total{reason="full"}',
        'leads_refused_total{why="fulll"}',
        "sum by (partition) (leads_dependency_up)",
        'leads_event_wait_seconds_bucket{le="60"}',
        'leads_event_wait_seconds_bucket{le="60.0"}',
        'leads_event_wait_seconds_bucket{le=~"61|61.0"}',
        'up{job="apis"}',
        "leads_backlog_events_total",
    ],
)
def test_what_is_not_exported_is_found(query: str, exported: Exported) -> None:
    assert list(exported.faults(query))


def test_windows_hold_four_scrapes() -> None:
    """A rate of fewer has gaps whenever a scrape fails."""
    interval = int(PROMETHEUS["global"]["scrape_interval"].removesuffix("s"))
    least = timedelta(seconds=4 * interval)

    assert [rule for rule in RULES if min(parse(rule["expr"]).windows, default=least) < least] == []
    source = yaml.safe_load((HOME / "grafana/datasource.yaml").read_text())["datasources"][0]
    assert source["jsonData"]["timeInterval"] == f"{interval}s"


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert {rule["alert"] for rule in ALERTS} == SECTIONS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_and_where(rule: dict[str, Any], exported: Exported) -> None:
    says = rule["annotations"]
    query = parse(rule["expr"])
    recorded = {
        label for name, _ in query.selectors if ":" in name for label in exported.labels[name]
    }
    # Those that the rule adds are unknown to its texts.
    has = query.grouped | query.made | recorded

    assert says.keys() == {"summary", "description", "runbook_url"}
    assert says["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    assert set(re.findall(r"\$labels\.(\w+)", says["summary"] + says["description"])) <= has
    assert rule["labels"]["severity"] in {"page", "ticket", "none"}
    assert (rule["labels"]["severity"] == "none") == (rule["alert"] == "Watchdog")


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_a_section_says_how_urgent_it_is_and_when_it_ends(name: str) -> None:
    section = RUNBOOK.read_text().split(f"\n### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
    severities = {rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name}

    assert name == "Watchdog" or re.search(r"\bEnds\s", section)
    for severity in severities - {"none"}:
        assert severity in section.lower()


def test_what_the_runbook_names_is_there(exported: Exported) -> None:
    text = RUNBOOK.read_text()
    titles = {panel["title"] for panel in PANELS}
    italic = set(re.findall(r"\*([A-Z][\w, ']+)\*", text)) - {"Status, Targets"}

    assert italic <= titles
    assert set(re.findall(r"`(leads_\w+)`", text)) <= exported.labels.keys()
    for page, anchor in re.findall(r"\]\((\w+\.md)?#([\w-]+)\)", text):
        headings = re.findall(
            r"^#+ (.+)$", (RUNBOOK.parent / (page or RUNBOOK.name)).read_text(), re.MULTILINE
        )
        assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}


def test_the_dashboard_is_current() -> None:
    command = [sys.executable, str(HOME / "dashboard.py")]
    made = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    assert (HOME / "dashboard.json").read_bytes() == made, "run `make docs`"


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_picture_shows_each_panel() -> None:
    picture = (ROOT / "docs/img/dashboard.svg").read_text()

    shown = set(re.findall(r'font-weight="bold"[^>]*>([^<]+)<', picture))
    assert {panel["title"] for panel in DASHBOARD["panels"]} <= shown, "draw it anew"
    assert len(picture) < 300_000


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)
class TestPromtool:
    @pytest.mark.parametrize(
        "command", [("check", "rules", "--lint-fatal"), ("check", "config", "--syntax-only")]
    )
    def test_takes_rules_and_configuration(self, command: tuple[str, ...]) -> None:
        path = "alerts.yaml" if "rules" in command else "prometheus.yaml"
        subprocess.run(["promtool", *command, path], cwd=HOME, check=True, timeout=60)

    @pytest.mark.long
    def test_sees_each_alert_fire_and_stay_silent(self) -> None:
        subprocess.run(
            ["promtool", "test", "rules", "alerts.test.yaml"], cwd=HOME, check=True, timeout=300
        )


def test_each_alert_is_tried() -> None:
    text = (HOME / "alerts.test.yaml").read_text()
    firing = set(
        re.findall(
            r'alertname="(\w+)",alertstate="firing"\}\)\', eval_time: \w+, exp_samples: \[\{', text
        )
    )

    assert firing == {rule["alert"] for rule in ALERTS}
