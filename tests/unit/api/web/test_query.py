"""Parameters that would be ignored are refused."""

import pytest
from multidict import MultiDict

from services.api.web.problems import Problem
from services.api.web.query import KnownParameters, refuse_unknown

KNOWN = KnownParameters(frozenset({"limit", "after", "map"}), repeatable=frozenset({"map"}))
UNKNOWN, TWICE = "Is not a parameter of this address", "May be given once"


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ([("page", "2")], {"page": UNKNOWN}),
        ([("Limit", "2")], {"Limit": UNKNOWN}),
        ([("", "")], {"": UNKNOWN}),
        ([("page", "2"), ("page", "3")], {"page": UNKNOWN}),
        ([("limit", "1"), ("limit", "1")], {"limit": TWICE}),
        ([("limit", "1"), ("x", "1"), ("limit", "2")], {"x": UNKNOWN, "limit": TWICE}),
    ],
)
def test_nothing_is_quietly_ignored(query: list[tuple[str, str]], errors: dict[str, str]) -> None:
    with pytest.raises(Problem) as raised:
        refuse_unknown(MultiDict(query), KNOWN)
    assert raised.value.errors == errors


@pytest.mark.parametrize(
    "query", [[], [("limit", "1")], [("after", ""), ("limit", "1")], [("map", "a:"), ("map", "b:")]]
)
def test_what_is_known_may_come(query: list[tuple[str, str]]) -> None:
    refuse_unknown(MultiDict(query), KNOWN)
