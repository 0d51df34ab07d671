"""The README is true: its commands run as they stand, and its tables are what the code has."""

import asyncio
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.api_client import ApiClient
from tests.support.eventually import eventually
from tests.support.example_environment import example_values
from tests.support.forked_process import forked_python
from tests.support.repository import ROOT
from tests.support.stack import Stack

README = (ROOT / "README.md").read_text()
PATIENCE_SECONDS = 60
PROMPT = "\n$ \n"

# Names that look like settings, and are none of the system's.
OTHER_NAMES = {"ENV_FILE", "API", "ACCOUNT", "TOKEN", "LEAD", "JSON"}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]


def shell_blocks(title: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", section(title), re.DOTALL)


def table(title: str) -> list[list[str]]:
    """Return the cells of a section's table, without its header."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


async def paste(
    blocks: list[str], stack: Stack, *, directory: Path, instead: dict[str, str]
) -> list[str]:
    """Run blocks in one shell, one after another; return what each printed.

    `instead` holds what is different here from a checkout with `make run` beside it.
    """
    script = f"printf '{PROMPT}'\n".join(blocks)
    for usual, here in instead.items():
        assert usual in script
        script = script.replace(usual, here)
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-euc", script),
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await shell.communicate()
    assert shell.returncode == 0, output + errors + stack.output[-2_000:].encode()
    return output.decode().split(PROMPT)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, as the README does")
async def test_what_is_to_be_tried_works(stack: Stack, client: ApiClient, tmp_path: Path) -> None:
    async def synchronised() -> bool:
        return len(await client.list_all()) >= 20

    await eventually(synchronised)
    printed = await paste(
        shell_blocks("Try it"),
        stack,
        directory=tmp_path,
        instead={"http://localhost:1234": stack.url, "python3": sys.executable},
    )
    signed_up, created, read, summarised, listed = map(json.loads, printed)
    assert signed_up == {"email": "ada@example.com"}
    assert (created["firstName"], created["source"], created["version"]) == ("Grace", "manual", 1)
    assert created["externalId"] in README
    assert read == created
    assert "Grace" in summarised["summary"]
    assert summarised["nextAction"]
    assert summarised["version"] == 2
    assert len(listed) == 3
    assert listed[0] == summarised


async def test_the_operators_commands_work(stack: Stack, tmp_path: Path) -> None:
    [printed] = await paste(
        shell_blocks("Operating it"),
        stack,
        directory=tmp_path,
        instead={
            ".data/": f"{stack.data}/",
            ".venv/bin/python": forked_python(),
        },
    )
    assert "postgres version" in printed
    assert re.search(r"fetched +20", printed)
    assert "stream:leads" in printed
    with (stack.data / "leads.csv").open(newline="") as file:
        exported = list(csv.DictReader(file))
    assert len(exported) >= 20


def test_the_settings_are_there_and_have_these_defaults() -> None:
    known = example_values()
    for names, defaults, _meaning in table("Configuration"):
        assert set(code_in(names)) <= known.keys()
        for name, default in zip(code_in(names), code_in(defaults), strict=False):
            assert known[name] == default, name


def test_no_name_is_of_the_past() -> None:
    """Variables anywhere in the text, also in commands."""
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\b[A-Z]{3,}S?(?==)", README))
    assert "SUPABASE_URI" in named
    assert "SYNCERS" in named
    assert named - example_values().keys() - OTHER_NAMES == set()


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert {"run", "test"} <= named <= targets


def test_the_containers_that_are_scaled_exist() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    scaled = set(re.findall(r"--scale (\w+)=", README))
    assert scaled == {"api", "syncer", "summarizer"}
    assert scaled <= services.keys()


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 150


def anchors_of(path: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    return {"", *(title.lower().replace(" ", "-") for title in titles)}


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", README)
    assert len(targets) > 5
    places = [(path or "README.md", anchor) for path, _, anchor in map(split_link, targets)]
    dead = [
        (path, anchor)
        for path, anchor in places
        if not (ROOT / path).exists() or (anchor and anchor not in anchors_of(path))
    ]
    assert dead == []


def split_link(target: str) -> tuple[str, str, str]:
    return target.partition("#")
