"""Lua scripts in Redis as typed functions: a script's signature is its contract.

    @lua_script('''
    local holder = redis.call('GET', lease)
    if holder and holder ~= me then return 0 end
    redis.call('SET', lease, me, 'PX', span)
    return 1
    ''')
    def hold_lease(*, lease: Key, me: str, span: timedelta) -> bool:
        "Take or renew a lease; false while another process holds it."
        raise NotImplementedError

    await hold_lease(redis, lease="leader:trim", me="worker-1", span=timedelta(seconds=15))
    hold_lease.queue(pipeline, lease=..., me=..., span=...)

The parameters are Lua locals of the same names. In the order of the signature, `Key` and `Keys`
become KEYS, all else ARGV. Numbers arrive as numbers, a `timedelta` as whole milliseconds, a
`bool` as a boolean, text and bytes as strings, a sequence as a table of strings; only the last
key and the last argument may be sequences.

The body of a declaration never runs: the script stands in its place.

All keys of a call must lie in one slot of a Redis Cluster, and a script touches no other keys.
"""

import hashlib
import inspect
import types
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, ParamSpec, TypeVar, cast, get_args, get_origin
from typing import get_type_hints as type_hints
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_IS_KEY = "key"

Key = Annotated[str | bytes, _IS_KEY]
"""One key that a script reads or writes."""

Keys = Annotated[Sequence[str | bytes], _IS_KEY]
"""Any number of keys; in Lua a table."""


class LuaScript(Generic[Parameters, Result]):
    """A script that is sent by its hash, and whole when the server does not know it."""

    def __init__(self, lua: str, declaration: Callable[Parameters, Result]) -> None:
        hints = type_hints(declaration, include_extras=True)
        self.__doc__ = declaration.__doc__
        self._decode = _decoder(hints.pop("return"))
        parameters = [(name, hints[name]) for name in inspect.signature(declaration).parameters]
        keys = [(name, get_args(hint)[0]) for name, hint in parameters if _is_key(hint)]
        arguments = [(name, hint) for name, hint in parameters if not _is_key(hint)]
        self._keys = [(name, _encoder(kind)) for name, kind in keys]
        self._arguments = [(name, _encoder(kind)) for name, kind in arguments]
        self.text = "\n".join([*_locals("KEYS", keys), *_locals("ARGV", arguments), lua.strip()])
        # Redis names scripts by their SHA-1.
        self._sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(
        self, redis: Redis, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Run the script; the driver's errors come out as they are."""
        values = self._values(*args, **kwargs)
        execute = cast("Callable[..., Awaitable[Any]]", redis.execute_command)  # it has no types
        try:
            reply = await execute("EVALSHA", self._sha, *values)
        except NoScriptError:
            # A new server, a failover, or SCRIPT FLUSH. EVAL runs it and makes it known.
            reply = await execute("EVAL", self.text, *values)
        return cast("Result", self._decode(reply))

    def queue(
        self, pipeline: Pipeline, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> None:
        """Queue the script on a pipeline; the reply there is as Redis gives it."""
        # Whole: an unknown hash would be noticed only when the other commands have run.
        # Nor does the cluster's client take EVALSHA in a pipeline.
        pipeline.execute_command("EVAL", self.text, *self._values(*args, **kwargs))

    def _values(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> list[Any]:
        if args:
            raise TypeError("A script takes its parameters by name")
        keys = [part for name, encode in self._keys for part in encode(kwargs[name])]
        arguments = [part for name, encode in self._arguments for part in encode(kwargs[name])]
        return [len(keys), *keys, *arguments]


def lua_script(
    lua: str,
) -> Callable[[Callable[Parameters, Result]], LuaScript[Parameters, Result]]:
    """Turn a declaration, a function of keyword-only parameters, into the script `lua`.

    The declared result is one of None, bool, int, str (decoded), a tuple of what the script
    returns as a table, or what the client gives as it is (`bytes | None`, `list[bytes]`).
    """

    def declared(declaration: Callable[Parameters, Result]) -> LuaScript[Parameters, Result]:
        return LuaScript(lua, declaration)

    return declared


def load_lua(module: str, name: str) -> str:
    """Return the text of a `.lua` file beside a module: `load_lua(__file__, "reserve.lua")`."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


def _is_key(hint: Any) -> bool:
    return _IS_KEY in getattr(hint, "__metadata__", ())


def _locals(source: str, kinds: Sequence[tuple[str, Any]]) -> list[str]:
    """Return Lua that names each place of KEYS or ARGV."""
    lines: list[str] = []
    for place, (name, kind) in enumerate(kinds, start=1):
        if get_origin(kind) is Sequence:
            if place < len(kinds):
                raise TypeError(f"{name}: only the last of a script's {source} may be a sequence")
            lines.append(f"local {name} = {{}}")
            lines.append(f"for i = {place}, #{source} do {name}[i - {place - 1}] = {source}[i] end")
        elif kind is bool:
            lines.append(f"local {name} = {source}[{place}] == '1'")
        elif kind in {int, float, timedelta}:
            lines.append(f"local {name} = tonumber({source}[{place}])")
        else:
            lines.append(f"local {name} = {source}[{place}]")
    return lines


_ENCODINGS: dict[Any, Callable[[Any], str | int]] = {
    bool: int,
    timedelta: lambda span: span // timedelta(milliseconds=1),
    UUID: str,
}


def _encoder(kind: Any) -> Callable[[Any], Iterable[Any]]:
    """Return what turns a parameter into the place or places it takes up in KEYS or ARGV."""
    is_sequence = get_origin(kind) is Sequence
    encode = _ENCODINGS.get(get_args(kind)[0] if is_sequence else kind)
    if is_sequence:
        return partial(map, encode) if encode else lambda values: values
    return (lambda value: (encode(value),)) if encode else lambda value: (value,)


def _decoder(result: Any) -> Callable[[Any], Any]:
    """Return what turns the client's reply into the declared result."""
    if result is types.NoneType:
        return lambda _reply: None
    if result is bool:
        return bool
    if result is str:
        return bytes.decode
    if get_origin(result) is tuple:
        return tuple
    return lambda reply: reply
