"""The API as a process: its start, its end, its logs."""

import asyncio
import signal
import sys
import time
from datetime import timedelta

import httpx
import orjson
import pytest

from services.api.settings import ApiSettings
from tests.support.api_process import environment_of, running_process
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.forked_process import ForkedProcess
from tests.support.repository import ROOT

END = timedelta(seconds=30)


async def ends(process: ForkedProcess) -> int:
    async with asyncio.timeout(END.total_seconds()):
        return await process.wait()


async def test_missing_settings_are_named(api_settings: ApiSettings) -> None:
    environment = environment_of(api_settings, port=0)
    del environment["SUPABASE_KEY"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.api"),
        cwd=ROOT,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    first, second = errors.decode().splitlines()
    assert first == "Wrong settings:"
    assert "SUPABASE_KEY is missing" in second


class TestSigterm:
    async def test_a_request_under_way_is_finished(
        self, api_settings: ApiSettings, auth: AuthServer
    ) -> None:
        async with (
            running_process(api_settings, CREATE_TIMEOUT="1") as api,
            client_of(api.url, auth) as client,
        ):
            creating = asyncio.create_task(client.post("/leads", json=lead_body()), name="create")
            await eventually(lambda: has_begun(creating))
            api.terminate()
            response = await creating
            assert response.status_code == 202
            assert response.headers["Connection"] == "close"
            assert await ends(api.process) == 0

    async def test_new_connections_are_refused_meanwhile(
        self, api_settings: ApiSettings, auth: AuthServer
    ) -> None:
        async with (
            running_process(api_settings, CREATE_TIMEOUT="1") as api,
            client_of(api.url, auth) as client,
        ):
            creating = asyncio.create_task(client.post("/leads", json=lead_body()), name="create")
            await eventually(lambda: has_begun(creating))
            api.terminate()

            async def refuses() -> bool:
                try:
                    async with client_of(api.url, auth) as other:
                        await other.get("/health")
                except httpx.ConnectError:
                    return True
                return False

            assert await eventually(refuses)
            assert not creating.done()
            await creating

    async def test_waiting_for_a_summary_is_cut_short_but_answered(
        self, api_settings: ApiSettings, auth: AuthServer
    ) -> None:
        async with (
            running_process(api_settings, CREATE_TIMEOUT="60", SHUTDOWN_DEADLINE="2") as api,
            client_of(api.url, auth) as client,
        ):
            creating = asyncio.create_task(client.post("/leads", json=lead_body()), name="create")
            await eventually(lambda: has_begun(creating))
            started = time.monotonic()
            api.terminate()
            assert (await creating).status_code == 202
            assert await ends(api.process) == 0
            assert time.monotonic() - started < 5

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_idle_connections_hold_nothing_up(
        self, number: signal.Signals, api_settings: ApiSettings, auth: AuthServer
    ) -> None:
        async with running_process(api_settings) as api, client_of(api.url, auth) as client:
            await client.get("/leads")
            started = time.monotonic()
            api.process.send_signal(number)
            assert await ends(api.process) == 0
            assert time.monotonic() - started < 3


async def test_two_processes_share_a_port(api_settings: ApiSettings, auth: AuthServer) -> None:
    async with running_process(api_settings, REUSE_PORT="true") as first:
        port = first.url.rpartition(":")[2]
        async with running_process(api_settings, REUSE_PORT="true", PORT=port) as second:
            first.terminate()
            assert await ends(first.process) == 0
            async with client_of(second.url, auth) as client:
                assert (await client.get("/leads")).status_code == 200


async def test_nothing_personal_is_logged(api_settings: ApiSettings, auth: AuthServer) -> None:
    canaries = ("canary@example.com", "canary-password", "+49 30 canary", "Canaria")
    async with (
        running_process(api_settings, CREATE_TIMEOUT="0.1", LOG_LEVEL="DEBUG") as api,
        client_of(api.url, auth) as client,
    ):
        token = client.headers["Authorization"].removeprefix("Bearer ")
        credentials = {"email": canaries[0], "password": canaries[1]}
        await client.post("/authentication/signup", json=credentials)
        await client.post("/authentication/login", json=credentials)
        body = lead_body(email=canaries[0], phone=canaries[2], firstName=canaries[3])
        await client.post("/leads", json=body)
        await client.post("/leads", json=body | {"lastName": canaries[3] * 20})
        await client.get(f"/leads/{canaries[0]}")
        await client.get(f"/{canaries[0]}", params={"q": canaries[3]})
        await client.get("/leads", params={"email": canaries[0]})
        await client.get("/leads", headers={"Authorization": f"Bearer {token}x"})
        api.terminate()
        await ends(api.process)
    lines = [orjson.loads(line) for line in api.lines]
    requests = [line for line in lines if line["event"] == "request.ended"]
    assert len(requests) >= 8
    assert all(line["request_id"] for line in requests)
    for canary in (*canaries, token, "sb_secret_tests"):
        assert canary not in api.output


def client_of(url: str, auth: AuthServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {auth.token()}"}, timeout=15
    )


async def has_begun(task: "asyncio.Task[httpx.Response]") -> bool:
    # Sent, and not answered: the API waits for an outcome that does not come.
    await asyncio.sleep(0.2)
    return not task.done()
