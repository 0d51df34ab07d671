"""`.env.example` explains every setting there is, with its true default, and no other."""

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from devstack.environment import PARTS
from shared.settings import SettingsGroup
from tests.support.example_environment import EXAMPLE, example_lines, example_values
from tests.support.repository import ROOT, ProductModule

# What `.env` may hold for compose.yaml itself, rather than for a service.
COMPOSE = {
    *("POSTGRES_PASSWORD", "STREAMS_APPENDFSYNC", "SITE_ADDRESS", "HTTPS_PORT", "COMPOSE_PROFILES"),
    "GRAFANA_PORT",
    *("BACKUP_DIR", "BACKUP_KEEP", "BACKUP_SCHEDULE", "POSTGRES_MAJOR"),
}

Setting = tuple[type[SettingsGroup], str, FieldInfo]


@pytest.fixture(scope="module")
def settings(modules: list[ProductModule]) -> dict[str, list[Setting]]:
    """Return every setting of every group by its variable's name."""
    for module in modules:
        if module.name.endswith("settings") and not module.name.startswith("devstack."):
            importlib.import_module(module.name)
    found: dict[str, list[Setting]] = {}
    for group in groups(SettingsGroup):
        for name, field in group.model_fields.items():
            found.setdefault(name.upper(), []).append((group, name, field))
    assert {"PORT", "SYNC_CRON", "GROQ_MODEL", "REDIS_HOST"} <= found.keys()
    return found


def groups(base: type[SettingsGroup]) -> Iterator[type[SettingsGroup]]:
    for group in base.__subclasses__():
        if not group.__module__.startswith("devstack."):
            yield group
        yield from groups(group)


def in_code(group: type[SettingsGroup], name: str) -> Any:
    field = group.model_fields[name]
    return None if field.is_required() else field.get_default(call_default_factory=True)


def from_example(group: type[SettingsGroup], name: str, text: str) -> Any:
    """Return what the group makes of the example's value."""
    required = {
        other: "postgresql://host" if "connection" in other else "https://example.com"
        for other, field in group.model_fields.items()
        if field.is_required()
    }
    # One of two is needed here.
    required["supabase_key"] = "sb_secret_x"
    with pytest.MonkeyPatch.context() as environment:
        for variable, value in {**required, name: text}.items():
            environment.setenv(variable.upper(), value)
        return getattr(group(), name)


def test_the_example_has_every_setting_and_no_other(settings: dict[str, list[Setting]]) -> None:
    known = settings.keys() | COMPOSE | set(PARTS)

    assert settings.keys() - example_values().keys() == set(), "not explained"
    assert example_values().keys() - known == set(), "read by nothing"


def test_no_setting_is_explained_twice() -> None:
    counts = Counter(match["name"] for match in example_lines())

    assert [name for name, count in counts.items() if count > 1] == []


def test_the_example_shows_the_defaults(settings: dict[str, list[Setting]]) -> None:
    values = example_values()
    wrong: list[str] = []
    for variable, places in settings.items():
        for group, name, _ in places:
            default, shown = in_code(group, name), values[variable]
            if not default and not isinstance(default, int | timedelta):
                right = shown == ""
            else:
                right = shown != "" and from_example(group, name, shown) == default
            if not right:
                wrong.append(f"{variable}={shown}, but the default is {default!r}")

    assert wrong == []


def test_a_copy_of_the_example_sets_nothing() -> None:
    """Defaults are commented out, so that a copy does not hold on to them when they change."""
    assert [
        match[0] for match in example_lines() if bool(match["off"]) != bool(match["value"])
    ] == []


def test_every_setting_has_an_explanation_above_it() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for match in example_lines():
        above = lines[: lines.index(match[0])]
        before = next((line for line in reversed(above) if not _is_setting(line)), "")

        assert before.startswith("# "), f"{match['name']} is not explained"


def _is_setting(line: str) -> bool:
    return re.match(r"#?[A-Z][A-Z0-9_]*=", line) is not None


def test_groups_that_share_a_variable_agree_on_it(settings: dict[str, list[Setting]]) -> None:
    for variable, places in settings.items():
        defaults = [in_code(group, name) for group, name, _ in places]

        assert all(default == defaults[0] for default in defaults), f"{variable}: {defaults}"


def test_the_original_variables_come_first() -> None:
    names = [match["name"] for match in example_lines()]

    assert set(names[:10]) == {
        "PORT",
        "API_KEY",
        "CORS_ACCEPTED_ORIGINS",
        "SUPABASE_CONNECTION_STRING",
        "SUPABASE_URI",
        "SUPABASE_KEY",
        "REDIS_HOST",
        "REDIS_PORT",
        "GROQ_API_KEY",
        "GROQ_MODEL",
    }


def test_the_documentation_names_no_unknown_setting(settings: dict[str, list[Setting]]) -> None:
    known = example_values().keys() | {"PG_BIN", "VALKEY_BIN", "ENV_FILE"}
    known |= {f"{name}_FILE" for name in known}
    for path in (ROOT / "docs").rglob("*.md"):
        named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", path.read_text()))

        assert named <= known | settings.keys(), f"{path.name}: {named - known}"
