"""Backups of the database, and what makes a database of one again."""

from shared.domain.errors import PermanentError


class BackupError(PermanentError):
    """A backup could not be made or restored; the message says why, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="backup-failed")
