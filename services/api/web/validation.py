"""Reading a JSON value as a model, and explaining to the client which fields are wrong."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from services.api.web.problems import validation_problem
from shared.events.wording import message_of

# A request can be wrong in more ways, and have longer keys, than anyone will read.
MOST_ERRORS = 50
LONGEST_NAME = 60

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], value: object) -> Model:
    """Validate a JSON value; raises `Problem` 400 that names every wrong field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_problem(_explain(error)) from None


def _explain(error: ValidationError) -> dict[str, str]:
    details = error.errors(include_url=False, include_input=False)
    return {_name(detail): message_of(detail) for detail in details[:MOST_ERRORS]}


def _name(detail: ErrorDetails) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in detail["loc"]) or "body"
