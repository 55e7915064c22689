"""Give up, for good, whatever decoding does not need."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# <linux/landlock.h>; the numbers of these calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION_FLAG = 1
# Rights over files, TCP and other processes that each version of Landlock can take away.
_FILE_RIGHTS = ((5, (1 << 16) - 1), (3, (1 << 15) - 1), (2, (1 << 14) - 1), (1, (1 << 13) - 1))
_NET_RIGHTS = ((4, 0b11),)
_SCOPES = ((6, 0b11),)

# Standard streams, socket, spool, its mapping; a few to spare.
_MAX_DESCRIPTORS = 16
# An id of no account, above those that systemd gives out; `nobody` may be who runs the database.
_NO_ONE = 65530

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def confine(memory_bytes: int, niceness: int) -> None:
    """Limit this process, which has loaded all its code, to its memory and its open descriptors.

    It can open, make and lengthen no file, start no process, signal no other, dies with its parent
    and goes behind others, by `niceness`, where processors are short. Root becomes a user without a
    name. What a kernel cannot take away is left; the limits always hold.

    Under coverage, whose data has to be written at the end, the right to files stays.
    """
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.nice(niceness)
    if not is_measured():
        _limit(resource.RLIMIT_FSIZE, 0)
        _limit(resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS)
        _limit(resource.RLIMIT_NPROC, 0)
        _become_no_one()
        _enter_landlock()
    # After the change of user, which resets it.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def is_measured() -> bool:
    """Whether coverage runs in this process."""
    return any(name.startswith("COVERAGE_PROCESS_") for name in os.environ)


def limit_cpu(seconds: float) -> None:
    """Kill this process with SIGXCPU once it has used `seconds` more of a processor."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_lower(limit, most), most))


def _limit(kind: int, value: int) -> None:
    """Set a limit that cannot be raised again, or leave a lower one that was inherited."""
    value = _lower(value, resource.getrlimit(kind)[1])
    resource.setrlimit(kind, (value, value))


def _lower(limit: int, other: int) -> int:
    return limit if other == resource.RLIM_INFINITY else min(limit, other)


def landlock_version() -> int:
    """Which version of Landlock the kernel has; below 1 for none."""
    version: int = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG)
    return version


def _become_no_one() -> None:
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(_NO_ONE, _NO_ONE, _NO_ONE)
            os.setresuid(_NO_ONE, _NO_ONE, _NO_ONE)


def _enter_landlock() -> None:
    """Take away every right that this kernel's Landlock knows; without it nothing happens."""
    version = landlock_version()
    if version < 1:
        return
    ruleset = _Ruleset(*(_known(rights, version) for rights in (_FILE_RIGHTS, _NET_RIGHTS, _SCOPES)))
    descriptor = _libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if descriptor >= 0:
        _libc.syscall(_LANDLOCK_RESTRICT_SELF, descriptor, 0)
        os.close(descriptor)


def _known(rights: tuple[tuple[int, int], ...], version: int) -> int:
    return next((mask for since, mask in rights if version >= since), 0)
