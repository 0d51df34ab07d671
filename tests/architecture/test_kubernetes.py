"""deploy/kubernetes is valid, and says of the services what is true of them."""

import importlib.util
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from devstack.free_ports import free_port
from ops.cli import cli
from ops.exporter.settings import ExporterSettings
from services.api.settings import ApiSettings
from services.summarizer.settings import SummarizerSettings
from services.syncer.settings import SyncerSettings
from shared.events.partitions import DEFAULT_PARTITIONS
from shared.observability.health import serve_health
from shared.settings import ObservabilitySettings
from tests.architecture.test_compose import SECRETS
from tests.architecture.test_compose import settings_of as settings_read_by
from tests.support.example_environment import example_values
from tests.support.manifests import (
    OVERLAYS,
    Build,
    Object,
    built,
    component_of,
    containers_of,
    example_secrets,
    settings_of,
)
from tests.support.repository import ROOT

SCHEMAS = ROOT / "tests/support/schemas"
EVERY_BUILD = ("base", *OVERLAYS)
OURS = ("api", "syncer", "summarizer", "exporter", "migrate")
SCALED = ("api", "syncer", "summarizer")
SETTINGS: dict[str, type[ApiSettings | SyncerSettings | SummarizerSettings | ExporterSettings]] = {
    "api": ApiSettings,
    "syncer": SyncerSettings,
    "summarizer": SummarizerSettings,
    "exporter": ExporterSettings,
}
LOOKED_AT = "/run/secrets"
TO_SPARE = timedelta(seconds=5)


@pytest.fixture(params=EVERY_BUILD)
def build(request: pytest.FixtureRequest) -> Build:
    return built(request.param)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Build:
    return built(request.param)


def environment_of(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container.get("env", [])}


def schema(version: str, kind: str) -> Draft202012Validator:
    if kind == "ScaledObject":
        return Draft202012Validator(json.loads((SCHEMAS / "scaledobject.json").read_text()))
    definitions = json.loads((SCHEMAS / f"kubernetes-{version}.json").read_text())
    assert kind in definitions["$defs"], f"no schema of {kind} here: take it from Kubernetes"
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", **definitions})


class TestSchemas:
    """Kubernetes' own, of the oldest and a new version, and one of KEDA's documentation."""

    @pytest.mark.parametrize("version", ["1.30", "1.37"])
    def test_all_objects_are_valid(self, version: str, build: Build) -> None:
        wrong = [
            f"{one['kind']} {one['metadata']['name']}: {error.json_path}: {error.message}"
            for one in build.objects
            for error in schema(version, one["kind"]).iter_errors(one)
        ]

        assert wrong == []

    @pytest.mark.parametrize(
        ("kind", "path", "key", "value"),
        [
            ("Deployment", ("spec", "template", "spec"), "automountServiceAcountToken", False),
            ("Deployment", ("spec", "strategy", "rollingUpdate"), "maxUnavailable", [0]),
            ("PodDisruptionBudget", ("spec",), "maxUnavailible", 1),
            ("NetworkPolicy", ("spec",), "podSelecter", {}),
            ("Service", ("spec",), "ports", {"port": 80}),
        ],
    )
    def test_what_is_wrong_is_found(
        self, kind: str, path: tuple[str, ...], key: str, value: Any
    ) -> None:
        broken = json.loads(json.dumps(built("base").of(kind)[0]))
        place = broken
        for step in path:
            place = place[step]
        place[key] = value

        assert not schema("1.37", kind).is_valid(broken)

    @pytest.mark.parametrize(
        "change",
        [
            {"maxReplicas": 8},
            {"fallback": {"failureTreshold": 3, "replicas": 2}},
            {"triggers": [{"type": "metrics-api", "metadata": {"url": "http://x"}}]},
            {"triggers": [{"type": "prometheus", "metadata": {"targetValue": "1"}}]},
        ],
    )
    def test_so_it_is_of_a_scaled_object(self, change: Object) -> None:
        text = (ROOT / "deploy/kubernetes/components/keda/scaled-objects.yaml").read_text()
        right = next(yaml.safe_load_all(text))
        wrong = {**right, "spec": {**right["spec"], **change}}

        assert schema("", "ScaledObject").is_valid(right)
        assert not schema("", "ScaledObject").is_valid(wrong)


class TestSettings:
    @pytest.mark.parametrize("name", OURS)
    def test_no_container_is_told_what_it_does_not_read(self, name: str, build: Build) -> None:
        pod = build.pods()[name]
        for container in containers_of(pod):
            given = environment_of(container)
            assert {one.removesuffix("_FILE") for one in given} - settings_read_by(name) == set()
            assert not [one for one in given if SECRETS.search(one)], "a secret comes as a file"
            assert {value for one, value in given.items() if one.endswith("_FILE")} <= {
                path for mount in container["volumeMounts"] for path in mounted_files(pod, mount)
            }

    def test_the_shared_settings_are_no_secrets_and_none_is_made_up(self, build: Build) -> None:
        given = set(settings_of(build))

        assert given - example_values().keys() == set()
        assert not [one for one in given if SECRETS.search(one)]
        assert build.of("Secret") == []

    @pytest.mark.parametrize("name", SETTINGS)
    def test_a_service_starts_with_what_it_is_given(
        self, name: str, overlay: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """With the example's secrets as files, where Kubernetes would mount them."""
        pod = overlay.pods()[name]
        container = pod["containers"][0]
        assert container["envFrom"][0]["configMapRef"]["name"] == config_name(overlay)
        for mount in container["volumeMounts"]:
            for path, text in mounted_files(pod, mount).items():
                file = tmp_path / path.removeprefix("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        variables = {**settings_of(overlay), **environment_of(container)}
        for variable in example_values():
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("ENV_FILE", "")
        for variable, value in variables.items():
            monkeypatch.setenv(variable, re.sub(f"^{LOOKED_AT}", f"{tmp_path}{LOOKED_AT}", value))

        read = SETTINGS[name].load()

        assert read.postgres.dsn == example_secrets()["servers"]["SUPABASE_CONNECTION_STRING"]
        assert read.streams.url == example_secrets()["servers"]["REDIS_URL"]
        assert read.observability.health_port == 8080

    def test_the_example_has_every_secret_and_no_other(self) -> None:
        used: dict[str, set[str]] = {}
        for pod in built("overlays/single-node").pods().values():
            for volume in pod["volumes"]:
                if "secret" in volume:
                    name = volume["secret"]["secretName"]
                    items = volume["secret"].get("items")
                    keys = example_secrets()[name] if items is None else [i["key"] for i in items]
                    used.setdefault(name, set()).update(keys)
                    # The group is the pod's own.
                    assert volume["secret"]["defaultMode"] == 0o440

        assert used == {name: set(keys) for name, keys in example_secrets().items()}

    def test_an_account_is_known_to_one_service_only(self, build: Build) -> None:
        for account, owner in {"api": "api", "summarizer": "summarizer"}.items():
            knowing = [
                name
                for name, pod in build.pods().items()
                if any(one.get("secret", {}).get("secretName") == account for one in pod["volumes"])
            ]
            assert knowing == [owner]


def config_name(build: Build) -> str:
    return str(build.of("ConfigMap")[0]["metadata"]["name"])


def mounted_files(pod: Object, mount: Object) -> dict[str, str]:
    """Return the paths of a mounted secret's files, with the example's values."""
    volume = next(one for one in pod["volumes"] if one["name"] == mount["name"])
    if "secret" not in volume:
        return {}
    values = example_secrets()[volume["secret"]["secretName"]]
    items = volume["secret"].get("items") or [{"key": key, "path": key} for key in values]
    return {f"{mount['mountPath']}/{one['path']}": values[one["key"]] for one in items}


class TestProcesses:
    @pytest.mark.parametrize("name", OURS)
    def test_commands_exist(self, name: str, build: Build) -> None:
        for container in containers_of(build.pods()[name]):
            python, option, module, *arguments = container["args"]
            assert (python, option) == ("python", "-m")
            assert importlib.util.find_spec(f"{module}.__main__") is not None
            if module == "ops":
                check_arguments(arguments)

    def test_the_image_is_the_one_that_compose_builds(self, build: Build) -> None:
        compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
        image = compose["services"]["api"]["image"].partition(":")[0]
        for name in OURS:
            for container in containers_of(build.pods()[name]):
                assert container["image"].rpartition(":")[0].rpartition("/")[2] == image

    def test_the_user_is_the_images(self, build: Build) -> None:
        user = re.search(
            r"^USER (\d+):(\d+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE
        )
        assert user is not None
        for name in OURS:
            context = build.pods()[name]["securityContext"]
            assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user.groups()))

    @pytest.mark.parametrize("name", SCALED)
    def test_there_is_time_to_end(self, name: str, build: Build) -> None:
        pod, given = build.pods()[name], settings_of(build)
        group = ApiSettings if name == "api" else SyncerSettings
        needed = time_to_end(group, given)
        for container in pod["containers"]:
            stop = container.get("lifecycle", {}).get("preStop", {})
            needed += timedelta(seconds=stop.get("sleep", {}).get("seconds", 0))

        assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) >= needed + TO_SPARE

    def test_requests_are_let_go_before_the_server_stops(self, build: Build) -> None:
        container = build.pods()["api"]["containers"][0]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5

    def test_a_rollout_takes_nothing_away(self, build: Build) -> None:
        strategies = {
            one["metadata"]["name"]: one["spec"]["strategy"] for one in build.of("Deployment")
        }
        assert strategies["api"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert strategies["syncer"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
        assert strategies["exporter"] == {"type": "Recreate"}  # two would report all twice

    def test_services_wait_for_the_migration(self, build: Build) -> None:
        for name in SCALED:
            (waiting,) = build.pods()[name]["initContainers"]
            assert waiting["args"] == ["python", "-m", "ops", "migrate", "--wait"]
        (job,) = build.of("Job")
        assert job["spec"]["template"]["spec"]["containers"][0]["args"][3:] == ["migrate"]
        assert job["spec"]["ttlSecondsAfterFinished"] > 0

    def test_the_migrations_job_is_named_after_its_image(self, overlay: Build) -> None:
        (job,) = overlay.of("Job")
        image = job["spec"]["template"]["spec"]["containers"][0]["image"]
        assert job["metadata"]["name"] == f"migrate-{image.rpartition(':')[2]}"


def check_arguments(arguments: list[str]) -> None:
    """Raise unless `ops` takes these arguments."""
    with click.Context(cli) as context:
        command = cli.get_command(context, arguments[0])
        assert command is not None, f"ops has no command {arguments[0]}"
        command.make_context("ops", arguments[1:], parent=context).close()


def time_to_end(group: type[ApiSettings | SyncerSettings], given: Mapping[str, str]) -> timedelta:
    """Return how long a process may take after SIGTERM, by the settings it is given."""
    part = "http" if group is ApiSettings else "consumer"
    fields = group.__annotations__[part].model_fields
    return sum(
        (
            timedelta(seconds=float(given[name.upper()])) if name.upper() in given else default
            for name in ("shutdown_delay", "shutdown_deadline")
            if name in fields and (default := fields[name].default) is not None
        ),
        timedelta(0),
    )


class TestProbes:
    @pytest.mark.parametrize("name", ["api", "syncer", "summarizer", "exporter"])
    def test_ports_are_those_of_the_process(self, name: str, build: Build) -> None:
        container = build.pods()[name]["containers"][0]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        given = environment_of(container)
        assert ports["metrics"] == int(given["HEALTH_PORT"])
        if name == "api":
            assert ports["http"] == int(given["PORT"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert (
                container.get(probe, {"httpGet": {"port": "metrics"}})["httpGet"]["port"] in ports
            )

    @pytest.mark.parametrize(
        ("name", "probe", "path"),
        [
            # Without PostgreSQL no pod would be ready, and nothing accepted or read from the cache.
            ("api", "readinessProbe", "/health/serving"),
            ("api", "livenessProbe", "/health"),
            ("syncer", "readinessProbe", "/health/ready"),
            ("syncer", "livenessProbe", "/health"),
            ("summarizer", "readinessProbe", "/health/ready"),
            ("exporter", "readinessProbe", "/health"),
            ("exporter", "livenessProbe", "/health/ready"),
        ],
    )
    def test_each_asks_what_it_is_for(self, name: str, probe: str, path: str, build: Build) -> None:
        assert build.pods()[name]["containers"][0][probe]["httpGet"]["path"] == path

    async def test_paths_are_answered(self) -> None:
        described = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
        port = free_port()
        health = serve_health(ObservabilitySettings(health_host="127.0.0.1", health_port=port), {})
        async with health, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for name, pod in built("base").pods().items():
                for path in probed_paths(pod):
                    if name == "api":
                        assert path in described
                    else:
                        assert (await client.get(path)).status_code == 200

    def test_services_lead_to_ports_that_pods_have(self, build: Build) -> None:
        for service in build.of("Service"):
            pod = build.pods()[service["spec"]["selector"]["app.kubernetes.io/component"]]
            names = {port["name"] for one in pod["containers"] for port in one["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def probed_paths(pod: Object) -> set[str]:
    """Return what a pod is asked by HTTP."""
    return {
        container[probe]["httpGet"]["path"]
        for container in pod["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe in container
    }


class TestHardening:
    """Every pod: what the standard `restricted` asks for, and more."""

    def test_pods(self, build: Build) -> None:
        for name, pod in build.pods().items():
            context = pod["securityContext"]
            assert context["runAsNonRoot"] is True, name
            assert context["runAsUser"] >= 999, name
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert pod["automountServiceAccountToken"] is False, name
            # A Service named redis would set REDIS_PORT to an address.
            assert pod["enableServiceLinks"] is False, name
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
            kinds = {kind for volume in pod["volumes"] for kind in volume} - {"name"}
            assert kinds <= {"emptyDir", "secret"}, name

    def test_containers(self, build: Build) -> None:
        for name, pod in build.pods().items():
            for container in containers_of(pod):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, name
                assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
                assert set(container["resources"]["limits"]) == {"memory"}, name
                assert "/tmp" in {one["mountPath"] for one in container["volumeMounts"]}  # noqa: S108

    def test_the_namespace_enforces_it(self, overlay: Build) -> None:
        (namespace,) = overlay.of("Namespace")
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        inside = [one for one in overlay.objects if one["kind"] != "Namespace"]
        assert {one["metadata"]["namespace"] for one in inside} == {namespace["metadata"]["name"]}

    def test_a_node_can_always_be_drained(self, build: Build) -> None:
        budgets = {component_of(one): one["spec"] for one in build.of("PodDisruptionBudget")}
        for deployment in build.of("Deployment"):
            budget = budgets[component_of(deployment)]
            assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (
                1,
                "AlwaysAllow",
            )
            assert budget["selector"] == deployment["spec"]["selector"]


class TestScaling:
    def test_what_is_scaled_has_no_replicas_of_its_own(self) -> None:
        build = built("overlays/managed")
        for scaled in build.of("ScaledObject"):
            target = build.named("Deployment", scaled["spec"]["scaleTargetRef"]["name"])
            assert "replicas" not in target["spec"], "each apply would set them back"
        assert build.named("Deployment", "api")["spec"]["replicas"] == 2

    def test_no_syncer_is_without_a_partition(self) -> None:
        build = built("overlays/managed")
        configured = settings_of(build).get("STREAM_PARTITIONS", DEFAULT_PARTITIONS)
        assert build.named("ScaledObject", "syncer")["spec"]["maxReplicaCount"] == int(configured)

    @pytest.mark.parametrize("name", ["syncer", "summarizer"])
    def test_the_exporter_is_asked(self, name: str) -> None:
        build = built("overlays/managed")
        (trigger,) = build.named("ScaledObject", name)["spec"]["triggers"]
        exporter = build.named("Service", "exporter")
        port = exporter["spec"]["ports"][0]["port"]
        namespace = exporter["metadata"]["namespace"]
        assert trigger["metadata"] == {
            "url": f"http://exporter.{namespace}.svc:{port}/metrics",
            "format": "prometheus",
            "valueLocation": f'leads_wanted_replicas{{service="{name}"}}',
            "targetValue": "1",
        }


class TestServers:
    """Of the overlay for one node: as in compose.yaml."""

    def test_postgres(self) -> None:
        compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["postgres"]
        (container,) = built("overlays/single-node").pods()["postgres"]["containers"]
        assert container["args"] == compose["command"]
        assert container["image"] == compose["image"].partition("@")[0]

    @pytest.mark.parametrize("name", ["streams", "cache"])
    def test_valkey(self, name: str) -> None:
        compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][name]
        (container,) = built("overlays/single-node").pods()[name]["containers"]
        there, here = options_of(compose["command"]), options_of(container["args"])
        for option in ("--save", "--appendonly", "--maxmemory", "--maxmemory-policy"):
            assert here[option] == there[option]
        assert here.get("--appendfsync", "everysec") == "everysec"
        assert container["image"] == compose["image"].partition("@")[0]

    def test_the_streams_fit_into_memory(self) -> None:
        build = built("overlays/single-node")
        (container,) = build.pods()["streams"]["containers"]
        most = int(options_of(container["args"])["--maxmemory"].removesuffix("mb")) << 20
        assert int(settings_of(build)["STREAM_MAX_BYTES"]) * 2 < most


def options_of(command: list[str]) -> dict[str, str]:
    return dict(zip(command[1::2], command[2::2], strict=True))
