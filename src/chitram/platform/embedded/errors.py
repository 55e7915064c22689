"""Why the embedded stack cannot start, told to the person who started it."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path


class StartError(Exception):
    """Something keeps the stack from starting; the message says what to do and holds no secret."""


_ELSEWHERE = "or choose another place with CHITRAM_DATA_DIR."


def explained(error: OSError, path: Path) -> StartError:
    """Turn a failure to use `path` into one line that says what to do."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return disk_full(path)
    if error.errno == errno.EROFS:
        return StartError(f"{path} is on a read-only file system. Make it writable, {_ELSEWHERE}")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return StartError(f"{path} is not writable by {_user_name()}. Change its owner, {_ELSEWHERE}")
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return StartError(f"{path} is not a directory. Move what is in the way, {_ELSEWHERE}")
    return StartError(f"{path} cannot be used: {error.strerror}. Mend that, {_ELSEWHERE}")


def disk_full(path: Path) -> StartError:
    """The refusal for a disk without enough space left."""
    return StartError(f"The disk that holds {path} is full. Free some space, {_ELSEWHERE}")


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
