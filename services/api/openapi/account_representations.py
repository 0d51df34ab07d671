"""Accounts and sessions as the API answers with them, as models for the document."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.api.openapi.representations import EXAMPLE_LEAD, Representation, with_example
from shared.events.lead_fields import Email


class SignedUp(Representation):
    """A new account."""

    model_config = with_example(email="ada@example.com")

    email: Email


class Session(BaseModel):
    """The tokens of a signed-in user."""

    model_config = with_example(
        access_token="eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI1ZjBjMmIxZSJ9.c2lnbmF0dXJl",  # noqa: S106 (made up)
        refresh_token="v1.MXc1cmVmcmVzaA",  # noqa: S106 (made up)
        expires_in=3600,
        token_type="bearer",  # noqa: S106 (not a secret)
    )

    access_token: Annotated[str, Field(description="To be sent as `Authorization: Bearer ...`")]
    refresh_token: str
    expires_in: Annotated[int, Field(description="Seconds until the access token expires")]
    token_type: Literal["bearer"]


class Me(Representation):
    """The signed-in user, as the access token says."""

    model_config = with_example(
        id=EXAMPLE_LEAD["createdBy"], email="ada@example.com", expiresAt="2026-11-24T10:30:00Z"
    )

    id: str
    email: Annotated[str | None, Field(description="Null when the account has none")]
    expires_at: Annotated[datetime, Field(description="When the access token expires")]
