"""Where PostgreSQL's files lie, and who it runs as.

PostgreSQL refuses to run as root, so root runs it as `nobody`. A checkout below /root is out of
reach for `nobody`: the data then lies elsewhere, with a link in the place that was asked for, and
the binaries are copied beside it. Permissions of directories that are not ours stay as they are.
"""

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import CannotRunError
from devstack.process import Account

CLUSTER = "cluster"
NOBODY = "nobody"
NOBODY_WITHOUT_ENTRY = Account(user_id=65_534, group_id=65_534)
# The first is for state that outlives reboots and cleaners of temporary files.
PLACES_IN_REACH = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  mkdtemp makes the name
EVERYONE_PASSES = 0o755
OWNER_ONLY = 0o700


class NoHomeError(CannotRunError):
    """There is no place where PostgreSQL could run."""


@dataclass(frozen=True, slots=True)
class PostgresHome:
    """A directory of ours with the cluster, PostgreSQL's data directory, inside."""

    path: Path
    binaries: Path
    account: Account | None = None
    notice: str | None = None

    @property
    def cluster(self) -> Path:
        return self.path / CLUSTER

    @property
    def version(self) -> int | None:
        """The major version that created the cluster; None when there is no cluster yet."""
        mark = self.cluster / "PG_VERSION"
        return int(mark.read_text()) if mark.exists() else None

    def new_directory(self, name: str) -> Path:
        """Creates an empty directory that belongs to the account, and drops an old one."""
        path = self.path / name
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(mode=OWNER_ONLY)
        self.hand_over(path)
        return path

    def hand_over(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.user_id, self.account.group_id)


def prepare_home(directory: Path, binaries: Path) -> PostgresHome:
    """Raises NoHomeError when root can neither pass `nobody` a directory nor find it another."""
    directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        require_owner(directory / CLUSTER, os.geteuid())
        return PostgresHome(directory, binaries)
    account = nobody()
    path = home_in_reach(directory, account)
    notice = None if path == directory else f"PostgreSQL's data is in {path}: it runs as {NOBODY}"
    require_owner(path / CLUSTER, account.user_id)
    return PostgresHome(path, binaries_in_reach(binaries, path), account, notice)


def nobody() -> Account:
    try:
        entry = pwd.getpwnam(NOBODY)
    except KeyError:
        return NOBODY_WITHOUT_ENTRY
    return Account(entry.pw_uid, entry.pw_gid)


def require_owner(cluster: Path, user_id: int) -> None:
    """PostgreSQL refuses data of another user, as a run with sudo leaves behind."""
    if cluster.exists() and cluster.stat().st_uid != user_id:
        raise NoHomeError(
            f"{cluster} belongs to another user: start this as before, or with another DATA_DIR"
        )


def home_in_reach(directory: Path, account: Account) -> Path:
    link = directory / "elsewhere"
    if link.is_dir():
        return link.resolve()
    if everyone_reaches(directory) and can_own(directory, account):
        return directory
    for place in PLACES_IN_REACH:
        if place.is_dir() and os.access(place, os.W_OK) and can_own(place, account):
            home = Path(tempfile.mkdtemp(prefix="leads-", dir=place))
            home.chmod(EVERYONE_PASSES)
            link.unlink(missing_ok=True)
            link.symlink_to(home)
            return home
    raise NoHomeError(
        "PostgreSQL refuses to run as root, and root may not hand files to `nobody` here: "
        "run as another user, or set SUPABASE_CONNECTION_STRING to a running database"
    )


def binaries_in_reach(binaries: Path, home: Path) -> Path:
    if everyone_reaches(binaries) and everyone_may(binaries / "postgres", stat.S_IXOTH):
        return binaries
    install, libraries = binaries.parent, binaries.parent.parent.with_suffix(".libs")
    if install.name != "pginstall":
        raise NoHomeError(f"`nobody` may not run {binaries}/postgres: check its permissions")
    built = (binaries / "postgres").stat()
    copy = home / f"server-{built.st_size:x}-{built.st_mtime_ns:x}"
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(dir=home))
        # Whole, since the binaries look for their libraries relative to themselves.
        shutil.copytree(install.parent, draft / install.parent.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        open_to_everyone(draft)
        draft.rename(copy)
    return copy / install.parent.name / install.name / "bin"


def open_to_everyone(tree: Path) -> None:
    """Lets everyone read, and run what the owner may run."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def everyone_reaches(directory: Path) -> bool:
    """Whether any user may pass through the directory and all above it, links followed or not."""
    passed = {*directory.parents, directory, *directory.resolve().parents, directory.resolve()}
    return all(everyone_may(step, stat.S_IXOTH) for step in passed)


def everyone_may(path: Path, permission: int) -> bool:
    return bool(path.stat().st_mode & permission)


def can_own(directory: Path, account: Account) -> bool:
    """Tries, as some mounts of containers and networks refuse or ignore a change of owner."""
    with tempfile.TemporaryDirectory(dir=directory) as probe:
        try:
            os.chown(probe, account.user_id, account.group_id)
        except OSError:
            return False
        found = Path(probe).stat()
        return (found.st_uid, stat.S_IMODE(found.st_mode)) == (account.user_id, OWNER_ONLY)
