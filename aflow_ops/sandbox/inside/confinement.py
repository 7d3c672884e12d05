"""Walls and limits that a process in the sandbox puts around itself: once the nursery, then each child once more.

Part of the program of `nursery.py`.
"""

import base64
import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
from typing import Any

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER = 1, 4, 8, 22, 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_READ_SEARCH = 1 << 2
# Of a child; the nursery needs two for each job.
OPEN_FILES = 64


_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]


class FilterProgram(ctypes.Structure):
    """A filter as the kernel takes it: `struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


class Filter:
    """A list of system calls, ready to be installed by a process.

    Args:
        text (`str`): classic BPF in base64.
        own (`int`): stands in it for the number of the process that installs it.
    """

    def __init__(self, text: str, own: int) -> None:
        code, mark = base64.b64decode(text), own.to_bytes(4, sys.byteorder)
        self._code = ctypes.create_string_buffer(code, len(code))
        # An instruction has eight bytes, of which the second half is its operand.
        self._places = [place for place in range(4, len(code), 8) if code[place : place + 4] == mark]
        self._program = FilterProgram(len(code) // 8, ctypes.addressof(self._code))
        self._address = ctypes.addressof(self._program)

    def install(self) -> None:
        """Hold this process to it for good."""
        own = os.getpid().to_bytes(4, sys.byteorder)
        for place in self._places:
            ctypes.memmove(ctypes.addressof(self._code) + place, own, 4)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, self._address)


def prctl(option: int, value: int, address: int = 0) -> None:
    """Call prctl(2)."""
    if _libc.prctl(option, value, address, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def confine(settings: dict[str, Any], name: str = "program") -> None:
    """Shut this process off: it dies with its parent, and gets the system calls of a list, which name it alone.

    Args:
        settings (`dict`): of the nursery.
        name (`str`): which of the lists of `filters.py`.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if settings["degraded"] is not None:
        settings["filters"][name].install()


def limit(settings: dict[str, Any], job: dict[str, Any]) -> None:
    """Bound what the child can hold and, where asked for, the time for which it computes."""
    data, own = settings["data_bytes"], job.get("memory_bytes")
    lower(resource.RLIMIT_DATA, data if own is None else min(data, settings["private"] + own))
    lower(resource.RLIMIT_AS, settings["mapped"] + data + settings["slack_bytes"])
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    if settings["threads"] is not None:
        lower(resource.RLIMIT_NPROC, settings["threads"])
    if job["cpu_seconds"] is not None:
        lower(resource.RLIMIT_CPU, max(1, round(job["cpu_seconds"])))


def lower(which: int, value: int) -> None:
    """Set both limits, never above what holds already."""
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def bytes_by(which: int) -> int:
    """How much memory of a limit's kind this process has: the smallest limit under which a page more still fits."""
    soft, hard = resource.getrlimit(which)
    low, high = 0, 1 << 40
    while high - low > mmap.PAGESIZE:
        middle = (low + high) // 2
        resource.setrlimit(which, (middle, hard))
        try:
            mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
            high = middle
        except OSError:
            low = middle
    resource.setrlimit(which, (soft, hard))
    return high


def drop_privileges(user: int, *, enters_closed: bool = False) -> None:
    """Become a user who owns nothing.

    Args:
        user (`int`): who.
        enters_closed (`bool`): keep one right of root's, to enter the folder in which the interpreter lies. What can be
            read is for Landlock to say.
    """
    prctl(PR_SET_KEEPCAPS, int(enters_closed))
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    drop_capabilities(CAP_DAC_READ_SEARCH if enters_closed else 0)


def drop_capabilities(kept: int = 0) -> None:
    """Stay who it is, root perhaps, without root's rights: limits that are set hold."""
    header, rights = struct.pack("=Ii", CAPABILITY_VERSION_3, 0), struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    if _libc.capset(header, rights) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def enclose(settings: dict[str, Any]) -> None:
    """Put the nursery itself behind its walls: another user, no file but the interpreter's, fixed limits."""
    if settings["user"] is not None:
        drop_privileges(settings["user"], enters_closed=settings["enters_closed"])
    else:
        drop_capabilities()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    if os.getppid() == 1 and not settings["contained"]:
        raise SystemExit("nobody left to work for")
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for which in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        lower(which, 0)
    lower(resource.RLIMIT_SIGPENDING, 256)
    if settings["degraded"] is not None:
        import sandlock

        sandlock.confine(
            sandlock.Sandbox(
                fs_readable=settings["readable"], fs_writable=["/dev/null"], allow_degraded=settings["degraded"]
            )
        )
