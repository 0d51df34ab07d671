"""The stand-ins in this process on free ports, and the vendors' own clients to talk to them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from supabase_auth import AsyncGoTrueClient
from yarl import URL

from devstack.standins import groq as groq_standin
from devstack.standins import randomuser as randomuser_standin
from devstack.standins import supabase_auth as auth_standin
from devstack.standins.serving import running


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Project:
    """A Supabase project as its owner knows it."""

    url: str
    data_dir: Path
    http: httpx.AsyncClient

    @property
    def service_key(self) -> str:
        return (self.data_dir / "service_key").read_text()

    @property
    def anon_key(self) -> str:
        return (self.data_dir / "anon_key").read_text()

    def client(self, *, key: str | None = None, token: str | None = None) -> AsyncGoTrueClient:
        """A client with no session, as the API makes one for each call."""
        key = key or self.anon_key
        return AsyncGoTrueClient(
            url=f"{self.url}/auth/v1",
            headers={"apikey": key, "Authorization": f"Bearer {token or key}"},
            auto_refresh_token=False,
            persist_session=False,
            http_client=self.http,
        )

    def admin(self) -> AsyncGoTrueClient:
        return self.client(key=self.service_key)


OpenProject = Callable[[auth_standin.SupabaseAuthSettings], AbstractAsyncContextManager[Project]]


@pytest.fixture
def open_project(http: httpx.AsyncClient) -> OpenProject:
    @asynccontextmanager
    async def project(settings: auth_standin.SupabaseAuthSettings) -> AsyncGenerator[Project]:
        async with running(auth_standin.create_app(settings), settings) as url:
            yield Project(str(url.origin()), settings.data_dir, http)

    return project


@pytest.fixture
async def project(open_project: OpenProject, tmp_path: Path) -> AsyncGenerator[Project]:
    async with open_project(auth_standin.SupabaseAuthSettings(data_dir=tmp_path)) as opened:
        yield opened


@pytest.fixture
async def groq_url() -> AsyncGenerator[URL]:
    settings = groq_standin.GroqSettings()
    async with running(groq_standin.create_app(settings), settings) as url:
        yield url


@pytest.fixture
async def randomuser_url() -> AsyncGenerator[URL]:
    settings = randomuser_standin.RandomUserSettings()
    async with running(randomuser_standin.create_app(settings), settings) as url:
        yield url
