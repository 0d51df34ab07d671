"""The servers and stand-ins around the services: those that the plan does not have for real."""

from datetime import timedelta
from pathlib import Path

from devstack.console import Console
from devstack.environment import Groq, Plan, StandIns
from devstack.free_ports import LOOPBACK, free_ports
from devstack.postgres import EmbeddedPostgres
from devstack.server import EmbeddedServer
from devstack.service import Service, ServiceSpec, module
from devstack.valkey import EmbeddedValkey

GRACE = timedelta(seconds=1)


class Surroundings:
    """Created, not started: `servers` and `stand_ins` are for the supervisor."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._ports = free_ports(besides=plan.port)
        self._postgres = None if plan.has_postgres else self._new_postgres()
        self._valkey = None if plan.has_redis else self._new_valkey()
        self._auth = None if plan.has_supabase_auth else self._stand_in("supabase_auth")
        self._randomuser = None if plan.has_randomuser else self._stand_in("randomuser")
        self._groq = self._stand_in("groq") if plan.groq is Groq.STAND_IN else None

    @property
    def servers(self) -> list[EmbeddedServer]:
        return [server for server in (self._postgres, self._valkey) if server]

    @property
    def stand_ins(self) -> list[Service]:
        return [service for service in (self._auth, self._randomuser, self._groq) if service]

    @property
    def notices(self) -> list[str]:
        moved = self._postgres.notice if self._postgres else None
        return [*self._plan.notices, *([moved] if moved else [])]

    def where(self) -> StandIns:
        """Returns the addresses, once all is ready."""
        return StandIns(
            postgres=self._postgres.dsn if self._postgres else None,
            redis=self._valkey.url if self._valkey else None,
            supabase_uri=origin(self._auth) if self._auth else None,
            supabase_key=self._service_key() if self._auth else None,
            randomuser=f"{origin(self._randomuser)}/api/" if self._randomuser else None,
            groq=origin(self._groq) if self._groq else None,
        )

    def _new_postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(
            self._plan.data / "postgres",
            port=next(self._ports),
            on_line=self._console.sink("postgres"),
        )

    def _new_valkey(self) -> EmbeddedValkey:
        return EmbeddedValkey(
            self._plan.data / "valkey",
            port=next(self._ports),
            on_line=self._console.sink("valkey"),
        )

    def _stand_in(self, name: str) -> Service:
        port = next(self._ports)
        data = self._directory(name)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            **self._plan.given,
            "ENV_FILE": "",
            "STANDIN_PORT": str(port),
            "STANDIN_DATA_DIR": str(data),
        }
        arguments = module(f"devstack.standins.{name}")
        spec = ServiceSpec(name, arguments, environment, port, "/health", grace=GRACE)
        return Service(spec, on_line=self._console.sink(name))

    def _directory(self, name: str) -> Path:
        return self._plan.data / name

    def _service_key(self) -> str:
        return (self._directory("supabase_auth") / "service_key").read_text().strip()


def origin(service: Service) -> str:
    return f"http://{LOOPBACK}:{service.spec.port}"
