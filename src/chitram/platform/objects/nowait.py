"""Opening a file only if the disk need not be asked for it."""

from __future__ import annotations

import ctypes
import os

# Opening something that is no regular file must not wait for its other end.
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Reads what is in the page cache; None where Python was built against a C library without the flag.
NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
# linux/openat2.h and asm/unistd.h, where the number is one for all architectures but alpha.
_OPENAT2 = 437
_RESOLVE_CACHED = 0x20
_AT_FDCWD = -100


class _How(ctypes.Structure):
    """`struct open_how`."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW = _How(READ_FILE, 0, _RESOLVE_CACHED)
# Of PyDLL, whose calls keep the interpreter's lock: none here waits, and giving it away may.
_syscall = ctypes.PyDLL(None).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def open_cached(path: bytes) -> int:
    """Open a file for reading if the kernel knows by heart where it lies; else return -1.

    Any other failure is -1 too, as is a kernel before Linux 5.12.
    """
    descriptor: int = _syscall(_OPENAT2, _AT_FDCWD, path, ctypes.byref(_HOW), ctypes.sizeof(_How))
    return descriptor


def tells_what_is_cached(descriptor: int) -> bool:
    """Say whether the file system of an open file reads without waiting, or says that it would wait.

    One that cannot, such as a network's, may ask its server even where nothing has to be looked up.
    """
    if NOWAIT is None:
        return False
    try:
        os.preadv(descriptor, [bytearray(1)], 0, NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
