"""What the stand-ins share: where they listen, faults on demand, and an end on SIGTERM.

`GET /_control` shows the faults in force, the counters and, where kept, the last request.
`POST /_control` changes the faults named in its JSON object, and `DELETE /_control` returns to how
the process was started. Only callers on this machine may. The faults every stand-in has are the
fields of `Faults`, for instance

    curl -d '{"status": 503, "path_prefix": "/auth/v1/token"}' http://127.0.0.1:9999/_control

and `STANDIN_FAULTS`, the same JSON object, sets them at start.
"""

import asyncio
import ipaddress
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Annotated, Any, Generic, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import SettingsConfigDict
from yarl import URL

from shared.settings import Group, SettingsError, SettingsGroup, load

KEEPALIVE = timedelta(seconds=15)
SHUTDOWN_GRACE = timedelta(seconds=2)
# Callers that come by the hundred at once must not wait for a lost SYN to be sent again.
BACKLOG = 1024
GARBAGE = "<!doctype html><title>Welcome</title><p>This is not the page you are looking for."

Seconds = Annotated[timedelta, Field(ge=timedelta(0))]


class ListenSettings(SettingsGroup):
    """Where a stand-in listens. Port 0 takes any free one."""

    model_config = SettingsConfigDict(env_prefix="STANDIN_")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)


class Faults(BaseModel):
    """How a stand-in misbehaves; the defaults are good behaviour.

    `status` answers every call with it, `error_rate` answers that share of them with 500, `hang`
    never answers, `garbage` answers 200 with a body that is no JSON. All wait for `delay` first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_timedelta="float")

    delay: Seconds = timedelta(0)
    status: int | None = Field(default=None, ge=400, le=599)
    error_rate: float = Field(default=0, ge=0, le=1)
    hang: bool = False
    garbage: bool = False
    path_prefix: str = "/"


FaultsT = TypeVar("FaultsT", bound=Faults)
Refuse = Callable[[int], web.Response]


class Control(Generic[FaultsT]):
    """The faults in force and the counters of one stand-in."""

    def __init__(self, faults: FaultsT) -> None:
        self._initial = faults
        self.faults = faults
        self.counters: Counter[str] = Counter()
        self.last_request: object = None
        self.closing = asyncio.Event()
        self._errors_owed = 0.0

    def change(self, changes: Mapping[str, object]) -> None:
        """Raises `pydantic.ValidationError` for a fault that does not exist or cannot be."""
        self.faults = type(self.faults).model_validate({**self.faults.model_dump(), **changes})

    def reset(self) -> None:
        self.faults = self._initial
        self.counters = Counter(in_flight=self.counters["in_flight"])
        self.last_request = None
        self._errors_owed = 0.0

    def view(self) -> dict[str, object]:
        return {
            "faults": self.faults.model_dump(mode="json"),
            "counters": dict(self.counters),
            "last_request": self.last_request,
        }

    def is_error_due(self) -> bool:
        """Spreads the error rate evenly: 0.25 is every fourth call, and no luck in tests."""
        self._errors_owed += self.faults.error_rate
        if self._errors_owed < 1:
            return False
        self._errors_owed -= 1
        return True

    @contextmanager
    def call(self) -> Generator[None]:
        """Counts a call while it is under way."""
        self.counters["requests"] += 1
        self.counters["in_flight"] += 1
        self.counters["most_in_flight"] = max(
            self.counters["most_in_flight"], self.counters["in_flight"]
        )
        try:
            yield
        finally:
            self.counters["in_flight"] -= 1


def install(app: web.Application, control: Control[Any], *, refuse: Refuse) -> None:
    """Adds `/health`, `/_control` and the faults; `refuse` words an error as the vendor does."""
    operator = _Operator(control)
    app.router.add_get("/health", _health)
    app.router.add_get("/_control", operator.show)
    app.router.add_post("/_control", operator.change)
    app.router.add_delete("/_control", operator.reset)
    # The faults come first: a server that is down does not check keys.
    app.middlewares.insert(0, _faults_of(control, refuse))
    app.on_shutdown.append(operator.let_go)


def _faults_of(control: Control[Any], refuse: Refuse) -> Any:
    @web.middleware
    async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/health" or request.path.startswith("/_control"):
            return await handler(request)
        with control.call():
            response = await _fault(control, request.path, refuse) or await handler(request)
        control.counters[f"status_{response.status}"] += 1
        return response

    return misbehave


async def _fault(control: Control[Any], path: str, refuse: Refuse) -> web.Response | None:
    faults = control.faults
    if not path.startswith(faults.path_prefix):
        return None
    if faults.delay:
        await asyncio.sleep(faults.delay.total_seconds())
    if faults.hang:
        await control.closing.wait()
        return refuse(503)
    if faults.status is not None:
        return refuse(faults.status)
    if control.is_error_due():
        return refuse(500)
    if faults.garbage:
        # Under a JSON label, as a broken proxy may: a client that trusts it meets its JSON parser.
        return web.Response(text=GARBAGE, content_type="application/json")
    return None


class _Operator:
    """The handlers of `/_control`."""

    def __init__(self, control: Control[Any]) -> None:
        self._control = control

    async def show(self, request: web.Request) -> web.Response:
        require_loopback(request)
        return web.json_response(self._control.view())

    async def change(self, request: web.Request) -> web.Response:
        require_loopback(request)
        try:
            self._control.change(await request.json())
        except (ValidationError, ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(self._control.view())

    async def reset(self, request: web.Request) -> web.Response:
        require_loopback(request)
        self._control.reset()
        return web.json_response(self._control.view())

    async def let_go(self, _app: web.Application) -> None:
        self._control.closing.set()


def require_loopback(request: web.Request) -> None:
    """Raises `HTTPForbidden` for a caller from elsewhere."""
    if request.remote is None or not ipaddress.ip_address(request.remote).is_loopback:
        raise web.HTTPForbidden(text="only from this machine")


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


@asynccontextmanager
async def running(app: web.Application, listen: ListenSettings) -> AsyncGenerator[URL]:
    """Serves the application; yields its address."""
    runner = web.AppRunner(
        app,
        access_log=None,
        # A caller that gave up waiting frees the handler that hangs on purpose.
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE.total_seconds(),
        shutdown_timeout=SHUTDOWN_GRACE.total_seconds(),
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port, backlog=BACKLOG).start()
        yield URL.build(scheme="http", host=listen.host, port=runner.addresses[0][1])
    finally:
        await runner.cleanup()


def settings_or_exit(group: type[Group]) -> Group:
    """The process' settings; one that has none says what is missing and ends."""
    try:
        return load(group)
    except SettingsError as error:
        sys.exit(f"Cannot start, the STANDIN_ variables are incomplete or wrong:\n{error}")


def serve(name: str, app: web.Application, *, listen: ListenSettings) -> None:
    """Runs a stand-in until SIGTERM or SIGINT."""
    asyncio.run(_serve(name, app, listen))


async def _serve(name: str, app: web.Application, listen: ListenSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(app, listen) as url:
        sys.stdout.write(f"{name} stand-in listens on {url}\n")
        sys.stdout.flush()
        await stop.wait()
