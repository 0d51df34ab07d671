"""Which tokens prove who is calling, and what happens when one cannot be checked."""

import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from services.api.web.problems import Problem
from tests.support.auth_server import SECRET, USER_ID, AuthServer, SigningKey
from tests.support.forged_tokens import forgeries
from tests.support.projects import OpenProject

FORGERIES = forgeries()


async def refusal(project: OpenProject, token: str, *, secret: str | None = None) -> Problem:
    with pytest.raises(Problem) as raised:
        await project(secret=secret).verifier.verify(f"Bearer {token}")
    return raised.value


def test_there_are_forgeries_enough() -> None:
    assert len(FORGERIES) >= 70


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused(name: str, auth: AuthServer, project: OpenProject) -> None:
    problem = await refusal(project, FORGERIES[name](auth))
    assert (problem.code, problem.status) == ("invalid-token", 401)
    assert problem.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused_by_a_project_with_a_secret(
    name: str, auth: AuthServer, project: OpenProject
) -> None:
    auth.published = []
    problem = await refusal(project, FORGERIES[name](auth), secret=SECRET)
    assert problem.status == 401


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (ECKey.generate_key("P-256", {"kid": "k"}), "ES256"),
        (RSAKey.generate_key(2048, {"kid": "k"}), "RS256"),
        (OKPKey.generate_key("Ed25519", {"kid": "k"}), "EdDSA"),
    ],
)
async def test_published_keys_verify(
    key: SigningKey, alg: str, auth: AuthServer, project: OpenProject
) -> None:
    auth.published = [key]
    token = auth.token(key=key, header={"alg": alg, "kid": "k"})
    user = await project().verifier.verify(f"Bearer {token}")
    assert user.id == USER_ID


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_the_scheme_is_written_in_any_case(
    scheme: str, auth: AuthServer, project: OpenProject
) -> None:
    assert (await project().verifier.verify(f"{scheme}{auth.token()}")).id == USER_ID


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Token abc"])
async def test_another_scheme_is_no_token(header: str, project: OpenProject) -> None:
    with pytest.raises(Problem) as raised:
        await project().verifier.verify(header)
    assert raised.value.code == "unauthenticated"
    assert raised.value.headers["WWW-Authenticate"] == "Bearer"


async def test_a_little_clock_skew_is_forgiven(auth: AuthServer, project: OpenProject) -> None:
    now = int(time.time())
    verifier = project().verifier
    for token in (auth.token(exp=now - 20), auth.token(nbf=now + 20), auth.token(iat=now + 20)):
        assert (await verifier.verify(f"Bearer {token}")).id == USER_ID


async def test_self_hosted_issuers_are_accepted(auth: AuthServer, project: OpenProject) -> None:
    for issuer in (auth.url, f"{auth.url}/", f"{auth.url}/auth/v1"):
        assert (await project().verifier.verify(f"Bearer {auth.token(iss=issuer)}")).id == USER_ID


async def test_a_verified_header_is_remembered(auth: AuthServer, project: OpenProject) -> None:
    verifier = project().verifier
    header = f"Bearer {auth.token()}"
    assert verifier.remembered(header) is None
    user = await verifier.verify(header)
    assert verifier.remembered(header) == user
    assert verifier.remembered(f"{header}x") is None


async def test_a_withdrawn_key_verifies_nothing_any_more(
    auth: AuthServer, project: OpenProject
) -> None:
    opened = project()
    verifier = opened.verifier
    header = f"Bearer {auth.token()}"
    await verifier.verify(header)
    auth.published = [ECKey.generate_key("P-256", {"kid": "next"})]
    await opened.keys.fetch()
    assert verifier.remembered(header) is None
    with pytest.raises(Problem) as raised:
        await verifier.verify(header)
    assert raised.value.code == "invalid-token"


async def test_without_an_auth_server_tokens_cannot_be_checked(
    auth: AuthServer, project: OpenProject
) -> None:
    auth.is_down = True
    problem = await refusal(project, auth.token())
    assert (problem.code, problem.status) == ("auth-unavailable", 503)
    assert "Retry-After" in problem.headers


async def test_keys_once_fetched_outlive_the_auth_server(
    auth: AuthServer, project: OpenProject
) -> None:
    verifier = project().verifier
    await verifier.verify(f"Bearer {auth.token()}")
    auth.is_down = True
    assert (await verifier.verify(f"Bearer {auth.token(aal='aal2')}")).id == USER_ID


class TestSharedSecret:
    """Projects that sign with HS256 and publish no keys."""

    async def test_the_secret_verifies_without_asking(
        self, auth: AuthServer, project: OpenProject
    ) -> None:
        auth.is_down = True
        verifier = project(secret=SECRET).verifier
        await verifier.check_ready()
        assert (await verifier.verify(f"Bearer {auth.secret_token()}")).id == USER_ID
        assert auth.asked_user == 0

    async def test_an_unknown_secret_is_left_to_the_auth_server(
        self, auth: AuthServer, project: OpenProject
    ) -> None:
        auth.published = []
        token = auth.secret_token()
        auth.valid_tokens = {token}
        verifier = project().verifier
        for _ in range(3):
            header = f"Bearer {token}"
            user = verifier.remembered(header) or await verifier.verify(header)
            assert user.id == USER_ID
        assert auth.asked_user == 1

    async def test_a_token_it_does_not_vouch_for_is_asked_about_once(
        self, auth: AuthServer, project: OpenProject
    ) -> None:
        auth.published = []
        verifier = project().verifier
        for _ in range(3):
            with pytest.raises(Problem) as raised:
                await verifier.verify(f"Bearer {auth.secret_token()}")
            assert raised.value.code == "invalid-token"
        assert auth.asked_user == 1

    async def test_claims_are_checked_before_it_is_asked(
        self, auth: AuthServer, project: OpenProject
    ) -> None:
        auth.published = []
        token = auth.secret_token(role="service_role")
        auth.valid_tokens = {token}
        assert (await refusal(project, token)).code == "invalid-token"
        assert auth.asked_user == 0

    async def test_its_word_is_only_for_the_user_it_names(
        self, auth: AuthServer, project: OpenProject
    ) -> None:
        auth.published = []
        token = auth.secret_token(sub="5b7a7c0e-54a2-4a34-9a3b-000000000000")
        auth.valid_tokens = {token}
        assert (await refusal(project, token)).code == "invalid-token"

    async def test_keys_that_are_published_need_not_sign(
        self, auth: AuthServer, project: OpenProject
    ) -> None:
        token = auth.secret_token()
        auth.valid_tokens = {token}
        verifier = project().verifier
        for header in (token, auth.token()):
            assert (await verifier.verify(f"Bearer {header}")).id == USER_ID
        assert auth.asked_user == 1

    async def test_another_secret_than_the_configured_one_locks_nobody_out(
        self, auth: AuthServer, project: OpenProject, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tokens = [auth.secret_token(aal=f"aal{number}") for number in range(3)]
        auth.valid_tokens = set(tokens)
        verifier = project(secret="another-secret-of-more-than-thirty-two-chars").verifier
        for token in tokens:
            assert (await verifier.verify(f"Bearer {token}")).id == USER_ID
        assert capsys.readouterr().out.count("SUPABASE_JWT_SECRET") == 1

    async def test_an_issuer_that_is_not_the_configured_one_is_logged(
        self, auth: AuthServer, project: OpenProject, capsys: pytest.CaptureFixture[str]
    ) -> None:
        custom: dict[str, Any] = {"iss": "https://api.example.com/auth/v1"}
        verifier = project(secret=SECRET).verifier
        for token, times in (
            (auth.token(key=ECKey.generate_key("P-256"), **custom), 0),  # anybody can write that
            (auth.token(**custom), 1),
            (auth.secret_token(**custom), 0),
        ):
            with pytest.raises(Problem) as raised:
                await verifier.verify(f"Bearer {token}")
            assert raised.value.code == "invalid-token"
            assert capsys.readouterr().out.count(custom["iss"]) == times

    @pytest.mark.parametrize("trouble", ["is_down", "is_hanging"])
    async def test_its_outage_is_not_the_callers_fault(
        self, trouble: str, auth: AuthServer, project: OpenProject
    ) -> None:
        auth.published = []
        verifier = project().verifier
        with pytest.raises(Problem):
            await verifier.verify(f"Bearer {auth.secret_token(aal='aal2')}")
        setattr(auth, trouble, True)
        with pytest.raises(Problem) as raised:
            await verifier.verify(f"Bearer {auth.secret_token()}")
        assert raised.value.code == "auth-unavailable"
