"""`/console`: the console's page, the files it loads, and the way there for browsers at `/`."""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from posixpath import dirname, join, normpath
from typing import Self

from aiohttp import hdrs, web
from multidict import CIMultiDict

from services.api.handlers.documents import CSS, HTML, JAVASCRIPT, Document
from services.api.server.routing import Call, Route
from services.api.web.endpoint import JSON, Access
from services.api.web.headers import preferred_type
from services.api.web.problems import Problem
from services.api.web.responses import NO_STORE, SECURITY_HEADERS, WholeResponse

HOME = "/console"
MEDIA_TYPES = {".js": JAVASCRIPT, ".css": CSS, ".svg": "image/svg+xml"}

# The page loads and asks the API that it comes from, and nothing else; scripts come from files
# alone, and no text becomes markup.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# An asset's address names the release, so that it stays what it is.
FOREVER = "public, max-age=31536000, immutable"

# What the page shows by its own routes, below `HOME`.
_is_screen = re.compile(
    r"(?:(?:leads|import|dead-letters|replays)(?:/[\w-]{1,80})?|sign-in|sign-up|streams|syncs|doctor)"
).fullmatch
_imports = re.compile(r'^(?:import|export)\b[^;"]*"(\.[^"]+)"', re.MULTILINE).findall


class Console:
    """The files of one release, read and compressed once."""

    @classmethod
    @cache
    def of_this_release(cls) -> Self:
        """Return the one of this process: its files stay the same as long as it lives."""
        return cls()

    def __init__(self) -> None:
        contents = dict(_files(files("services.api.console")))
        digest = hashlib.sha256()
        for name, content in contents.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        self.release = digest.hexdigest()[:16]
        self._page = Document.of(
            _page(contents, self.release),
            HTML,
            etag=self.release,
            headers={"Content-Security-Policy": POLICY, hdrs.CACHE_CONTROL: "no-cache"},
        )
        self._assets = {
            f"{self.release}/{name}": Document.of(
                content, media_type, headers={hdrs.CACHE_CONTROL: FOREVER}
            )
            for name, content in contents.items()
            if (media_type := _media_type(name)) is not None
        }

    def routes(self) -> list[Route]:
        """Return what answers: no part of the API, and so not in its documents."""
        return [
            Route("GET", path, handler, Access.PUBLIC, is_limited=False, parameters=None)
            for path, handler in (
                ("/", self.lead_there),
                (HOME, self.page),
                (f"{HOME}/{{name*}}", self.part),
            )
        ]

    async def lead_there(self, call: Call) -> web.StreamResponse:
        """Answer browsers with the way to the page; for others there is nothing here."""
        if preferred_type(call.request.headers, JSON, "text/html") != "text/html":
            raise Problem("not-found", "There is nothing at this address")
        headers = {**NO_STORE, hdrs.LOCATION: HOME, hdrs.VARY: hdrs.ACCEPT}
        return WholeResponse(b"", status=302, headers=CIMultiDict({**SECURITY_HEADERS, **headers}))

    async def page(self, call: Call) -> web.StreamResponse:
        """Answer with the page."""
        return self._page.answer(call.request)

    async def part(self, call: Call) -> web.StreamResponse:
        """Answer with a file, or with the page at the address of a screen."""
        asset = self._assets.get(call.param)
        if asset is not None:
            return asset.answer(call.request)
        if _is_screen(call.param) is None:
            raise Problem("not-found", "The console has no such part")
        return self._page.answer(call.request)


def _files(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield what there is, but for Python's, by path and in its order."""
    for entry in sorted(directory.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _files(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith(".py"):
            yield prefix + entry.name, entry.read_bytes()


def _page(contents: dict[str, bytes], release: str) -> bytes:
    """Return the page of a release, which has all that the first screen needs asked for at once."""
    base = f"{HOME}/{release}/"
    preloads = "".join(
        f'<link rel="modulepreload" href="{base}{name}">\n  '
        for name in _modules(contents, "main.js", {})
    )
    page = contents["index.html"].decode()
    return page.replace("{release}/", base).replace("{preloads}", preloads.rstrip()).encode()


def _modules(contents: dict[str, bytes], name: str, found: dict[str, None]) -> dict[str, None]:
    """Return a module and all that it imports; what is loaded later is left out."""
    if name not in found:
        found[name] = None
        for path in _imports(contents[name].decode()):
            _modules(contents, normpath(join(dirname(name), path)), found)
    return found


def _media_type(name: str) -> str | None:
    return next((kind for suffix, kind in MEDIA_TYPES.items() if name.endswith(suffix)), None)
