"""The files of a PostgreSQL server: made once, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from chitram.platform.embedded.directory import sync_directory
from chitram.platform.embedded.errors import StartError, explained
from chitram.platform.embedded.process import start
from chitram.platform.embedded.processes import end_marked
from chitram.platform.embedded.service import failure
from chitram.platform.embedded.users import User

# Nothing of the caller's PG* variables may reach the server or its tools.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
_MAKE_SECONDS = 120.0
_PREDECESSOR_SECONDS = 10.0


def make(
    cluster: Path,
    program: Path,
    *,
    user: User | None,
    superuser: str,
    password: str,
    log: Path,
    durable: bool,
) -> None:
    """Make the cluster with `initdb` unless it is there already; raises `StartError`.

    It is made beside its place and renamed, so one that a kill left unfinished is begun anew.
    """
    if (cluster / "PG_VERSION").exists():
        return
    prefix = f"{cluster.name}.new-"
    for unfinished in cluster.parent.glob(f"{prefix}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        # A name of its own: children of a killed initdb may still write where that one was.
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=cluster.parent))
    except OSError as error:
        raise explained(error, cluster) from error
    try:
        if user:
            os.chown(made, user.uid, user.gid)
        _initdb(program.with_name("initdb"), made, user, superuser, password, log, durable=durable)
        made.rename(cluster)
        sync_directory(cluster.parent)
    except OSError as error:
        raise explained(error, cluster) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _initdb(
    program: Path,
    target: Path,
    user: User | None,
    superuser: str,
    password: str,
    log: Path,
    *,
    durable: bool,
) -> None:
    # A file in memory: the password is never on a disk, nor left behind by a kill.
    password_file = os.memfd_create("password")
    try:
        os.write(password_file, f"{password}\n".encode())
        process = start(
            "initdb",
            [
                program,
                f"--pgdata={target}",
                f"--username={superuser}",
                f"--pwfile=/proc/self/fd/{password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--data-checksums",
                "--no-instructions",
                # What filled the disk is still there when the failure is explained.
                "--no-clean",
                # Reaches the copy of the binaries too, which is on the same file system.
                "--sync-method=syncfs" if durable else "--no-sync",
            ],
            environment=ENVIRONMENT,
            user=user,
            log=log,
            pass_fds=[password_file],
        )
    finally:
        os.close(password_file)
    try:
        if process.wait(_MAKE_SECONDS) != 0:
            raise failure(process, "PostgreSQL could not make its files.")
    finally:
        process.stop()


def check_version(cluster: Path, program_version: str) -> None:
    """Refuse files of another major version of PostgreSQL than `program_version`."""
    try:
        found = (cluster / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise explained(error, cluster) from error
    wanted = program_version.split(".", maxsplit=1)[0]
    if found != wanted:
        raise StartError(
            f"{cluster} was made by PostgreSQL {found}, but this is PostgreSQL {wanted}. Dump it with "
            f"the Chitram that made it and restore that here, or choose another place with "
            f"CHITRAM_DATA_DIR."
        )


def marker(cluster: Path) -> str:
    """A word that every process of the server on these files shows, whatever path leads there."""
    status = cluster.stat()
    return f"chitram-{status.st_dev:x}-{status.st_ino:x}"


def end_predecessors(cluster: Path, user: User | None) -> None:
    """Clear away what a killed server left: processes still at work, and its pid file.

    To be called with the data directory held, which is why no other server can be on these files.
    The pid in the file may belong to anyone by now, and PostgreSQL would refuse to start.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        if not pid_file.exists():
            return
        uid = user.uid if user else os.geteuid()
        if not end_marked(marker(cluster), uid, _PREDECESSOR_SECONDS):
            raise StartError(
                f"Processes of an earlier PostgreSQL on {cluster} do not end. "
                "Kill them, or restart the machine."
            )
        pid_file.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, cluster) from error
