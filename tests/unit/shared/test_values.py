"""Values are equal by what they hold. That nobody changes one is for type checkers to see."""

from shared.domain.values import value


@value()
class Point:
    """A value for these tests."""

    x: int
    y: int = 0


def test_a_value_is_what_it_holds() -> None:
    assert Point(1) == Point(1, 0)
    assert {Point(1), Point(1, 0)} == {Point(1)}
    assert not hasattr(Point(1), "__dict__")


def test_a_value_is_frozen_for_type_checkers_alone() -> None:
    point = Point(1)
    # Both complain of a comment here that they have no use for.
    point.x = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert point.x == 2
