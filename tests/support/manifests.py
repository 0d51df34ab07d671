"""What deploy/kubernetes comes to: objects of its base and overlays, as kustomize builds them."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.repository import ROOT

Object = dict[str, Any]

DIRECTORY = ROOT / "deploy/kubernetes"
OVERLAYS = ("overlays/managed", "overlays/single-node")
# The first that knows all that the files here use.
OLDEST_KUSTOMIZE = 5
HAS_PODS = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Build:
    """The objects of a directory."""

    objects: Sequence[Object]

    def of(self, *kinds: str) -> list[Object]:
        """Return the objects of these kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        """Return one object."""
        return next(one for one in self.of(kind) if one["metadata"]["name"] == name)

    def pods(self) -> dict[str, Object]:
        """Return each pod's specification by what it is of: api, syncer, ..."""
        return {
            component_of(one["spec"]["template"]): one["spec"]["template"]["spec"]
            for one in self.of(*HAS_PODS)
        }


def component_of(labelled: Object) -> str:
    """Return which part of the system an object belongs to."""
    return str(labelled["metadata"]["labels"]["app.kubernetes.io/component"])


def containers_of(pod: Object) -> list[Object]:
    """Return all of a pod's containers."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def settings_of(build: Build) -> dict[str, str]:
    """Return what the pods get as settings; those of the base without kustomize."""
    return {name: str(text) for one in build.of("ConfigMap") for name, text in one["data"].items()}


@cache
def kustomize() -> tuple[str, ...] | None:
    """Return the command that builds, if this machine has one that is new enough."""
    if program := shutil.which("kustomize"):
        return (program, "build")
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    told = subprocess.run(
        [kubectl, "version", "--client", "-o", "json"], capture_output=True, check=False
    )
    version = json.loads(told.stdout or "{}").get("kustomizeVersion", "v0")
    is_new = int(version.removeprefix("v").partition(".")[0]) >= OLDEST_KUSTOMIZE
    return (kubectl, "kustomize") if is_new else None


@cache
def built(directory: str) -> Build:
    """Build a directory; without kustomize the base can be read, and an overlay is skipped."""
    command = kustomize()
    if command is None:
        if directory != "base":
            pytest.skip("no kustomize 5 and no kubectl with one: overlays cannot be built")
        return Build(list(_plain(DIRECTORY / directory)))
    done = subprocess.run(
        [*command, str(DIRECTORY / directory)], capture_output=True, text=True, check=False
    )
    # Warnings are of what the next version will not know.
    assert (done.returncode, done.stderr) == (0, "")
    return Build([one for one in yaml.safe_load_all(done.stdout) if one])


def _plain(directory: Path) -> Iterator[Object]:
    listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
    for name in listed:
        yield from yaml.safe_load_all((directory / name).read_text())


@cache
def example_secrets() -> dict[str, dict[str, str]]:
    """Return the keys and values of each Secret in the example."""
    text = (DIRECTORY / "secrets.example.yaml").read_text()
    return {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(text)}
