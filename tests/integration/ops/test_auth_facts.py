"""What the doctor finds of a Supabase project: the stand-in, with right and wrong settings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from devstack.free_ports import free_port
from shared.administration.doctor.auth_facts import auth_facts, of_auth
from shared.administration.doctor.diagnosis import Severity
from shared.domain.errors import UnavailableError
from shared.settings import ProjectSettings
from tests.support.auth_project import Project, running_project

SECRET = SecretStr("a-shared-secret-of-at-least-32-characters")
OTHER = SecretStr("another-secret-of-more-than-32-characters")


def settings(project: Project, **changes: Any) -> ProjectSettings:
    right: dict[str, Any] = {
        "supabase_uri": project.url,
        "supabase_key": SecretStr(project.service_key),
    }
    return ProjectSettings(**(right | changes))


async def failures(project: ProjectSettings) -> dict[str, Severity]:
    findings = of_auth(await auth_facts(project))
    assert all((one.advice is None) == (one.severity is Severity.OK) for one in findings)
    return {one.check: one.severity for one in findings if one.severity is not Severity.OK}


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_a_project_as_it_should_be(secret: SecretStr | None, tmp_path: Path) -> None:
    async with running_project(tmp_path, jwt_secret=secret) as project:
        facts = await auth_facts(settings(project, supabase_jwt_secret=secret))
        assert (facts.rank, facts.keys) == ("secret", 0 if secret else 1)
        assert facts.accepts_secret is (True if secret else None)
        assert await failures(settings(project, supabase_jwt_secret=secret)) == {}


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_wrong_settings_are_found(secret: SecretStr | None, tmp_path: Path) -> None:
    async with running_project(tmp_path, jwt_secret=secret) as project:
        for wrong, found in (
            ({"supabase_key": SecretStr(project.anon_key)}, {"auth key": Severity.WARNING}),
            ({"supabase_key": SecretStr("sb_secret_x")}, {"auth key": Severity.FAILURE}),
            ({"supabase_jwt_secret": OTHER}, {"auth secret": Severity.FAILURE}),
            ({"supabase_jwt_issuer": "https://x.test"}, {"auth issuer": Severity.FAILURE}),
        ):
            assert await failures(settings(project, **wrong)) == found, wrong


async def test_a_custom_domain_is_not_the_issuer(tmp_path: Path) -> None:
    origin = "https://ref.supabase.co"
    async with running_project(tmp_path, origin=origin) as project:
        assert await failures(settings(project)) == {"auth issuer": Severity.FAILURE}
        right = settings(project, supabase_jwt_issuer=f"{origin}/auth/v1")
        assert await failures(right) == {}


async def test_a_secret_that_was_revoked_opens_this_api_still(tmp_path: Path) -> None:
    async with running_project(tmp_path, jwt_secret=SECRET) as project:
        ours = settings(project, supabase_jwt_secret=SECRET)
        for change, found in (
            ("add-standby", {}),
            ("rotate", {}),
            ("revoke", {"auth secret": Severity.FAILURE}),
        ):
            await project.control.change_keys(change)
            assert await failures(ours) == found, change


async def test_an_auth_server_that_is_away_is_one(tmp_path: Path) -> None:
    nowhere = ProjectSettings(
        supabase_uri=f"http://127.0.0.1:{free_port()}", supabase_key=SecretStr("sb_secret_x")
    )
    with pytest.raises(UnavailableError):
        await auth_facts(nowhere)
    async with running_project(tmp_path) as project:
        for fault in ({"status": 503}, {"status": 500}):
            async with project.control.misbehaving(**fault, path_prefix="/auth/v1"):
                with pytest.raises(UnavailableError):
                    await auth_facts(settings(project))
