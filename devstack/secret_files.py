"""Files that only their owner may read: generated passwords and keys."""

import os
import secrets
from pathlib import Path

OWNER_ONLY = 0o600
SECRET_BYTES = 24


def kept_secret(path: Path) -> str:
    """Returns the secret in the file, made up on the first call."""
    if path.exists():
        return path.read_text().strip()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    write_secret(path, secret)
    return secret


def write_secret(path: Path, text: str) -> None:
    """Replaces the file as a whole, so that a crash leaves the old text or the new."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=OWNER_ONLY, exist_ok=False)
    draft.write_text(text)
    draft.replace(path)
