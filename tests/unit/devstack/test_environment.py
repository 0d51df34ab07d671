"""Which variables make which part real, and what the services get."""

from pathlib import Path

import pytest

from devstack.data_directory import write_stack_file
from devstack.environment import (
    Groq,
    MisconfiguredError,
    StandIns,
    make_plan,
    read_environment,
    services_environment,
)

NOTHING_STARTED = StandIns()


def test_an_empty_environment_leaves_everything_to_stand_ins() -> None:
    plan = make_plan({})
    assert not plan.has_postgres
    assert not plan.has_redis
    assert not plan.has_supabase_auth
    assert not plan.has_randomuser
    assert plan.groq is Groq.OFFLINE
    assert (plan.port, plan.api_workers, plan.syncers, plan.summarizers) == (1234, 1, 1, 1)
    assert plan.data == Path.cwd() / ".data"


@pytest.mark.parametrize(
    ("given", "real"),
    [
        ({"SUPABASE_CONNECTION_STRING": "postgresql://db/leads"}, "has_postgres"),
        ({"REDIS_URL": "redis://cache"}, "has_redis"),
        ({"REDIS_HOST": "cache"}, "has_redis"),
        ({"SUPABASE_URI": "https://x.supabase.co", "SUPABASE_KEY": "sb_1"}, "has_supabase_auth"),
        ({"RANDOMUSER_URL": "https://randomuser.me/api"}, "has_randomuser"),
    ],
)
def test_each_part_is_switched_alone(given: dict[str, str], real: str) -> None:
    plan = make_plan(given)
    parts = ("has_postgres", "has_redis", "has_supabase_auth", "has_randomuser")
    assert [part for part in parts if getattr(plan, part)] == [real]


@pytest.mark.parametrize("blank", ["", "  "])
def test_placeholders_and_blanks_are_not_set(blank: str) -> None:
    plan = make_plan(
        {
            "SUPABASE_CONNECTION_STRING": "supabase-connection-string",
            "SUPABASE_URI": "supabase-uri",
            "SUPABASE_KEY": "supabase-key",
            "GROQ_API_KEY": "groq-api-key",
            "GROQ_MODEL": "groq-model",
            "API_KEY": "api-key",
            "REDIS_URL": blank,
            "PORT": blank,
            "RANDOMUSER_URL": blank,
        }
    )
    assert plan.given == {}
    assert plan.port == 1234


def test_half_of_supabase_is_not_enough_and_is_mentioned() -> None:
    plan = make_plan({"SUPABASE_URI": "https://x.supabase.co"})
    assert not plan.has_supabase_auth
    assert ["SUPABASE_URI" in notice for notice in plan.notices] == [True]


@pytest.mark.parametrize(
    ("given", "groq"),
    [
        ({"GROQ_API_KEY": "gsk_1"}, Groq.REAL),
        ({"GROQ": "stand-in"}, Groq.STAND_IN),
        ({"GROQ": "stand-in", "GROQ_API_KEY": "gsk_1"}, Groq.STAND_IN),
        ({"GROQ": "offline", "GROQ_API_KEY": "gsk_1"}, Groq.OFFLINE),
        ({"SUMMARY_PROVIDER": "offline", "GROQ_API_KEY": "gsk_1"}, Groq.OFFLINE),
    ],
)
def test_groq(given: dict[str, str], groq: Groq) -> None:
    assert make_plan(given).groq is groq


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "\N{SUPERSCRIPT TWO}"),
        ("SYNCERS", "-1"),
        ("SUMMARIZERS", "1.5"),
        ("API_WORKERS", "1000"),
        ("GROQ", "fake"),
        ("GROQ", "real"),
    ],
)
def test_a_meaningless_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(MisconfiguredError, match=f"{name}={value}"):
        make_plan({name: value})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("PORT=8000\nSYNCERS=2\nGROQ_API_KEY='gsk with spaces'\n")
    read = read_environment({"ENV_FILE": str(file), "PORT": "9000", "GROQ_API_KEY": ""})
    plan = make_plan(read)
    assert (plan.port, plan.syncers) == (9000, 2)
    assert plan.groq is Groq.OFFLINE, "emptied for one run"


def test_no_file_is_fine_and_an_empty_name_is_none(tmp_path: Path) -> None:
    assert read_environment({"ENV_FILE": ""}) == {"ENV_FILE": ""}
    missing = {"ENV_FILE": str(tmp_path / "nothing.env")}
    assert read_environment(missing) == missing


def test_a_file_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("PORT=8000\n", encoding="utf-16")
    with pytest.raises(MisconfiguredError, match=f"{file}: is not UTF-8"):
        read_environment({"ENV_FILE": str(file)})


def test_services_get_the_stand_ins() -> None:
    environment = services_environment(
        make_plan({"GROQ": "stand-in", "API_WORKERS": "2", "LOG_LEVEL": "DEBUG"}),
        StandIns(
            postgres="postgresql://p",
            redis="redis://r",
            supabase_uri="http://auth",
            supabase_key="sb_secret_1",
            randomuser="http://people/api/",
            groq="http://groq",
        ),
        api_key="generated",
    )
    expected = {
        "SUPABASE_CONNECTION_STRING": "postgresql://p",
        "REDIS_URL": "redis://r",
        "SUPABASE_URI": "http://auth",
        "SUPABASE_KEY": "sb_secret_1",
        "RANDOMUSER_URL": "http://people/api/",
        "GROQ_BASE_URL": "http://groq",
        "SUMMARY_PROVIDER": "groq",
        "API_KEY": "generated",
        "PORT": "1234",
        "REUSE_PORT": "true",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
        "ENV_FILE": "",
    }
    assert environment.items() >= expected.items()
    assert environment["GROQ_API_KEY"]


def test_what_is_real_reaches_the_services_unchanged() -> None:
    given = {
        "SUPABASE_CONNECTION_STRING": "postgresql://db/leads",
        "REDIS_HOST": "cache",
        "REDIS_PORT": "6380",
        "SUPABASE_URI": "https://x.supabase.co",
        "SUPABASE_KEY": "sb_1",
        "RANDOMUSER_URL": "https://randomuser.me/api",
        "GROQ_API_KEY": "gsk_1",
        "GROQ_MODEL": "openai/gpt-oss-120b",
        "CORS_ACCEPTED_ORIGINS": "https://crm.example.com",
        "SHUTDOWN_DEADLINE": "3",
    }
    environment = services_environment(make_plan(given), NOTHING_STARTED, api_key="k")
    assert environment.items() >= given.items()
    assert "REDIS_URL" not in environment


def test_offline_hides_the_key_from_the_services() -> None:
    plan = make_plan({"GROQ": "offline", "GROQ_API_KEY": "gsk_1"})
    environment = services_environment(plan, NOTHING_STARTED, api_key="k")
    assert (environment["SUMMARY_PROVIDER"], environment["GROQ_API_KEY"]) == ("offline", "")


class TestWhatAStackHasWritten:
    """Settings for commands that talk to a stack are not those of the next one."""

    @pytest.fixture
    def written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("SYNCERS=3\n")
        data = tmp_path / ".data"
        data.mkdir()
        settings = {"REDIS_URL": "redis://:secret@127.0.0.1:4711/0", "PORT": "1234"}
        write_stack_file(data, settings)
        return settings | {"STACK_DATA_DIR": str(data)}

    @pytest.mark.parametrize("path", [".data/stack.env", "{}/.data/stack.env", "copied"])
    def test_is_no_file_to_read(self, path: str, written: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "copied").write_text((tmp_path / ".data/stack.env").read_text())
        name = path.format(tmp_path)
        given = read_environment({"ENV_FILE": name, "SUMMARIZERS": "2"})
        assert given == {"ENV_FILE": name, "SUMMARIZERS": "2", "SYNCERS": "3"}
        assert any(".env is read instead" in notice for notice in make_plan(given).notices)
        assert written  # is there

    def test_is_no_environment(self, written: dict[str, str]) -> None:
        sourced = {**written, "HOME": "/root", "SYNCERS": "2"}
        assert read_environment(sourced) == {"HOME": "/root", "SYNCERS": "2"}
        other = {**sourced, "REDIS_URL": "redis://mine"}
        assert read_environment(other)["REDIS_URL"] == "redis://mine"

    def test_secrets_in_files_make_a_part_real(self, tmp_path: Path) -> None:
        (tmp_path / "dsn").write_text("postgresql://db/leads\n")
        named = {"SUPABASE_CONNECTION_STRING_FILE": str(tmp_path / "dsn"), "ENV_FILE": ""}
        plan = make_plan(read_environment(named))
        assert plan.given["SUPABASE_CONNECTION_STRING"] == "postgresql://db/leads"
        assert "SUPABASE_CONNECTION_STRING_FILE" not in plan.given
        with pytest.raises(MisconfiguredError, match="GROQ_API_KEY_FILE=nowhere cannot be read"):
            read_environment({"GROQ_API_KEY_FILE": "nowhere", "ENV_FILE": ""})

    def test_another_file_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "mine.env").write_text("PORT=99\n")
        given = read_environment({"ENV_FILE": str(tmp_path / "mine.env")})
        assert given["PORT"] == "99"
        assert list(make_plan(given).notices) == []
