"""compose.yaml is valid, passes all settings on, and gives no container more than it needs."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import redis
import yaml
from jsonschema import Draft7Validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from devstack.free_ports import free_port
from devstack.servers.binaries import valkey_server
from ops.exporter.settings import ExporterSettings
from services.api.settings import ApiSettings, HttpSettings
from services.summarizer.settings import SummarizerSettings
from services.syncer.settings import SyncerSettings
from shared.settings import ConsumerSettings, PostgresSettings, SettingsGroup
from tests.support.eventually import eventually
from tests.support.example_environment import example_values
from tests.support.repository import ROOT

Service = dict[str, Any]

SCHEMA = ROOT / "tests/support/schemas/compose-spec.json"
SCALED = ("api", "syncer", "summarizer")
RUNNING = (*SCALED, "exporter")
OURS = (*RUNNING, "migrate", "backup")
OBSERVING = ("prometheus", "grafana", "collector")
ALL = ("proxy", *OURS, "postgres", "streams", "cache", "auth", "auth-database", *OBSERVING)
ONCE = ("migrate", "auth-database")
# The collector's image has no program to ask with.
LASTING = tuple(name for name in ALL if name not in {*ONCE, "collector"})

# Inside a container these are compose.yaml's to choose, or best left alone.
WIRING = {"API_HOST", "REUSE_PORT", "HEALTH_HOST", "HEALTH_PORT"}

# The one capability that anything has, and why: see the comment in compose.yaml.
CAPABILITIES = {"proxy": ["NET_BIND_SERVICE"]}

SECRETS = re.compile(r"(KEY|SECRET|PASSWORD|CONNECTION_STRING)$")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    # PyYAML resolves anchors and merge keys as Compose does.
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = compose["services"]
    assert set(found) >= set(ALL)
    return found


def settings_of(service: str) -> set[str]:
    """Return the variables that a service's process reads."""
    composed = {
        "api": ApiSettings,
        "syncer": SyncerSettings,
        "summarizer": SummarizerSettings,
        "exporter": ExporterSettings,
    }
    groups: list[type[SettingsGroup]] = [PostgresSettings]
    if service in composed:
        hints = get_type_hints(composed[service])
        groups = [hints[field.name] for field in dataclasses.fields(composed[service])]
    return {name.upper() for group in groups for name in group.model_fields}


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    validator = Draft7Validator(json.loads(SCHEMA.read_text()))

    assert [error.message for error in validator.iter_errors(compose)] == []


def test_the_schema_refuses_what_is_wrong(compose: dict[str, Any]) -> None:
    validator = Draft7Validator(json.loads(SCHEMA.read_text()))
    wrong = {**compose, "services": {"api": {"image": "api", "read_onyl": True}}}

    assert not validator.is_valid(wrong)


@pytest.mark.parametrize("name", OURS)
def test_it_passes_every_setting_that_a_service_reads(
    services: dict[str, Service], name: str
) -> None:
    passed = set(services[name]["environment"])

    assert settings_of(name) - WIRING - passed == set(), f"{name} would not get these"
    assert passed - settings_of(name) == set(), f"{name} reads none of these"


def test_it_uses_only_variables_that_the_example_explains() -> None:
    text = (ROOT / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)", text))

    assert used - example_values().keys() == set()
    assert {"PORT", "SUPABASE_URI", "STREAMS_APPENDFSYNC"} <= used


def test_no_secret_has_a_value_here(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            is_left_open = value is None or str(value).startswith("${")
            assert is_left_open or not SECRETS.search(variable), f"{name} gives {variable} a value"


def test_an_account_is_known_to_one_service_only(services: dict[str, Service]) -> None:
    for variable, owner in {"SUPABASE_KEY": "api", "GROQ_API_KEY": "summarizer"}.items():
        knowing = [
            name for name, service in services.items() if variable in service.get("environment", {})
        ]
        assert knowing == [owner], f"{variable} belongs to the {owner}"


@pytest.mark.parametrize("name", ALL)
class TestHardening:
    """Every container: little to gain for whoever breaks into it."""

    def test_runs_as_somebody_without_rights(self, services: dict[str, Service], name: str) -> None:
        assert services[name].get("user", "root") not in {"root", "0", "0:0"}, "set `user`"

    def test_cannot_write_but_where_it_must(self, services: dict[str, Service], name: str) -> None:
        assert services[name].get("read_only") is True, "set `read_only: true`"
        assert "/tmp" in services[name].get("tmpfs", []), "mount a tmpfs on /tmp"  # noqa: S108

    def test_has_no_capabilities(self, services: dict[str, Service], name: str) -> None:
        assert services[name].get("cap_drop") == ["ALL"], "set `cap_drop: [ALL]`"
        assert services[name].get("cap_add", []) == CAPABILITIES.get(name, [])
        assert not services[name].get("privileged", False)

    def test_gains_no_privileges(self, services: dict[str, Service], name: str) -> None:
        assert "no-new-privileges:true" in services[name].get("security_opt", [])

    def test_is_limited(self, services: dict[str, Service], name: str) -> None:
        assert "mem_limit" in services[name], "set `mem_limit`"
        assert "pids_limit" in services[name], "set `pids_limit`"

    def test_shares_nothing_of_the_host(self, services: dict[str, Service], name: str) -> None:
        for option in ("network_mode", "pid", "ipc", "userns_mode", "devices"):
            assert option not in services[name], f"drop `{option}`"
        assert not [mount for mount in services[name].get("volumes", []) if "docker.sock" in mount]

    def test_has_time_to_end(self, services: dict[str, Service], name: str) -> None:
        grace = int(services[name]["stop_grace_period"].removesuffix("s"))
        needed = ConsumerSettings().shutdown_deadline + HttpSettings().shutdown_delay
        assert grace >= needed.total_seconds() + 5

    def test_comes_back_by_itself(self, services: dict[str, Service], name: str) -> None:
        assert services[name]["restart"] == ("no" if name in ONCE else "unless-stopped")


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_has_a_healthcheck(services: dict[str, Service], name: str) -> None:
    check = services[name].get("healthcheck", {}).get("test", [])

    assert check[:1] == ["CMD"], "set a healthcheck that needs no shell"


def test_only_the_proxy_publishes_a_port(services: dict[str, Service]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert ports.pop("proxy") == ["${PORT:-1234}:8080", "${HTTPS_PORT:-1443}:8443"]
    # Without a password: to the host itself.
    assert ports == {"grafana": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]}


class TestObserving:
    """The profile `observability`."""

    @pytest.mark.parametrize("name", OBSERVING)
    def test_is_started_by_name_and_has_a_version(
        self, services: dict[str, Service], name: str
    ) -> None:
        assert services[name]["profiles"] == ["observability"]
        assert re.search(r":v?\d+\.\d+\.\d+", services[name]["image"])

    @pytest.mark.parametrize("name", OBSERVING)
    def test_mounts_what_there_is(self, services: dict[str, Service], name: str) -> None:
        mounts = [mount for mount in services[name]["volumes"] if mount.startswith("./")]

        assert mounts
        for mount in mounts:
            source, _target, mode = mount.split(":")
            assert (ROOT / source).is_file()
            assert mode == "ro"

    def test_prometheus_asks_each_service_where_it_answers(
        self, services: dict[str, Service]
    ) -> None:
        path = ROOT / "deploy/observability/prometheus.yaml"
        jobs = yaml.safe_load(path.read_text())["scrape_configs"]

        assert {job["job_name"] for job in jobs} == set(RUNNING)
        for job in jobs:
            [found] = job["dns_sd_configs"]
            assert found["names"] == [job["job_name"]]
            assert str(found["port"]) == services[job["job_name"]]["environment"]["HEALTH_PORT"]
            shared = {*services[job["job_name"]]["networks"]} & {
                *services["prometheus"]["networks"]
            }
            assert shared == {"data"}


@pytest.mark.parametrize("name", SCALED)
def test_nothing_keeps_a_service_from_being_scaled(services: dict[str, Service], name: str) -> None:
    for option in ("container_name", "hostname", "ports", "volumes", "scale", "deploy"):
        assert option not in services[name], f"`{option}` is in the way of --scale {name}=3"


@pytest.mark.parametrize("name", RUNNING)
def test_services_wait_for_the_migration(services: dict[str, Service], name: str) -> None:
    conditions = {
        other: condition["condition"]
        for other, condition in services[name]["depends_on"].items()
        if condition.get("required", True)
    }

    assert conditions == {
        "migrate": "service_completed_successfully",
        "streams": "service_healthy",
        "cache": "service_healthy",
    }


def test_data_cannot_be_reached_from_outside(
    compose: dict[str, Any], services: dict[str, Service]
) -> None:
    assert compose["networks"]["data"] == {"internal": True}
    for name in ("postgres", "streams", "cache"):
        assert services[name]["networks"] == ["data"], f"{name} needs no other network"
    assert services["proxy"]["networks"] == ["front"], "the proxy needs to reach the API only"


def test_the_streams_keep_what_they_are_given(services: dict[str, Service]) -> None:
    command = services["streams"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "${STREAMS_APPENDFSYNC:-everysec}"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "streams-data:/data" in services["streams"]["volumes"]


def test_a_host_name_turns_on_tls(compose: dict[str, Any], services: dict[str, Service]) -> None:
    caddyfile = (ROOT / "deploy/Caddyfile").read_text()

    assert re.search(r"^\{\$SITE_ADDRESS:http://\} \{$", caddyfile, re.MULTILINE)
    assert services["proxy"]["environment"] == {"SITE_ADDRESS": "${SITE_ADDRESS:-http://}"}
    assert {"http_port 8080", "https_port 8443"} <= set(map(str.strip, caddyfile.splitlines()))
    assert "auto_https off" not in caddyfile
    # Each order of a certificate counts: one that is forgotten at each start is refused soon.
    assert "certificates:/data" in services["proxy"]["volumes"]
    assert "certificates" in compose["volumes"]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("given", ["in the environment", "in a file"])
@pytest.mark.parametrize("name", ["streams", "cache"])
async def test_passwords_of_valkey_hold_and_are_nowhere_to_be_read(
    name: str, given: str, services: dict[str, Service], tmp_path: Path
) -> None:
    """What Compose would run is run here: with the server's binary, and no more."""
    port = free_port()
    (tmp_path / "password").write_text("secret4711\n")
    environment = (
        {"REDIS_PASSWORD": "secret4711"}
        if given == "in the environment"
        else {"REDIS_PASSWORD": "", "REDIS_PASSWORD_FILE": f"{tmp_path}/password"}
    )
    process = await _start_valkey(services[name], tmp_path, port, environment)
    try:
        async with Redis(port=port, password="secret4711", retry=Retry(NoBackoff(), 0)) as client:

            async def answers() -> bool:
                with contextlib.suppress(redis.ConnectionError):
                    return bool(await client.ping())
                return False

            await eventually(answers)
            options = services[name]["command"]
            policy = (await client.info("memory"))["maxmemory_policy"]
            assert policy == options[options.index("--maxmemory-policy") + 1]
        async with Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger:
            with pytest.raises(redis.AuthenticationError):
                await stranger.ping()
        await _check_probe(services[name], port)
        arguments = command_line(process.pid)
        assert b"valkey-server" in arguments  # it has taken the shell's place
        assert b"secret4711" not in arguments + (tmp_path / "users.acl").read_bytes()
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_valkey_does_not_start_without_a_password(
    services: dict[str, Service], tmp_path: Path
) -> None:
    process = await _start_valkey(services["streams"], tmp_path, free_port(), {})
    assert await process.wait() != 0


async def _start_valkey(
    service: Service, directory: Path, port: int, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    script = [
        str(part).replace("$$", "$").replace("/tmp/", f"{directory}/")  # noqa: S108
        for part in service["entrypoint"]
    ]
    options = [
        "everysec" if str(part).startswith("${STREAMS_APPENDFSYNC") else str(part)
        for part in service["command"][1:]
    ]
    command = [str(valkey_server()), "--port", str(port), "--dir", str(directory), *options]
    return await asyncio.create_subprocess_exec(
        *(*script, *command),
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _check_probe(service: Service, port: int) -> None:
    """Check that who asks for health may do that, and nothing else."""
    check = service["healthcheck"]["test"]
    user, password = (check[check.index(option) + 1] for option in ("--user", "--pass"))
    async with Redis(port=port, username=user, password=password) as probe:
        assert await probe.ping()
        with pytest.raises(NoPermissionError):
            await probe.info()
        with pytest.raises(NoPermissionError):
            await probe.flushall()


def test_the_password_of_valkey_is_what_the_services_are_told(
    services: dict[str, Service],
) -> None:
    for name in RUNNING:
        environment = services[name]["environment"]
        assert environment["REDIS_PASSWORD"] == "${REDIS_PASSWORD:-}"
        assert ":${REDIS_PASSWORD:-unused}@cache:" in environment["CACHE_REDIS_URL"]
    streams = services["streams"]["environment"]["REDIS_PASSWORD"]
    assert streams.startswith("${REDIS_PASSWORD:-")
    assert services["cache"]["environment"]["REDIS_PASSWORD"] == "${REDIS_PASSWORD:-unused}"


def test_the_least_version_of_docker_is_said() -> None:
    for name in ("compose.yaml", "README.md"):
        assert "Docker 25" in (ROOT / name).read_text()


def test_healthchecks_ask_where_the_services_answer(services: dict[str, Service]) -> None:
    for name in RUNNING:
        number = services[name]["environment"]["PORT" if name == "api" else "HEALTH_PORT"]
        assert services[name]["healthcheck"]["test"] == [
            "CMD",
            "python",
            "-m",
            "shared.observability.probe",
            f"http://127.0.0.1:{number}/health/ready",
        ]


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """Return what the Dockerfile says of each stage, by its name; the last one has none."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    found = re.findall(
        r"^FROM (\S+)(?: AS (\S+))?\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL
    )
    return {name: f"{base}\n{body}" for base, name, body in found}


def test_the_image_holds_no_secret_and_no_root(stages: dict[str, str]) -> None:
    text = "".join(stages.values())
    for name in ("app", "backup"):
        users = re.findall(r"^USER (.+)$", stages[name], re.MULTILINE)
        assert users[-1] == "10001:10001"
    assert stages[""].split() == ["app"], "another image would be built without a target"
    assert "HEALTHCHECK" not in text
    assert "--require-hashes" in stages["dependencies"]
    set_here = re.findall(r"\b([A-Z][A-Z0-9_]+)=", "".join(re.findall(r"ENV .*", text)))
    assert not [name for name in set_here if SECRETS.search(name)]


def test_the_image_has_no_compiler_and_no_installer(stages: dict[str, str]) -> None:
    assert "--only-binary :all:" in stages["dependencies"]
    assert "-slim" in stages["dependencies"].split("\n")[0]
    for tool in ("gcc", "build-essential", "pip ", "apt-get", "curl"):
        assert tool not in stages["app"], f"{tool} is in the image of the services"
    installed = re.findall(
        r"apt-get install \S+ --no-install-recommends (.*?) *\\?$", stages["backup"], re.MULTILINE
    )
    assert installed == ["ca-certificates postgresql-common", '"postgresql-client-$POSTGRES_MAJOR"']


def test_each_service_is_built_of_a_stage_that_there_is(
    services: dict[str, Service], stages: dict[str, str]
) -> None:
    built = {name: services[name]["build"]["target"] for name in OURS}
    assert built == dict.fromkeys(OURS, "app") | {"backup": "backup"}
    assert set(built.values()) <= stages.keys()


def test_the_image_is_made_of_the_product_only() -> None:
    allowed = {
        line.strip("!/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    assert allowed == {
        *("services", "shared", "ops", "migrations"),
        *("LICENSE", "requirements.lock"),
    }
    assert all(Path(ROOT, name).exists() for name in allowed)
