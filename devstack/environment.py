"""What the environment configures, and so what is left to stand-ins; nothing is started here.

A part of the system is real when its variables are set. Empty values and the placeholders of an
example file count as not set.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dotenv import dotenv_values

from devstack import CannotRunError

DEFAULT_PORT = 1234
DEFAULT_DATA = ".data"
DEFAULT_FILE = ".env"
API_KEY_FILE = "api_key"
STACK_FILE = "stack.env"
TARGETS_FILE = "targets.json"
# In a stack's own file only: the directory of its data.
STACK_DATA_DIR = "STACK_DATA_DIR"
HIGHEST_PORT = 65_535
MOST_REPLICAS = 64

# The variables that empty values and placeholders leave unset. All others, `LOG_LEVEL` or
# `CORS_ACCEPTED_ORIGINS` for instance, reach the services exactly as they are.
PARTS = (
    *("SUPABASE_CONNECTION_STRING", "SUPABASE_URI", "SUPABASE_KEY"),
    *("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "RANDOMUSER_URL"),
    *("GROQ", "GROQ_API_KEY", "GROQ_BASE_URL", "GROQ_MODEL", "SUMMARY_PROVIDER"),
    *("PORT", "API_KEY", "DATA_DIR", "API_WORKERS", "SYNCERS", "SUMMARIZERS"),
)
PLACEHOLDERS = (
    *("supabase-connection-string", "supabase-uri", "supabase-key"),
    *("groq-api-key", "groq-model", "api-key"),
)


class MisconfiguredError(CannotRunError):
    """A variable has a value that means nothing."""


class Groq(StrEnum):
    """Who writes the summaries."""

    REAL = "real"
    STAND_IN = "stand-in"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start, and `given`: the environment without the variables that are not set."""

    given: Mapping[str, str]
    data: Path
    port: int
    api_workers: int
    syncers: int
    summarizers: int
    groq: Groq

    @property
    def has_postgres(self) -> bool:
        return "SUPABASE_CONNECTION_STRING" in self.given

    @property
    def has_redis(self) -> bool:
        return "REDIS_URL" in self.given or "REDIS_HOST" in self.given

    @property
    def has_supabase_auth(self) -> bool:
        return "SUPABASE_URI" in self.given and "SUPABASE_KEY" in self.given

    @property
    def has_randomuser(self) -> bool:
        return "RANDOMUSER_URL" in self.given

    @property
    def notices(self) -> Iterator[str]:
        """What the user may have meant otherwise."""
        if not self.has_supabase_auth:
            for name in {"SUPABASE_URI", "SUPABASE_KEY"} & self.given.keys():
                yield f"{name} is set alone: the Supabase Auth stand-in is used all the same"
        if is_of_a_stack(self.given.get("ENV_FILE", "")):
            yield "ENV_FILE names what a stack has written: .env is read instead"


@dataclass(frozen=True, slots=True)
class StandIns:
    """Where the servers and stand-ins that were started are; None for what is real."""

    postgres: str | None = None
    redis: str | None = None
    supabase_uri: str | None = None
    supabase_key: str | None = None
    randomuser: str | None = None
    groq: str | None = None


def read_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Joins the `.env` file, or the one that `ENV_FILE` names, with the environment, which wins.

    What a stack has written for commands that talk to it is none of these: the next stack would
    take the servers of that one for its own.
    """
    path = environment.get("ENV_FILE", DEFAULT_FILE)
    kept = file_values(DEFAULT_FILE if is_of_a_stack(path) else path)
    written = file_values(str(Path(environment.get(STACK_DATA_DIR, "."), STACK_FILE)))
    own = written if STACK_DATA_DIR in environment else {}
    joined = kept | {
        name: value
        for name, value in environment.items()
        if name != STACK_DATA_DIR and own.get(name) != value
    }
    return with_secrets(joined)


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns it with what is in files in place of their names, as the services read them."""
    read = dict(environment)
    for name in PARTS:
        path = read.get(f"{name}_FILE")
        if path and not read.get(name):
            try:
                read[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError):
                raise MisconfiguredError(f"{name}_FILE={path} cannot be read") from None
            del read[f"{name}_FILE"]
    return read


def file_values(path: str) -> dict[str, str]:
    try:
        kept = dotenv_values(path) if path else {}
    except UnicodeDecodeError:  # as PowerShell's `>` writes it
        raise MisconfiguredError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
    return {name: value for name, value in kept.items() if value is not None}


def is_of_a_stack(path: str) -> bool:
    """Whether a file was written by a stack, see `write_stack_file`."""
    return Path(path).name == STACK_FILE or STACK_DATA_DIR in file_values(path)


def make_plan(environment: Mapping[str, str]) -> Plan:
    """Raises MisconfiguredError, which names the variable."""
    given = {name: value for name, value in environment.items() if is_set(name, value)}
    return Plan(
        given=given,
        data=Path(given.get("DATA_DIR", DEFAULT_DATA)).expanduser().absolute(),
        port=number(given, "PORT", default=DEFAULT_PORT, most=HIGHEST_PORT),
        api_workers=number(given, "API_WORKERS", default=1, most=MOST_REPLICAS),
        syncers=number(given, "SYNCERS", default=1, most=MOST_REPLICAS),
        summarizers=number(given, "SUMMARIZERS", default=1, most=MOST_REPLICAS),
        groq=groq_of(given),
    )


def is_set(name: str, value: str) -> bool:
    return name not in PARTS or (value.strip() not in PLACEHOLDERS and bool(value.strip()))


def number(given: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    text = given.get(name, str(default)).strip()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise MisconfiguredError(f"{name}={text}: expected a whole number from 1 to {most}")
    return int(text)


def groq_of(given: Mapping[str, str]) -> Groq:
    """`GROQ` decides for one run, so that a key in `.env` can stay where it is."""
    has_key = "GROQ_API_KEY" in given
    chosen = given.get("GROQ", "").strip()
    if chosen == Groq.REAL and not has_key:
        raise MisconfiguredError(f"GROQ={chosen} needs GROQ_API_KEY")
    if chosen:
        return named_groq(chosen)
    if given.get("SUMMARY_PROVIDER") == Groq.OFFLINE or not has_key:
        return Groq.OFFLINE
    return Groq.REAL


def named_groq(name: str) -> Groq:
    try:
        return Groq(name)
    except ValueError:
        choices = ", ".join(Groq)
        raise MisconfiguredError(f"GROQ={name}: expected one of {choices}") from None


def services_environment(plan: Plan, stand_ins: StandIns, *, api_key: str) -> dict[str, str]:
    """Returns all that the services read, so that they need no `.env` file."""
    started = {
        "SUPABASE_CONNECTION_STRING": stand_ins.postgres,
        "REDIS_URL": stand_ins.redis,
        "SUPABASE_URI": stand_ins.supabase_uri,
        "SUPABASE_KEY": stand_ins.supabase_key,
        "RANDOMUSER_URL": stand_ins.randomuser,
    }
    defaults = {"HEALTH_HOST": "127.0.0.1", "SHUTDOWN_DEADLINE": "6"}
    return {
        **defaults,
        **plan.given,
        **{name: value for name, value in started.items() if value is not None},
        **groq_environment(plan.groq, stand_ins.groq),
        "API_KEY": api_key,
        "PORT": str(plan.port),
        "REUSE_PORT": str(plan.api_workers > 1).lower(),
        "LOG_FORMAT": "json",
        "ENV_FILE": "",
    }


def groq_environment(groq: Groq, stand_in: str | None) -> dict[str, str]:
    match groq:
        case Groq.REAL:
            return {"SUMMARY_PROVIDER": "groq"}
        case Groq.STAND_IN:
            return {
                "SUMMARY_PROVIDER": "groq",
                "GROQ_API_KEY": "stand-in",
                "GROQ_BASE_URL": stand_in or "",
            }
        case Groq.OFFLINE:
            return {"SUMMARY_PROVIDER": "offline", "GROQ_API_KEY": ""}
