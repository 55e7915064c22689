"""Who the embedded servers run as."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chitram.platform.embedded.errors import StartError

_UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class User:
    """A user by ids; `name` is for messages."""

    uid: int
    gid: int
    name: str


def server_user(data: Path) -> User | None:
    """The user for a server that keeps its data in `data`; None is the user of this process.

    PostgreSQL refuses to run as root, and no server needs to: root hands them to `nobody`, or to
    the owner of data that was made by another user before.
    """
    if os.geteuid() != 0:
        return None
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        owner = 0
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam(_UNPRIVILEGED)
    except KeyError as error:
        raise StartError(
            f"PostgreSQL does not run as root and there is no user {owner or _UNPRIVILEGED} here. "
            "Start Chitram as another user."
        ) from error
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def check_named() -> None:
    """Raise `StartError` when this process's user has no name, without which PostgreSQL does not start.

    Containers are often run as such a user.
    """
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise StartError(
            f"PostgreSQL does not run as user {os.geteuid()}, who has no entry in /etc/passwd. Add one, "
            "start Chitram as another user, or use a server of your own by setting CHITRAM_DATABASE_URL."
        ) from error


def can_enter(user: User, directory: Path) -> bool:
    """Whether `user` can reach what lies below `directory`; the kernel is asked."""
    asked = subprocess.run(  # noqa: S603 - the path is an argument, not part of the script
        ["/bin/sh", "-c", 'cd -- "$0"', directory],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return asked.returncode == 0
