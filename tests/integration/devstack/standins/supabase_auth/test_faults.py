"""Faults of Supabase Auth, as its client library takes them."""

import json

import pytest
from pydantic import ValidationError
from supabase_auth.errors import AuthApiError, AuthError, AuthRetryableError

from tests.integration.devstack.standins.conftest import Project
from tests.integration.devstack.standins.supabase_auth.conftest import EMAIL, log_in, sign_up


@pytest.mark.parametrize(
    ("faults", "error", "code"),
    [
        ({"status": 429}, AuthApiError, "over_request_rate_limit"),
        ({"status": 500}, AuthApiError, "unexpected_failure"),
        ({"status": 503}, AuthRetryableError, None),
        ({"status": 504}, AuthRetryableError, None),
        ({"error_rate": 1}, AuthApiError, "unexpected_failure"),
    ],
)
async def test_faults_reach_the_library_as_its_errors(
    project: Project, faults: dict[str, object], error: type[AuthError], code: str | None
) -> None:
    await project.http.post(f"{project.url}/_control", json=faults)
    with pytest.raises(error) as caught:
        await log_in(project)
    assert caught.value.code == code
    await project.http.delete(f"{project.url}/_control")
    assert (await sign_up(project)).user.email == EMAIL


async def test_a_fault_can_be_kept_to_one_path(project: Project) -> None:
    faults = {"status": 503, "path_prefix": "/auth/v1/token"}
    await project.http.post(f"{project.url}/_control", content=json.dumps(faults))
    await sign_up(project)
    with pytest.raises(AuthRetryableError):
        await log_in(project)


async def test_garbage_breaks_the_library(project: Project) -> None:
    await project.http.post(f"{project.url}/_control", json={"garbage": True})
    with pytest.raises(ValidationError):
        await log_in(project)
