"""The project's signing keys: fetched seldom, kept through outages."""

import asyncio

import httpx
import pytest
from joserfc.jwk import ECKey, OctKey

from services.api.auth.keys import SigningKeys
from shared.background import background
from shared.domain.errors import UnavailableError
from tests.support.auth_server import AuthServer
from tests.support.eventually import eventually
from tests.support.projects import OpenProject


async def test_keys_are_fetched_ahead_of_need(auth: AuthServer, project: OpenProject) -> None:
    keys = project().keys
    with pytest.raises(UnavailableError):
        keys.check_age()

    async def are_known() -> bool:
        keys.check_age()
        return True

    async def retried() -> bool:
        try:
            return await are_known()
        except UnavailableError:
            return False

    async with background(keys.run(), name="signing keys"):
        assert await eventually(retried)
    assert await keys.find_key("current") is not None
    assert auth.asked_keys == 1


async def test_a_new_key_is_found_at_once(auth: AuthServer, project: OpenProject) -> None:
    keys = project().keys
    auth.published = [auth.key, ECKey.generate_key("P-256", {"kid": "next"})]
    assert await keys.find_key("next") is not None


async def test_unknown_kids_cost_one_request_in_a_second(
    auth: AuthServer, project: OpenProject
) -> None:
    keys = project().keys
    found = await asyncio.gather(*(keys.find_key(f"unknown-{number}") for number in range(50)))
    assert found == [None] * 50
    # The first did not wait for the rest, which the second answers.
    assert auth.asked_keys <= 2


@pytest.mark.parametrize("before", [["fetched"], ["unknown kid"], ["fetched", "unknown kid"]])
async def test_a_key_that_was_added_a_moment_ago_is_found(
    before: list[str], auth: AuthServer, project: OpenProject
) -> None:
    keys = project().keys
    for what in before:
        if what == "fetched":
            await keys.fetch()
        else:
            assert await keys.find_key("next") is None
    auth.published = [auth.key, ECKey.generate_key("P-256", {"kid": "next"})]
    assert await keys.find_key("next") is not None
    assert auth.asked_keys == len(before) + 1


async def test_the_projects_key_comes_along() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"keys": []})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        keys = SigningKeys(
            http, auth_url="https://ref.supabase.co/auth/v1", key="sb_x", on_change=lambda: None
        )
        await keys.fetch()
    assert asked[0].headers["apikey"] == "sb_x"


async def test_an_unknown_kid_is_an_open_question_while_the_server_is_down(
    auth: AuthServer, project: OpenProject
) -> None:
    keys = project().keys
    auth.is_down = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await keys.find_key("unknown")
    assert auth.asked_keys == 1


async def test_a_hanging_server_is_given_up(auth: AuthServer, project: OpenProject) -> None:
    auth.is_hanging = True
    with pytest.raises(UnavailableError):
        await project().keys.fetch()


async def test_shared_secrets_are_never_taken_from_the_page(
    auth: AuthServer, project: OpenProject
) -> None:
    keys = project().keys
    auth.published = [auth.key, OctKey.generate_key(256, {"kid": "secret"})]
    assert await keys.find_key("secret") is None
    assert await keys.find_key("current") is not None
