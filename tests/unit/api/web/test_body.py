"""What counts as JSON."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.web.body import parse_json
from services.api.web.problems import Problem

DEEPEST = b"[" * 32 + b"]" * 32


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
        (b' {"a": {"b": 1}, "b": 1} ', {"a": {"b": 1}, "b": 1}),
        # A byte order mark, as PowerShell and .NET write it.
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b"\xef\xbb\xbf\r\n[]", []),
        (b'["' + b"[{" * 40 + b'"]', ["[{" * 40]),
        (b"[" + b",".join([b'[{"a": 1}]'] * 40) + b"]", [[{"a": 1}]] * 40),
        ('\ufeff{"a": "\ufeff"}'.encode(), {"a": "\ufeff"}),
    ],
)
def test_json_is_read(text: bytes, value: object) -> None:
    assert parse_json(text) == value


def test_the_deepest_allowed_nesting_is_read() -> None:
    parse_json(DEEPEST)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"nonsense",
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b'{"a": "line\nbreak"}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}',
        b'{"a": 1}\xef\xbb\xbf',
        '{"a": 1}'.encode("utf-16"),
        b"[" + DEEPEST + b"]",
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 60_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(Problem) as raised:
        parse_json(text)
    assert raised.value.code == "malformed-json"


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_be_refused(text: bytes) -> None:
    with suppress(Problem):
        parse_json(text)
