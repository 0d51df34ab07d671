"""A Supabase project that keeps accounts: the stand-in, in this process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from devstack.standins import supabase_auth
from devstack.standins.serving import running
from services.api.auth.tokens import unverified_claims
from services.api.settings import ApiSettings
from tests.support.standin_control import StandInControl


@dataclass(frozen=True, slots=True)
class Project:
    """Where the auth server is, its keys, and its remote control."""

    url: str
    service_key: str
    anon_key: str

    @property
    def control(self) -> StandInControl:
        return StandInControl(self.url)

    async def change_user(self, session: dict[str, Any], method: str, **changes: Any) -> None:
        """Change (PUT) or DELETE the user of a session, as an administrator does."""
        user_id = unverified_claims(session["access_token"])["sub"]
        url = f"{self.url}/auth/v1/admin/users/{user_id}"
        async with httpx.AsyncClient(headers={"apikey": self.service_key}) as http:
            (await http.request(method, url, json=changes)).raise_for_status()

    def settings(self, settings: ApiSettings, **changes: Any) -> ApiSettings:
        """Return settings by which an API uses this project."""
        auth = {"supabase_uri": self.url, "supabase_key": SecretStr(self.service_key), **changes}
        return replace(settings, auth=settings.auth.model_copy(update=auth))


@asynccontextmanager
async def running_project(directory: Path, **standin: Any) -> AsyncGenerator[Project]:
    """Run a project for the length of the block."""
    settings = supabase_auth.SupabaseAuthSettings(data_dir=directory, **standin)
    async with running(supabase_auth.create_app(settings), settings) as url:
        yield Project(
            str(url).rstrip("/"),
            (directory / "service_key").read_text(),
            (directory / "anon_key").read_text(),
        )
