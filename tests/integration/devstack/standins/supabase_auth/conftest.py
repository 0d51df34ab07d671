"""A user of a project, who signs up, logs in and stays logged in."""

import pytest
from supabase_auth.errors import AuthApiError, AuthError
from supabase_auth.types import AuthResponse, Session

from tests.integration.devstack.standins.conftest import Project

EMAIL, PASSWORD = "ada@example.com", "correct horse"


async def sign_up(project: Project) -> Session:
    answer = await project.client().sign_up({"email": EMAIL, "password": PASSWORD})
    assert answer.session is not None
    return answer.session


async def log_in(project: Project, password: str = PASSWORD) -> AuthResponse:
    return await project.client().sign_in_with_password({"email": EMAIL, "password": password})


async def refresh(project: Project, token: str) -> Session:
    answer = await project.client().refresh_session(token)
    assert answer.session is not None
    return answer.session


def code_of(caught: pytest.ExceptionInfo[AuthError]) -> tuple[int, str | None]:
    assert isinstance(caught.value, AuthApiError)
    return caught.value.status, caught.value.code
