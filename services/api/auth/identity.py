"""The signed-in user."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """A user of the Supabase project; `id` is the token's `sub`."""

    id: str
