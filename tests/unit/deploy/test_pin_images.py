"""Images are named by the digests that registries tell, all or none."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from deploy.pin_images import Image, files, images_in, main
from tests.support.repository import ROOT


class Registry(ThreadingHTTPServer):
    """A registry that gives tokens to everybody, and has the images that a test says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.images: dict[str, str | None] = {}

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def add(self, name: str) -> str:
        """Have an image; returns its digest."""
        digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
        self.images[name] = digest
        return digest


class _Handler(BaseHTTPRequestHandler):
    server: Registry  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_HEAD(self) -> None:
        name, _, tag = self.path.removeprefix("/v2/").partition("/manifests/")
        if self.headers.get("Authorization") != f"Bearer for-{name}":
            self.send_response(401)
            realm = f'realm="http://{self.server.place}/token"'
            scope = f'scope="repository:{name}:pull"'
            self.send_header("WWW-Authenticate", f'Bearer {realm},service="here",{scope}')
        elif f"{name}:{tag}" not in self.server.images or "index.v1" not in self.headers["Accept"]:
            self.send_response(404)
        else:
            self.send_response(200)
            if digest := self.server.images[f"{name}:{tag}"]:
                self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def do_GET(self) -> None:
        scope = parse_qs(urlsplit(self.path).query)["scope"][0]
        body = json.dumps({"token": f"for-{scope.split(':')[1]}"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as it is there)
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def tree(tmp_path: Path, registry: Registry) -> Path:
    """Return a repository whose files name images of the registry, one with an old digest."""
    (tmp_path / "deploy/kubernetes/base").mkdir(parents=True)
    here, old = registry.place, f"sha256:{'0' * 64}"
    (tmp_path / "compose.yaml").write_text(
        "x-app:\n  image: leads-event-backend:local\n"
        f"services:\n  db:\n    image: {here}/library/postgres:18\n"
        f"  door:\n    image: {here}/caddy:2-alpine@{old} # the door\n"
    )
    (tmp_path / "deploy/Dockerfile").write_text(
        f"FROM {here}/python:3.13-slim AS app\nRUN true\nFROM app AS backup\nFROM app\n"
    )
    (tmp_path / "deploy/kubernetes/base/db.yaml").write_text(
        f"containers:\n  - image: {here}/library/postgres:18\n    name: db\n"
    )
    return tmp_path


def test_every_image_but_our_own_is_pinned(tree: Path, registry: Registry) -> None:
    names = ("library/postgres:18", "caddy:2-alpine", "python:3.13-slim")
    digests = {f"{registry.place}/{name}": registry.add(name) for name in names}
    before = {path: path.read_text() for path in files(tree)}
    assert main(tree) == 0
    for path, text in before.items():
        expected = re.sub("@sha256:0+", "", text)
        for name, digest in digests.items():
            expected = expected.replace(name, f"{name}@{digest}")
        assert path.read_text() == expected
    after = {path: path.read_text() for path in files(tree)}
    assert main(tree) == 0
    assert {path: path.read_text() for path in files(tree)} == after


@pytest.mark.parametrize("wrong", ["missing", "no digest", "no true digest"])
def test_without_all_digests_nothing_is_changed(
    wrong: str, tree: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add("library/postgres:18")
    registry.add("caddy:2-alpine")
    if wrong != "missing":
        registry.images["python:3.13-slim"] = None if wrong == "no digest" else "sha256:12"
    before = {path: path.read_text() for path in files(tree)}
    assert main(tree) == 1
    assert {path: path.read_text() for path in files(tree)} == before
    said = capsys.readouterr().err
    assert "python:3.13-slim: " in said
    assert "postgres" not in said


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres:18", "https://registry-1.docker.io/v2/library/postgres/manifests/18"),
        ("valkey/valkey:9", "https://registry-1.docker.io/v2/valkey/valkey/manifests/9"),
        ("ghcr.io/a/b:v1", "https://ghcr.io/v2/a/b/manifests/v1"),
        ("localhost:5000/a:v1", "http://localhost:5000/v2/a/manifests/v1"),
    ],
)
def test_names_are_read_as_docker_reads_them(text: str, url: str) -> None:
    assert Image.parse(text).url == url


def test_the_images_of_this_repository_are_found() -> None:
    found = set(images_in(files(ROOT)))
    assert {"postgres:18", "valkey/valkey:9-alpine", "python:3.13-slim"} <= found
    named = {
        name
        for path in files(ROOT)
        for name in re.findall(r"(?:image: |^FROM )(\S+:\S+)", path.read_text(), re.MULTILINE)
    }
    assert {name.partition("@")[0] for name in named if "leads-event" not in name} == found
