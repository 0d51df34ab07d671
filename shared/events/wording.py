"""What is wrong with a value, in the terms of its author. Says nothing of the value itself."""

from pydantic_core import ErrorDetails

# What pydantic says in its own terms.
MESSAGES = {
    "missing": "Is required",
    "extra_forbidden": "Is not a field that can be set",
    "string_type": "Must be a string",
    "list_type": "Must be an array",
    "model_type": "Must be an object",
    "string_too_short": "Must have at least {min_length} characters",
    "too_short": "Must have at least {min_length} characters",
    "string_too_long": "Must have at most {max_length} characters",
    "too_long": "Must have at most {max_length} characters",
    "uuid_parsing": "Must be a UUID",
    "uuid_type": "Must be a UUID",
}


def message_of(detail: ErrorDetails) -> str:
    """Return one of pydantic's findings in words."""
    context = detail.get("ctx", {})
    if context.get("min_length") == 1:
        return "Must not be empty"
    if context.get("field_type") in {"List", "Tuple"}:
        return f"Must have at most {context['max_length']} items"
    words = MESSAGES.get(detail["type"])
    return detail["msg"] if words is None else words.format_map(context)
