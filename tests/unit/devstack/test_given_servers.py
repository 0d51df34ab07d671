"""A server that the environment names and that is not there is named, with its variable."""

import socket

import pytest

from devstack.environment import make_plan
from devstack.given_servers import said, unreachable

# Nothing listens on the port "discard" of this machine.
REFUSED = [
    ({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "9"}, "Redis at 127.0.0.1:9 refuses (REDIS_HOST)"),
    ({"REDIS_URL": "redis://:x@127.0.0.1:9/0"}, "Redis at 127.0.0.1:9 refuses (REDIS_URL)"),
    (
        {"SUPABASE_CONNECTION_STRING": "postgresql://u:secret@127.0.0.1:9/db"},
        "PostgreSQL at 127.0.0.1:9 refuses (SUPABASE_CONNECTION_STRING)",
    ),
    (
        {"SUPABASE_URI": "http://127.0.0.1:9", "SUPABASE_KEY": "k"},
        "Supabase Auth at 127.0.0.1:9 refuses (SUPABASE_URI)",
    ),
]


@pytest.mark.parametrize(("given", "says"), REFUSED)
async def test_one_that_is_away_is_named(given: dict[str, str], says: str) -> None:
    assert await unreachable(make_plan(given)) == [says]


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://a:1,b:2/group/0", "unix:///run/redis.sock", "redis://:p#ss@host:x/0"],
)
async def test_what_is_no_one_address_is_left_to_the_services(url: str) -> None:
    assert await unreachable(make_plan({"REDIS_URL": url})) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(), "is not known"),
        (TimeoutError(), "does not answer"),
        (OSError("no route"), "cannot be reached"),
    ],
)
def test_what_went_wrong_is_said(error: OSError, says: str) -> None:
    assert said(error) == says


async def test_one_that_listens_is_no_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        plan = make_plan({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port})
        assert await unreachable(plan) == []
    assert await unreachable(make_plan({})) == []
