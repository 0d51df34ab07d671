"""What the terminal shows: log lines, and the table when the stack is ready."""

import io
import json
import time
from collections.abc import Generator

import pytest

from devstack.console import Console, address, banner, readable
from devstack.environment import StandIns, make_plan

ENTRY = {
    "event": "leads.synced",
    "level": "info",
    "time": "2026-11-24T03:04:05.678901Z",
    "service": "syncer",
    "count": 10,
}


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_structured_line_reads_as_time_level_event_and_fields() -> None:
    line = json.dumps({**ENTRY, "source": "sync", "note": "two words", "seconds": 0.25, "id": None})
    assert readable(line) == (
        "03:04:05.678 info    leads.synced "
        'count=10 source=sync note="two words" seconds=0.25 id=null'
    )


@pytest.mark.parametrize(
    "line",
    ["plain text", "", "{not json", '{"no": "event"}', "[1]", "null", '{"event": 1} and more'],
)
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert readable(line) == line


@pytest.mark.parametrize("time", [None, 17, "yesterday"])
def test_an_odd_time_is_no_reason_to_fail(time: object) -> None:
    assert "leads.synced count=10" in readable(json.dumps({**ENTRY, "time": time}))


def test_a_traceback_goes_below_with_the_name_on_each_line() -> None:
    stream = io.StringIO()
    entry = {**ENTRY, "level": "error", "exception": "Traceback:\n  boom"}
    Console(stream).sink("api")(json.dumps(entry))
    assert stream.getvalue().splitlines() == [
        "api           | 03:04:05.678 error   leads.synced count=10",
        "api           | Traceback:",
        "api           |   boom",
    ]


def test_names_are_padded_to_one_column() -> None:
    stream = io.StringIO()
    console = Console(stream)
    for name in ("api", "supabase_auth"):
        console.sink(name)("x")
    assert {line.index("|") for line in stream.getvalue().splitlines()} == {14}


def test_an_empty_line_keeps_its_name() -> None:
    stream = io.StringIO()
    Console(stream).sink("api")("")
    assert stream.getvalue() == "api           |\n"


def test_colours_only_when_wanted() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    Console(plain).sink("api")(json.dumps(ENTRY))
    Console(coloured, is_coloured=True).sink("api")(json.dumps(ENTRY))
    assert "\x1b[" not in plain.getvalue()
    assert "\x1b[" in coloured.getvalue()


def test_each_service_has_its_colour() -> None:
    stream = io.StringIO()
    console = Console(stream, is_coloured=True)
    for name in ("api", "syncer"):
        console.sink(name)("x")
    first, second = (
        line.split("api")[0].split("syncer")[0] for line in stream.getvalue().split("\n")[:2]
    )
    assert first != second


class ClosedTerminal(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_closed_terminal_does_not_stop_the_services() -> None:
    Console(ClosedTerminal()).sink("api")("x")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert Console(Terminal()).is_coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Console(Terminal()).is_coloured


def test_the_table_names_stand_ins_and_hides_secrets() -> None:
    shown = banner(
        make_plan({"DATA_DIR": "/srv/leads", "PORT": "8080"}),
        StandIns(
            postgres="postgresql://postgres:hidden@127.0.0.1:20001/leads",
            redis="redis://:hidden@127.0.0.1:20002/0",
            supabase_uri="http://127.0.0.1:20003",
            supabase_key="sb_secret_hidden",
            randomuser="http://127.0.0.1:20004/api/",
        ),
        title="Ready after 1.2 s",
        is_coloured=False,
    )
    assert "hidden" not in shown
    assert "\x1b[" not in shown
    assert "127.0.0.1:20001" in shown
    assert "/srv/leads" in shown
    assert shown.count("stand-in:") == 2
    assert shown.count("curl http://localhost:8080/authentication/") == 2
    assert "\nReady after 1.2 s\n" in shown
    assert "http://localhost:8080/docs" in shown
    assert "/srv/leads/api_key" in shown


def test_what_is_real_is_called_yours() -> None:
    shown = banner(
        make_plan(
            {
                "SUPABASE_CONNECTION_STRING": "postgresql://me:hidden@db.example.com:6543/postgres",
                "REDIS_HOST": "cache.example.com",
                "SUPABASE_URI": "https://x.supabase.co",
                "SUPABASE_KEY": "hidden",
                "RANDOMUSER_URL": "https://randomuser.me/api",
                "GROQ_API_KEY": "hidden",
            }
        ),
        StandIns(),
        title="Not ready: Redis at cache.example.com:6379 refuses (REDIS_HOST)",
        is_coloured=False,
    )
    assert "hidden" not in shown
    assert shown.count("yours") == 5
    assert "\nNot ready: Redis at cache.example.com:6379 refuses (REDIS_HOST)\n" in shown
    for host in ("db.example.com:6543", "cache.example.com:6379", "randomuser.me", "api.groq.com"):
        assert host in shown


@pytest.mark.parametrize("url", ["postgresql:///leads?host=/var/run", "redis://:a:b@h:x/", "", "["])
def test_an_odd_address_is_no_reason_to_fail(url: str) -> None:
    assert address(url) == "?"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+cluster://user:hidden@one:7000,two:7001", "one:7000, two:7001"),
        ("redis+sentinel://hidden@one:26379,two/group/0", "one:26379, two"),
        ("rediss://user:hid,den@one:6379/0", "one:6379"),
    ],
)
def test_all_hosts_of_an_address_are_shown(url: str, shown: str) -> None:
    assert address(url) == shown
