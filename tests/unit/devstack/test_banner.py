"""What is shown when the stack is ready."""

import pytest

from devstack.banner import address, banner
from devstack.environment import StandIns, make_plan


def test_it_names_stand_ins_and_hides_secrets() -> None:
    shown = banner(
        make_plan({"DATA_DIR": "/srv/leads", "PORT": "8080"}),
        StandIns(
            postgres="postgresql://postgres:hidden@127.0.0.1:20001/leads",
            redis="redis://:hidden@127.0.0.1:20002/0",
            supabase_uri="http://127.0.0.1:20003",
            supabase_key="sb_secret_hidden",
            randomuser="http://127.0.0.1:20004/api/",
        ),
        seconds=1.23,
        is_coloured=False,
    )
    assert "hidden" not in shown
    assert "\x1b[" not in shown
    assert "127.0.0.1:20001" in shown
    assert "/srv/leads" in shown
    assert shown.count("stand-in:") == 2
    assert shown.count("curl http://localhost:8080/authentication/") == 2


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
        seconds=1,
        is_coloured=False,
    )
    assert "hidden" not in shown
    assert shown.count("yours") == 5
    for host in ("db.example.com:6543", "cache.example.com:6379", "randomuser.me", "api.groq.com"):
        assert host in shown


@pytest.mark.parametrize("url", ["postgresql:///leads?host=/var/run", "redis://:a:b@h:x/", "", "["])
def test_an_odd_address_is_no_reason_to_fail(url: str) -> None:
    assert address(url) == "?"
