"""How often one may call, by whom calls are counted, and how often one may try to log in."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from services.api.settings import ApiSettings, Rate
from shared.settings import StreamsSettings
from tests.support.api import running_api
from tests.support.auth_project import Project, running_project
from tests.support.auth_server import AuthServer

MINUTE = timedelta(seconds=60)
CREDENTIALS = {"email": "ada@example.com", "password": "correct horse battery"}

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def serve(api_settings: ApiSettings, auth: AuthServer) -> Serve:
    """Return what serves an API with limits of one's own to a signed-in client."""

    def served(**limits: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        settings = replace(api_settings, limits=api_settings.limits.model_copy(update=limits))
        return running_api(settings, token=auth.token())

    return served


async def test_a_user_sees_how_many_calls_are_left(serve: Serve) -> None:
    async with serve(rate_limit=Rate(3, MINUTE)) as api:
        answers = [await api.get(f"/leads/{uuid4()}") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
    assert [answer.headers["RateLimit-Policy"] for answer in answers] == ['"user";q=3;w=60'] * 4
    usages = [re.fullmatch(r'"user";r=(\d);t=(\d+)', a.headers["RateLimit"]) for a in answers]
    assert [match[1] for match in usages if match] == ["2", "1", "0", "0"]
    refusal = answers[-1]
    assert refusal.json()["code"] == "rate-limited"
    assert 55 < int(refusal.headers["Retry-After"]) <= 60


async def test_users_do_not_share_a_limit_and_their_sessions_do(
    serve: Serve, auth: AuthServer
) -> None:
    async def status(token: str) -> int:
        answer = await api.get("/leads", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code

    async with serve(rate_limit=Rate(1, MINUTE)) as api:
        assert await status(auth.token(sub="ada")) == 200
        assert await status(auth.token(sub="ada", session_id=str(uuid4()))) == 429
        assert await status(auth.token(sub="grace")) == 200


async def test_processes_count_together(serve: Serve) -> None:
    rate = Rate(10, MINUTE)
    async with serve(rate_limit=rate) as first, serve(rate_limit=rate) as second:
        answers = [await api.get("/leads") for _ in range(8) for api in (first, second)]
    assert [answer.status_code for answer in answers].count(200) == 10


async def test_public_routes_are_counted_by_address(serve: Serve) -> None:
    async with serve(rate_limit_address=Rate(2, MINUTE)) as api:
        statuses = [(await api.post("/authentication/login")).status_code for _ in range(3)]
        assert statuses == [415, 415, 429]
        # The same address, and the user's own limit.
        assert (await api.get("/leads")).status_code == 200


async def test_guesses_of_the_operators_key_are_counted_too(serve: Serve) -> None:
    async with serve(rate_limit_address=Rate(2, MINUTE)) as api:
        statuses = [
            (await api.get("/admin/streams", headers={"X-API-Key": f"guess {n}"})).status_code
            for n in range(3)
        ]
    assert statuses == [401, 401, 429]


@pytest.mark.parametrize(
    "path",
    ["/health", "/health/serving", "/health/ready", "/docs", "/openapi.json", "/asyncapi.json"],
)
async def test_probes_and_documents_are_not_limited(path: str, serve: Serve) -> None:
    async with serve(rate_limit_address=Rate(1, MINUTE)) as api:
        answers = [await api.get(path) for _ in range(3)]
    assert 429 not in {answer.status_code for answer in answers}
    assert all("RateLimit" not in answer.headers for answer in answers)


async def test_limits_can_be_switched_off(serve: Serve) -> None:
    async with serve(rate_limit=None, rate_limit_address=Rate(1, MINUTE)) as api:
        answers = [await api.get("/leads") for _ in range(3)]
        answers += [await api.post("/authentication/login") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200, 415}
    assert all("RateLimit" not in answer.headers for answer in answers)


class TestAddresses:
    """Whom the limits of public routes take a caller for."""

    @staticmethod
    async def statuses(api: httpx.AsyncClient, forwarded: Sequence[str]) -> list[int]:
        return [
            (
                await api.post("/authentication/login", headers={"X-Forwarded-For": value})
            ).status_code
            for value in forwarded
        ]

    async def test_without_a_proxy_nothing_forwarded_is_believed(self, serve: Serve) -> None:
        async with serve(rate_limit_address=Rate(1, MINUTE)) as api:
            assert await self.statuses(api, ["192.0.2.1", "192.0.2.2"]) == [415, 429]

    async def test_with_a_proxy_what_it_added_counts_and_not_what_came_with_it(
        self, serve: Serve
    ) -> None:
        async with serve(rate_limit_address=Rate(1, MINUTE), forwarded_hops=1) as api:
            forged = ["198.51.100.1, 192.0.2.1", "198.51.100.2, 192.0.2.1", "192.0.2.2"]
            assert await self.statuses(api, forged) == [415, 429, 415]

    async def test_with_two_proxies_the_last_but_one_counts(self, serve: Serve) -> None:
        async with serve(rate_limit_address=Rate(1, MINUTE), forwarded_hops=2) as api:
            forged = ["x, 192.0.2.1, 10.0.0.9", "y, 192.0.2.1, 10.0.0.8", "192.0.2.3, 10.0.0.9"]
            assert await self.statuses(api, forged) == [415, 429, 415]

    async def test_addresses_of_one_network_are_one_caller(self, serve: Serve) -> None:
        async with serve(rate_limit_address=Rate(1, MINUTE), forwarded_hops=1) as api:
            same = ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"]
            assert await self.statuses(api, same) == [415, 429, 415]
            assert await self.statuses(api, ["::ffff:192.0.2.7", "192.0.2.7"]) == [415, 429]

    async def test_an_address_has_many_spellings(self, serve: Serve) -> None:
        callers = [
            ["203.0.113.9:50000", "203.0.113.9:50001", '"203.0.113.9:7"', "'203.0.113.9'"],
            ["203.0.113.10", "203.0.113.10:50000,", "x,, 203.0.113.10:1,,"],
            ["::ffff:203.0.113.11", "[::ffff:203.0.113.11]:50000", "64:ff9b::203.0.113.11"],
            [
                *("[2001:db8::9]:50000", '"[2001:db8::9]:50001"', "[2001:db8::9]", "2001:DB8::9"),
                *("2001:db8::9%eth0", "[2001:db8::9%25eth0]:443", "2001:db8:0:0:0:0:0:9:50000"),
            ],
            ["[2001:db8:0:9::9]:50000"],
        ]
        async with serve(rate_limit_address=Rate(1, MINUTE), forwarded_hops=1) as api:
            for spellings in callers:
                expected = [415] + [429] * (len(spellings) - 1)
                assert await self.statuses(api, spellings) == expected, spellings

    async def test_a_name_that_is_no_address_is_a_client_of_its_own(
        self, serve: Serve, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ["unknown", "UNKNOWN:50000", "_hidden", "_hidden", "1.2.3", "", "a" * 500]
        async with serve(rate_limit_address=Rate(1, MINUTE), forwarded_hops=1) as api:
            assert await self.statuses(api, names) == [415, 429, 415, 429, 415, 415, 415]
            # Neither those with an address nor the proxy itself have lost a call by that.
            assert await self.statuses(api, ["127.0.0.1", "192.0.2.1"]) == [415, 415]
        lines = [line for line in capsys.readouterr().out.splitlines() if "forwarded" in line]
        assert len(lines) == 1
        assert "http.forwarded_unreadable" in lines[0]
        assert "FORWARDED_HOPS" in lines[0]
        assert "unknown" not in lines[0]

    async def test_what_was_not_forwarded_counts_for_its_sender(
        self, serve: Serve, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with serve(rate_limit_address=Rate(1, MINUTE), forwarded_hops=2) as api:
            statuses = [(await api.post("/authentication/login")).status_code for _ in range(2)]
            assert statuses == [415, 429]
            assert await self.statuses(api, ["127.0.0.1"]) == [429]
        assert capsys.readouterr().out.count("http.not_forwarded") == 1


class TestLogIns:
    """Guessing passwords: Supabase would see one address, the API's."""

    @pytest.fixture
    async def project(self, tmp_path: Path) -> AsyncGenerator[Project]:
        async with running_project(tmp_path) as project:
            yield project

    @pytest.fixture
    def settings(self, project: Project, api_settings: ApiSettings) -> ApiSettings:
        """Return settings of an API with a proxy in front, so that tests choose their addresses."""
        settings = project.settings(api_settings)
        limits = settings.limits.model_copy(update={"forwarded_hops": 1})
        return replace(settings, limits=limits)

    @staticmethod
    async def log_in(
        api: httpx.AsyncClient, *, address: str = "192.0.2.1", **changes: str
    ) -> httpx.Response:
        return await api.post(
            "/authentication/login",
            json=CREDENTIALS | changes,
            headers={"X-Forwarded-For": address},
        )

    @pytest.mark.long
    async def test_a_thousand_tries_from_a_hundred_addresses_are_ten(
        self, settings: ApiSettings, project: Project
    ) -> None:
        async with running_api(settings) as one, running_api(settings) as other:
            await one.post("/authentication/signup", json=CREDENTIALS)
            async with (
                project.control.misbehaving(),
                httpx.AsyncClient(base_url=one.base_url, timeout=60) as first,
                httpx.AsyncClient(base_url=other.base_url, timeout=60) as second,
            ):
                # All at once would measure how long a busy machine keeps the count waiting.
                at_once = asyncio.Semaphore(50)

                async def guess(number: int) -> httpx.Response:
                    async with at_once:
                        return await self.log_in(
                            (first, second)[number % 2],
                            address=f"192.0.2.{number % 100}",
                            password=f"guess {number}",
                        )

                answers = await asyncio.gather(*(guess(number) for number in range(1000)))
                assert await project.control.counter("status_400") == 10
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(401), statuses.count(429)) == (10, 990)
        refusal = next(answer for answer in answers if answer.status_code == 429)
        assert 0 < int(refusal.headers["Retry-After"]) <= 900

    async def test_spellings_of_an_address_are_one_account(self, settings: ApiSettings) -> None:
        spellings = ("ada@example.com", "ADA@example.com", " ada@EXAMPLE.com ")
        async with running_api(settings) as api:
            statuses = [
                (await self.log_in(api, email=spellings[number % 3], password="wrong")).status_code
                for number in range(12)
            ]
        assert statuses == [401] * 10 + [429] * 2

    async def test_one_address_cannot_try_many_accounts(
        self, settings: ApiSettings, project: Project
    ) -> None:
        limits = settings.limits.model_copy(update={"login_limit_address": Rate(20, MINUTE)})
        async with (
            running_api(replace(settings, limits=limits)) as api,
            project.control.misbehaving(),
        ):
            answers = await asyncio.gather(
                *(self.log_in(api, email=f"user{number}@example.com") for number in range(25))
            )
            assert await project.control.counter("status_400") == 20
            assert (await self.log_in(api, address="192.0.2.2")).status_code == 401
        assert sorted(answer.status_code for answer in answers) == [401] * 20 + [429] * 5

    async def test_a_log_in_forgives_the_account(self, settings: ApiSettings) -> None:
        async with running_api(settings) as api:
            await api.post("/authentication/signup", json=CREDENTIALS)
            for _ in range(2):
                for _ in range(9):
                    assert (await self.log_in(api, password="wrong")).status_code == 401
                assert (await self.log_in(api)).status_code == 200

    @pytest.mark.parametrize("with_redis", [True, False])
    async def test_what_says_nothing_of_a_password_uses_up_no_attempt(
        self,
        with_redis: bool,  # noqa: FBT001 (a parameter of the table)
        settings: ApiSettings,
        project: Project,
    ) -> None:
        limits = {"login_limit": Rate(2, MINUTE), "login_limit_address": Rate(3, MINUTE)}
        settings = replace(settings, limits=settings.limits.model_copy(update=limits))
        if not with_redis:
            nowhere = StreamsSettings(redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}"))
            settings = replace(settings, streams=nowhere)
        async with running_api(settings) as api:
            for fault, status in (({"status": 503}, 503), ({"status": 429}, 429)):
                async with project.control.misbehaving(**fault, path_prefix="/auth/v1/token"):
                    answers = [await self.log_in(api) for _ in range(5)]
                    assert {answer.status_code for answer in answers} == {status}
                    assert await project.control.counter(f"status_{status}") == 5
            await api.post("/authentication/signup", json=CREDENTIALS)
            statuses = [(await self.log_in(api)).status_code for _ in range(5)]
            assert statuses == [200] * 5
            wrong = [(await self.log_in(api, password="wrong")).status_code for _ in range(3)]
            assert wrong == [401, 401, 429]

    async def test_an_address_that_is_not_confirmed_uses_up_no_attempt(
        self, tmp_path: Path, api_settings: ApiSettings
    ) -> None:
        async with running_project(tmp_path, autoconfirm=False) as project:
            settings = project.settings(api_settings, signup_confirmation="email")
            limits = settings.limits.model_copy(update={"login_limit": Rate(2, MINUTE)})
            async with running_api(replace(settings, limits=limits)) as api:
                await api.post("/authentication/signup", json=CREDENTIALS)
                answers = [await self.log_in(api) for _ in range(4)]
                assert {answer.json()["code"] for answer in answers} == {"email-not-confirmed"}
                # A guess of its password is one all the same.
                wrong = [await self.log_in(api, password="wrong") for _ in range(3)]
                assert [answer.status_code for answer in wrong] == [401, 401, 429]

    async def test_the_auth_server_counts_by_the_clients_address_too(
        self, tmp_path: Path, settings: ApiSettings
    ) -> None:
        async with (
            running_project(tmp_path, rate_limit=2) as project,
            running_api(project.settings(settings)) as api,
        ):
            for address in ("192.0.2.1", "203.0.113.9:50000", "2001:db8::1", "unknown"):
                statuses = [(await self.log_in(api, address=address)).status_code for _ in range(3)]
                assert statuses == [401, 401, 429], address
            refused = await api.post(
                "/authentication/refresh",
                json={"refresh_token": "abcdefghijkl"},
                headers={"X-Forwarded-For": "192.0.2.1"},
            )
            assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")

    async def test_no_address_of_a_person_stands_in_redis(
        self, settings: ApiSettings, redis: Redis
    ) -> None:
        async with running_api(settings) as api:
            await self.log_in(api)
        keys = [key.decode() for key in cast("list[bytes]", await redis.keys("limit:*"))]
        assert any(key.startswith("limit:login-account:") for key in keys)
        assert not any("ada" in key for key in keys)

    async def test_an_unknown_user_takes_as_long_as_a_wrong_password(
        self, settings: ApiSettings
    ) -> None:
        limits = settings.limits.model_copy(update={"login_limit": Rate(1000, MINUTE)})
        seconds: dict[str, list[float]] = {"ada@example.com": [], "bob@example.com": []}
        bodies: set[bytes] = set()
        async with running_api(replace(settings, limits=limits)) as api:
            await api.post("/authentication/signup", json=CREDENTIALS)
            for _ in range(9):
                for email, taken in seconds.items():
                    started = time.perf_counter()
                    answer = await self.log_in(api, email=email, password="wrong")
                    taken.append(time.perf_counter() - started)
                    assert answer.status_code == 401
                    bodies.add(answer.content)
        # The fastest: what else runs on the machine only adds to some of them.
        known, unknown = (min(taken) for taken in seconds.values())
        assert len(bodies) == 1
        assert known == pytest.approx(unknown, rel=0.5), (known, unknown)
