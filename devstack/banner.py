"""What the terminal shows when the stack is ready: what runs where, and what to try."""

from collections.abc import Iterator
from io import StringIO
from urllib.parse import urlsplit

import rich.console
from rich.table import Table

from devstack.environment import API_KEY_FILE, Groq, Plan, StandIns

WIDTH = 100
ACCOUNT = '{"email": "ada@example.com", "password": "analytical engine"}'
Row = tuple[str, str, str]


def banner(plan: Plan, stand_ins: StandIns, *, seconds: float, is_coloured: bool) -> str:
    table = Table(title=f"Ready after {seconds:.1f} s", title_justify="left", show_header=False)
    for row in rows(plan, stand_ins):
        table.add_row(*row)
    text = StringIO()
    screen = rich.console.Console(
        file=text, width=WIDTH, force_terminal=is_coloured, no_color=not is_coloured
    )
    screen.print(table)
    return f"\n{text.getvalue()}\n{hints(plan)}\n"


def rows(plan: Plan, stand_ins: StandIns) -> Iterator[Row]:
    given = plan.given
    yield "API", f"http://localhost:{plan.port}", copies(plan)
    yield (
        "PostgreSQL",
        address(stand_ins.postgres or given["SUPABASE_CONNECTION_STRING"]),
        "yours" if plan.has_postgres else f"embedded, data in {plan.data}",
    )
    yield (
        "Redis",
        address(stand_ins.redis or given.get("REDIS_URL") or redis_address(plan)),
        "yours" if plan.has_redis else "embedded Valkey",
    )
    yield (
        "Supabase Auth",
        address(stand_ins.supabase_uri or given["SUPABASE_URI"]),
        "yours" if plan.has_supabase_auth else "stand-in: set SUPABASE_URI and SUPABASE_KEY",
    )
    yield (
        "Random User",
        address(stand_ins.randomuser or given["RANDOMUSER_URL"]),
        "yours" if plan.has_randomuser else "stand-in: set RANDOMUSER_URL",
    )
    yield groq_row(plan, stand_ins)


def groq_row(plan: Plan, stand_ins: StandIns) -> Row:
    match plan.groq:
        case Groq.REAL:
            return "Groq", address(plan.given.get("GROQ_BASE_URL", "https://api.groq.com")), "yours"
        case Groq.STAND_IN:
            return "Groq", address(stand_ins.groq or ""), "stand-in: unset GROQ"
        case Groq.OFFLINE:
            return "Groq", "-", "offline rules write the summaries: set GROQ_API_KEY"


def copies(plan: Plan) -> str:
    return f"{plan.api_workers} api, {plan.syncers} syncer, {plan.summarizers} summarizer"


def redis_address(plan: Plan) -> str:
    return f"redis://{plan.given['REDIS_HOST']}:{plan.given.get('REDIS_PORT', '6379')}"


def address(url: str) -> str:
    """Host and port alone: user names, passwords and keys stay off the terminal."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a password that should have been percent-encoded, for instance
        return "?"
    host = parts.hostname or "?"
    return f"{host}:{port}" if port else host


def hints(plan: Plan) -> str:
    return "\n".join(
        (
            "Try it in a second terminal: sign up, then log in",
            *(curl(plan, action) for action in ("signup", "login")),
            *key_hint(plan),
            "Ctrl-C stops everything and keeps the data. The log of all services follows.",
        )
    )


def key_hint(plan: Plan) -> Iterator[str]:
    if "API_KEY" not in plan.given:
        yield f"The operators' API key is in {plan.data / API_KEY_FILE}"


def curl(plan: Plan, action: str) -> str:
    return (
        f"  curl http://localhost:{plan.port}/authentication/{action} "
        f"-H 'Content-Type: application/json' -d '{ACCOUNT}'"
    )
