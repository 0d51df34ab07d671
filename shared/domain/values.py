"""How to declare small immutable objects that are made by the thousand a second."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import dataclass_transform

Made = TypeVar("Made")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(*, kw_only: bool = False) -> Callable[[type[Made]], type[Made]]:
    """Make a class a slotted dataclass that type checkers hold to be frozen.

    Nothing checks it at run time: to set each field past such a check would triple the cost of
    making one.
    """
    return dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)
