"""Name images by their digests, so that each start has the same bits: `make pin-images`.

Asks the images' registries, by the protocol that they all speak, and writes `name:tag@sha256:...`
into compose.yaml, the Dockerfile and the manifests. Run again, it looks for newer ones.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).parents[1]
FILES = ("compose.yaml", "deploy/Dockerfile", "deploy/kubernetes/**/*.yaml")
DOCKER_HUB = "registry-1.docker.io"
TIMEOUT = 30
# An index of all platforms first: its digest is the same for everybody.
FORMATS = (
    "application/vnd.oci.image.index.v1+json,"
    "application/vnd.docker.distribution.manifest.list.v2+json,"
    "application/vnd.oci.image.manifest.v1+json,"
    "application/vnd.docker.distribution.manifest.v2+json"
)
# Ours are built here, and a stage of a Dockerfile has no tag.
_IMAGE = re.compile(
    r"(?P<before>^\s*(?:- )?image: |^FROM )"
    r"(?P<image>(?!leads-event-backend)[\w./:-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?(?=\s|$)",
    re.MULTILINE,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PinError(Exception):
    """An image's digest cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """Where an image is: `postgres:18` is a name at Docker Hub, with `library/` before it."""

    registry: str
    name: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Image":
        """Read a name as Docker does."""
        place, _, tag = text.rpartition(":")
        host, slash, rest = place.partition("/")
        if slash and (host == "localhost" or set(host) & {".", ":"}):
            return cls(host, rest, tag)
        return cls(DOCKER_HUB, place if slash else f"library/{place}", tag)

    @property
    def url(self) -> str:
        """The manifest's address; only a registry on this machine may do without TLS."""
        is_here = self.registry.partition(":")[0] in {"localhost", "127.0.0.1"}
        scheme = "http" if is_here else "https"
        return f"{scheme}://{self.registry}/v2/{self.name}/manifests/{self.tag}"


def digest_of(image: Image) -> str:
    """Ask a registry for an image's digest."""
    try:
        headers = _head(image.url)
    except (OSError, ValueError, KeyError) as error:
        raise PinError(f"{image.registry}: {error}") from error
    digest = headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(digest):
        raise PinError(f"{image.registry} tells no digest")
    return digest


def _head(url: str, *, token: str | None = None) -> Message:
    headers = {"Accept": FORMATS, **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, method="HEAD", headers=headers)  # noqa: S310 (see `url`)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            found: Message = answer.headers
            return found
    except urllib.error.HTTPError as error:
        asked = error.headers.get("WWW-Authenticate", "")
        if error.code != 401 or token or not asked.startswith("Bearer "):  # noqa: PLR2004
            raise
    return _head(url, token=_token(asked))


def _token(asked: str) -> str:
    """Get what a registry gives to everybody who asks; `asked` says where."""
    parts = dict(re.findall(r'(\w+)="([^"]*)"', asked))
    realm = parts.pop("realm")
    if not realm.startswith(("https://", "http://localhost", "http://127.0.0.1")):
        raise ValueError("a token is to be had without TLS only")
    with urllib.request.urlopen(f"{realm}?{urlencode(parts)}", timeout=TIMEOUT) as answer:  # noqa: S310
        given: Mapping[str, str] = json.load(answer)
    return given.get("token") or given["access_token"]


def files(root: Path) -> list[Path]:
    """Return the files that name images."""
    return sorted(path for pattern in FILES for path in root.glob(pattern))


def images_in(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the names of images, with their tags, each once."""
    seen: set[str] = set()
    for path in paths:
        for match in _IMAGE.finditer(path.read_text()):
            if match["image"] not in seen:
                seen.add(match["image"])
                yield match["image"]


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """Return a file's text with its images' digests."""
    return _IMAGE.sub(
        lambda match: f"{match['before']}{match['image']}@{digests[match['image']]}", text
    )


def main(root: Path = ROOT) -> int:
    """Pin all images or, where one cannot be found, none."""
    paths = files(root)
    digests: dict[str, str] = {}
    failures: list[str] = []
    for image in images_in(paths):
        try:
            digests[image] = digest_of(Image.parse(image))
        except PinError as error:
            failures.append(f"{image}: {error}")
    if failures:
        sys.stderr.write("\n".join([*failures, "Nothing was changed.", ""]))
        return 1
    for path in paths:
        before = path.read_text()
        after = pinned(before, digests)
        if after != before:
            path.write_text(after)
    sys.stdout.writelines(f"{image}@{digest}\n" for image, digest in digests.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
