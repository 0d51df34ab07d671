"""Makes Grafana's dashboard of `dashboard.yaml`; its output is `dashboard.json`."""

import json
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PANELS = Path(__file__).with_name("dashboard.yaml")
WIDTH, HEIGHT, COLUMNS = 6, 7, 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# A release of which nothing ran five minutes ago.
DEPLOYMENTS = (
    "count by (version) (leads_build_info) unless count by (version) (leads_build_info offset 5m)"
)
RUNBOOK = "docs/alerts.md"


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "leads",
        "title": "Leads",
        "description": f"Made by dashboard.py. Alerts, and what to do: {RUNBOOK}",
        "tags": ["leads"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                # To be set to where the runbook can be read.
                {
                    "name": "runbook",
                    "type": "textbox",
                    "label": "Runbook",
                    "query": RUNBOOK,
                    "current": {"text": RUNBOOK, "value": RUNBOOK},
                },
            ]
        },
        "links": [{"title": "Runbook", "type": "link", "url": "${runbook}", "icon": "doc"}],
        "annotations": {
            "list": [
                {
                    "name": "Deployments",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "blue",
                    "expr": DEPLOYMENTS,
                    "titleFormat": "{{version}} is deployed",
                    "step": "15s",
                }
            ]
        },
        "panels": list(panels(yaml.safe_load(PANELS.read_text()))),
    }


def panels(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each row's title and then its panels, with their places."""
    number, y = 0, 0
    for row in rows:
        number += 1
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": row["row"], "gridPos": place, "panels": []}
        y += 1
        for index, panel in enumerate(row["panels"]):
            number += 1
            line, column = divmod(index * WIDTH, COLUMNS)
            place = {"h": HEIGHT, "w": WIDTH, "x": column, "y": y + line * HEIGHT}
            yield {"id": number, "gridPos": place, **chart(panel)}
        y += -(-len(row["panels"]) * WIDTH // COLUMNS) * HEIGHT


def chart(panel: dict[str, Any]) -> dict[str, Any]:
    """Return a panel without its place."""
    is_now = panel.get("now", False)
    defaults: dict[str, Any] = (
        {"unit": panel["unit"]} if is_now else {"unit": panel["unit"], "min": 0}
    )
    if "ALERTS" in panel["lines"][0]["query"]:
        link = "${runbook}#${__field.labels.alertname}"
        defaults["links"] = [{"title": "What to do", "url": link, "targetBlank": True}]
    return {
        "type": "stat" if is_now else "timeseries",
        "title": panel["title"],
        "description": panel.get("says", ""),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": letter,
                "datasource": SOURCE,
                "expr": line["query"],
                "legendFormat": line["name"],
                "instant": is_now,
                "range": not is_now,
            }
            for letter, line in zip(string.ascii_uppercase, panel["lines"], strict=False)
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
