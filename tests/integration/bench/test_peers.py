"""The peers do what the product does for a create, or they would be no measure of it."""

import itertools
import shutil
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from bench.__main__ import peers_python
from bench.load import Load, NoLoadError
from bench.measurement import Bench, Books, Target
from bench.peer_processes import (
    PEERS,
    NoPeersError,
    Peer,
    RunningPeer,
    install_peers,
    running_peer,
)
from bench.system import System, stored_in
from bench.works.requests import new_leads
from tests.support.auth_server import AuthServer

LEAD = {"firstName": "Grace", "lastName": "Hopper", "email": "grace@example.com"}
NONE = timedelta()
ONE = Load(paths=["/leads"], headers={}, connections=4)


@pytest.fixture(scope="module")
async def python() -> Path:
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv("SSL_CERT_DIR")  # the system's are needed here
            return await install_peers()
    except NoPeersError as error:
        pytest.skip(f"the peers cannot be installed: {error}")


@pytest.fixture
async def system(postgres_dsn: str, redis_url: str) -> AsyncGenerator[System]:
    async with AuthServer() as auth:
        headers = {"Authorization": f"Bearer {auth.token()}"}
        keys = f"{auth.url}/auth/v1/.well-known/jwks.json"
        yield System(auth.url, postgres_dsn, redis_url, headers, {}, keys, ready_after=0)


@pytest.mark.long
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.module)
async def test_a_peer_creates_leads(
    peer: Peer, system: System, python: Path, tmp_path: Path
) -> None:
    async with running_peer(peer, system, python=python) as running:
        await refuses_what_the_product_refuses(running, system)
        if shutil.which("wrk") is not None:
            await is_measured(running, system, tmp_path)


async def refuses_what_the_product_refuses(peer: RunningPeer, system: System) -> None:
    async with httpx.AsyncClient(base_url=peer.url, headers=system.headers, timeout=30) as http:
        created = await http.post("/leads", json=LEAD)
        assert created.status_code == 201, created.text
        assert created.json().items() >= LEAD.items()
        assert (await http.post("/leads", json=LEAD)).status_code == 409
        assert (await http.post("/leads", json=LEAD | {"email": "grace"})).status_code == 422
        strange = {"Authorization": "Bearer a.b.c"}
        assert (await http.post("/leads", json=LEAD, headers=strange)).status_code == 401
    async with httpx.AsyncClient(base_url=peer.url) as http:
        assert (await http.post("/leads", json=LEAD)).status_code == 401


async def is_measured(peer: RunningPeer, system: System, scratch: Path) -> None:
    bench = Bench(rounds=1, seconds=1, rows=0, backlog=0, scratch=scratch)
    rows = stored_in(peer.dsn, "peer_lead")
    [[done]] = await bench.measure(Target(peer.url, new_leads(system, 1), rows, peer.name))
    assert done.answers <= await rows(0)


@pytest.mark.parametrize(
    ("stored", "is_right"),
    [(100, True), (108, True), (109, False), (0, False), (99, False)],
    ids=["all", "unanswered", "too-many", "none", "one-is-missing"],
)
async def test_rows_are_held_against_answers(*, stored: int, is_right: bool) -> None:
    counted = itertools.repeat(stored)

    async def rows(_first: int) -> int:
        return next(counted)

    books = Books(Target("", ONE, rows, "it"), rows, first=1, rounds=2, answers=100, patience=NONE)
    if is_right:
        await books.reconcile()
    else:
        with pytest.raises(NoLoadError, match=f"it has answered 100 .* stored {stored} rows"):
            await books.reconcile()


async def test_rows_of_an_earlier_load_are_not_counted(postgres_dsn: str) -> None:
    numbered = """
        (SELECT 'ada.' || number || '@example.com' AS email FROM generate_series(8, 11) AS number)
        AS lead
    """
    assert [await stored_in(postgres_dsn, numbered)(first) for first in (1, 10, 12)] == [4, 2, 0]
    others = "(VALUES ('grace@example.com'), ('ada.lovelace@example.com')) AS lead (email)"
    assert await stored_in(postgres_dsn, others)(1) == 0


async def test_rows_that_come_late_are_waited_for() -> None:
    counted = iter([0, 60, 100])

    async def rows(_first: int) -> int:
        return next(counted)

    await Books(Target("", ONE, rows), rows, first=1, rounds=1, answers=100).reconcile()
    assert next(counted, None) is None


def test_without_a_network_the_peers_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    environment = tmp_path / "peers"

    assert peers_python(Console(), environment=environment) is None
    assert "Going on without the peers" in capsys.readouterr().out
    # What is not whole is made anew at the next try.
    assert not (environment / "installed.lock").exists()
