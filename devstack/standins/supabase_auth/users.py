"""Creates users, by themselves or by an administrator, and checks their passwords."""

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
import uuid
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from devstack.standins.supabase_auth.accounts import Accounts, User, now
from devstack.standins.supabase_auth.credentials import (
    Credentials,
    LinkParameters,
    NewUser,
    UserChanges,
    check_email,
    check_password,
    check_password_length,
    read_duration,
)
from devstack.standins.supabase_auth.errors import AuthError, invalid
from devstack.standins.supabase_auth.settings import Hook, SupabaseAuthSettings

MADE_UP_PASSWORD_BYTES = 48
SALT_BYTES = 16
BLOCK_SIZE, PARALLELISM = 8, 1
# What hashes were made with that do not name it.
FIRST_COST = 2**14


class Users:
    """Checks credentials and keeps accounts."""

    def __init__(
        self, accounts: Accounts, settings: SupabaseAuthSettings, *, executor: Executor
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._executor = executor

    async def sign_up(self, wanted: Credentials) -> User:
        """Returns the user, unconfirmed unless the project confirms by itself.

        For an address that is taken, the user returned is a decoy that is stored nowhere, so that
        the answer does not reveal it; a project that confirms by itself cannot hide it.
        """
        self._check_sign_up(wanted)
        email = check_email(wanted.email)
        user = self._accounts.by_email(email)
        if user is None:
            self.ask_hook("before-user-created")
            user = _new_user(email, wanted.data)
            claims = {
                "email": email,
                "email_verified": self._settings.autoconfirm,
                "phone_verified": False,
                "sub": user.id,
            }
            user = replace(
                user,
                user_metadata={**wanted.data, **claims},
                confirmed_at=now() if self._settings.autoconfirm else None,
            )
            return await self._store(user, wanted.password, taken=_already_registered)
        if user.confirmed_at is None:
            # Who asks again gets another chance to confirm; the first password stands.
            return self._confirmed(user) if self._settings.autoconfirm else user
        if self._settings.autoconfirm:
            raise _already_registered()
        return replace(_new_user(email, wanted.data), user_metadata=wanted.data)

    async def create(self, wanted: NewUser) -> User:
        """As the service does, an administrator's password is not checked for strength."""
        if not wanted.email and not wanted.phone:
            raise invalid("Cannot create a user without either an email or phone")
        email = check_email(wanted.email)
        check_password_length(wanted.password)
        metadata = dict(wanted.user_metadata)
        if wanted.email_confirm:
            metadata["email_verified"] = True
        user = _new_user(email, metadata)
        user = replace(
            user,
            app_metadata={**user.app_metadata, **wanted.app_metadata},
            confirmed_at=now() if wanted.email_confirm else None,
        )
        if self._accounts.by_email(email) is not None:
            raise _email_exists()
        password = wanted.password or secrets.token_urlsafe(MADE_UP_PASSWORD_BYTES)
        return await self._store(user, password, taken=_email_exists)

    async def add_unconfirmed(self, wanted: LinkParameters) -> User:
        """The user of a link that confirms an address; one who waits already stays as he is."""
        email = check_email(wanted.email)
        user = self._accounts.by_email(email)
        if user is not None:
            if user.confirmed_at is not None:
                raise _email_exists()
            return user
        check_password(wanted.password, self._settings)
        self.ask_hook("before-user-created")
        user = replace(_new_user(email, wanted.data), user_metadata=wanted.data)
        return await self._store(user, wanted.password, taken=_email_exists)

    async def change(self, user: User, changes: UserChanges) -> User:
        """What an administrator changes; a password has to be strong, unlike that of `create`."""
        duration = read_duration(changes.ban_duration) if changes.ban_duration else None
        if changes.password is not None:
            check_password(changes.password, self._settings)
            self._accounts.change_password(user.id, await self._hash(changes.password))
        if duration is not None:
            self._accounts.ban(user.id, duration)
        return self._confirmed(user) if changes.email_confirm else user

    def ask_hook(self, hook: Hook) -> None:
        """Raises `AuthError` when the project's hook refuses."""
        refusal = self._settings.hooks.get(hook)
        if refusal is not None:
            raise AuthError(refusal.status, refusal.code, refusal.message)

    async def log_in(self, given: Credentials) -> User:
        if not self._settings.email_enabled:
            raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
        user = self._accounts.by_email(given.email.lower())
        if user is not None and self._accounts.is_banned(user.id):
            raise AuthError(400, "user_banned", "User is banned")
        if user is None or not await is_password(
            given.password, user.password_hash, self._executor
        ):
            raise AuthError(400, "invalid_credentials", "Invalid login credentials")
        if user.confirmed_at is None:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        self.ask_hook("custom-access-token")
        return user

    def _check_sign_up(self, wanted: Credentials) -> None:
        if not self._settings.signup_enabled:
            raise AuthError(422, "signup_disabled", "Signups not allowed for this instance")
        if not wanted.email and not wanted.phone:
            raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        check_password(wanted.password, self._settings)
        if wanted.phone:
            raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
        if not self._settings.email_enabled:
            raise AuthError(400, "email_provider_disabled", "Email signups are disabled")

    async def _store(self, user: User, password: str, *, taken: Any) -> User:
        user = replace(user, password_hash=await self._hash(password))
        try:
            self._accounts.add(user)
        except sqlite3.IntegrityError as error:
            # Another caller signed up with it while the password was hashed.
            raise taken() from error
        return user

    async def _hash(self, password: str) -> str:
        return await hash_password(password, self._executor, cost=self._settings.password_cost)

    def _confirmed(self, user: User) -> User:
        self._accounts.confirm(user.id)
        return self._accounts.by_id(user.id) or user


def _new_user(email: str, metadata: dict[str, Any]) -> User:
    return User(
        id=str(uuid.uuid4()),
        email=email,
        password_hash="",
        app_metadata={"provider": "email", "providers": ["email"]},
        user_metadata=metadata,
        created_at=now(),
    )


def _already_registered() -> AuthError:
    return AuthError(422, "user_already_exists", "User already registered")


def _email_exists() -> AuthError:
    return AuthError(
        422, "email_exists", "A user with this email address has already been registered"
    )


async def hash_password(password: str, executor: Executor, *, cost: int) -> str:
    """Hashes with scrypt, away from the event loop."""
    salt = secrets.token_bytes(SALT_BYTES)
    digest = await _scrypt_in(password, salt, cost, executor)
    return f"{salt.hex()}${digest.hex()}${cost}"


async def is_password(password: str, hashed: str, executor: Executor) -> bool:
    salt, digest, *cost = hashed.split("$")
    made_with = int(cost[0]) if cost else FIRST_COST
    actual = await _scrypt_in(password, bytes.fromhex(salt), made_with, executor)
    return hmac.compare_digest(actual.hex(), digest)


async def _scrypt_in(password: str, salt: bytes, cost: int, executor: Executor) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(
        executor, _scrypt, password.encode(), salt, cost
    )


def _scrypt(password: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost, r=BLOCK_SIZE, p=PARALLELISM)
