"""`/authentication`, described."""

from services.api.handlers.schemas import Credentials, NewAccount, RefreshToken
from services.api.openapi.account_representations import Me, Session, SignedUp
from services.api.openapi.description import Answer, Body, Description, Tag

EXAMPLE_CREDENTIALS = {"email": "ada@example.com", "password": "correct horse battery"}

SIGN_UP = Description(
    id="signUp",
    tag=Tag.AUTHENTICATION,
    summary="Make an account",
    body=Body.json(NewAccount, **EXAMPLE_CREDENTIALS),
    answers=(Answer.json(201, SignedUp, "The account is made"),),
    problems=("sign-up-closed", "email-taken", "rate-limited", "auth-unavailable"),
)
LOG_IN = Description(
    id="logIn",
    tag=Tag.AUTHENTICATION,
    summary="Log in",
    explanation="Send the `access_token` with every other request: `Authorization: Bearer ...`.",
    body=Body.json(Credentials, **EXAMPLE_CREDENTIALS),
    answers=(Answer.json(200, Session, "Signed in"),),
    problems=(
        "invalid-credentials",
        "email-not-confirmed",
        "account-suspended",
        "rate-limited",
        "auth-unavailable",
    ),
)
REFRESH = Description(
    id="refreshSession",
    tag=Tag.AUTHENTICATION,
    summary="Go on with a session whose access token expires",
    explanation="A refresh token serves once: the answer has the next.",
    body=Body.json(RefreshToken, refresh_token="v1.MXc1cmVmcmVzaA"),  # noqa: S106 (made up)
    answers=(Answer.json(200, Session, "Signed in"),),
    problems=("session-over", "account-suspended", "rate-limited", "auth-unavailable"),
)
LOG_OUT = Description(
    id="logOut",
    tag=Tag.AUTHENTICATION,
    summary="End the session",
    explanation="Its access tokens are refused from then on, by every process within a minute.",
    answers=(Answer(status=204, description="The session is over"),),
    problems=("rate-limited", "auth-unavailable", "unavailable"),
)
ME = Description(
    id="readMe",
    tag=Tag.AUTHENTICATION,
    summary="Ask who is signed in",
    answers=(Answer.json(200, Me, "Who is"),),
)
