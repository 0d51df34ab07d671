"""Which parameters an address may have: those that its route reads, each at most once."""

from collections.abc import Collection

from multidict import MultiMapping

from services.api.problems import validation_problem


def refuse_unknown(query: MultiMapping[str], *, known: Collection[str]) -> None:
    """Raise `Problem` 400 for parameters that would be ignored, or that come twice."""
    errors = {name: "Is not a parameter of this address" for name in query if name not in known}
    errors |= {name: "May be given once" for name in known if len(query.getall(name, [])) > 1}
    if errors:
        raise validation_problem(errors)
