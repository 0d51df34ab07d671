"""Hashes passwords with scrypt, away from the event loop."""

import asyncio
import hashlib
import hmac
import secrets
from concurrent.futures import Executor

SALT_BYTES = 16
# 16 MiB and some 40 ms a hash, the lower of the settings in RFC 7914.
COST, BLOCK_SIZE, PARALLELISM = 2**14, 8, 1


async def hash_password(password: str, executor: Executor) -> str:
    salt = secrets.token_bytes(SALT_BYTES)
    digest = await _run(password, salt, executor)
    return f"{salt.hex()}${digest.hex()}"


async def is_password(password: str, hashed: str, executor: Executor) -> bool:
    salt, _, digest = hashed.partition("$")
    actual = await _run(password, bytes.fromhex(salt), executor)
    return hmac.compare_digest(actual.hex(), digest)


async def _run(password: str, salt: bytes, executor: Executor) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(
        executor, _scrypt, password.encode(), salt
    )


def _scrypt(password: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=COST, r=BLOCK_SIZE, p=PARALLELISM)
