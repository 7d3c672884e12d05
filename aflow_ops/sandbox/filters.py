"""Which system calls a program in the sandbox may make: allow-lists, compiled once by libseccomp.

What is not listed, calls that no kernel has yet included, fails with `ENOSYS`, so that the C library falls back where
it can. Calls that are harmless with some arguments only are listed with these arguments.

Three lists. `program` is for code that nobody trusts: it is one process that reads the interpreter's files, computes
and answers on the descriptors that it was born with; its threads share these. `single` is the same without threads,
which are counted for a worker as a whole: it is for programs that share one with others. `forking` is for programs of
ours that fork a confined process for such code: it adds that, and what a process needs to confine itself.
"""

import errno
import tempfile
from contextlib import suppress
from functools import cache
from typing import Any, Literal

from aflow_ops.errors import UsageError

# Stands in a filter for the process that installs it; `inside/confinement.py` writes the process's own number over it.
SELF = 0x5AFE5E1F

_FILES = (
    "access chdir close dup dup2 dup3 faccessat faccessat2 fchdir fstat fstatfs getcwd getdents getdents64 "
    "lseek lstat newfstatat open openat pread64 preadv read readlink readlinkat readv stat statfs statx umask write "
    "writev pwrite64 pwritev"
)
_WAITING = (
    "alarm epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex_waitv "
    "getitimer nanosleep pause pipe poll ppoll pselect6 restart_syscall sched_yield select setitimer timerfd_create "
    "timerfd_gettime timerfd_settime wait4 waitid"
)
_MEMORY = "brk mprotect mremap munmap"
_SIGNALS = "rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack"
_ITSELF = (
    "arch_prctl exit exit_group getcpu getegid geteuid getgid getgroups getpgrp getpid "
    "getppid getrandom getresgid getresuid getrlimit getrusage gettid gettimeofday getuid rseq set_robust_list "
    "set_tid_address setrlimit sysinfo time times uname"
)
_SOCKETPAIR = "getpeername getsockname shutdown"
PROGRAM = " ".join((_FILES, _WAITING, _MEMORY, _SIGNALS, _ITSELF, _SOCKETPAIR)).split()
FORKING = ["fork", "kill", "seccomp", "vfork"]

AF_UNIX = 1
MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT, MSG_WAITALL, MSG_NOSIGNAL = 0x2, 0x20, 0x40, 0x100, 0x4000
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ = 0, 1, 2, 3, 4, 1030, 1032
TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX = 0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451
PR_SET_PDEATHSIG, PR_SET_NAME, PR_GET_NAME, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 15, 16, 22, 38
PR_SET_VMA = 0x53564D41
CLONE_VM, CLONE_FILES, CLONE_THREAD = 0x100, 0x400, 0x10000
# Of memory of its own: how it will be used, that it is not, and whether a fork has it. Not what takes a page out of the
# machine's use or memory, or looks for equal pages of others.
MADVISED = (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19)
# The machine's; all processes share the pages that are set apart for it.
MAP_HUGETLB = 0x40000
# The kernel reads 32 bits of what a futex is asked for: operations with a mask, to wait and to wake. Not those on locks
# that are handed on by priority: they take any process for the owner.
FUTEX_OPERATIONS, FUTEX_OPTIONS = ((0, 3), (4, 1), (9, 0), (10, 0)), 128 | 256
# CLOCK_REALTIME and its like: other numbers stand for what another process has computed.
CLOCKS = 15
SOL_SOCKET = 1
# Type, error, protocol and domain. Not who made the other end: that can be a handle on its process.
SOCKET_OPTIONS = (3, 4, 38, 39)
O_NONBLOCK, O_DIRECT, O_CLOEXEC = 0x800, 0x4000, 0x80000
# A table of descriptors is of at most so many; one for each thread would be sixty times as much.
CLOSE_RANGE_CLOEXEC = 4
# NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, and PTRACE, UNTRACED, PARENT: no relations either.
CLONE_REFUSED = 0x80 | 0x20000 | 0x7E000000 | 0x2000 | 0x800000 | 0x8000
_INT_BITS, _ALL_BITS = 2**32 - 1, 2**64 - 1


def _libseccomp() -> Any:
    try:
        import pyseccomp
    except ImportError as error:
        raise UsageError(f"{error}: install the project's dependencies again (pip install -e .)") from error
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"libseccomp cannot be loaded ({error}), and without it system calls cannot be filtered: install it "
            "(apt-get install libseccomp2), or accept resource limits only with --unsafe_subprocess"
        ) from error
    return pyseccomp


@cache
def compile_filter(kind: Literal["program", "single", "forking"]) -> bytes:
    """Return the filter as the kernel takes it (classic BPF), with `SELF` where the process's number belongs.

    Args:
        kind (`str`): which of the three lists.

    Raises:
        UsageError: libseccomp is not installed.
    """
    seccomp = _libseccomp()
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))
    with suppress(OSError, ValueError):  # libseccomp before 2.5 makes a list, which means the same
        rules.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)  # a tree: the kernel reads half as long before it takes it

    def add(name: str, *tests: object) -> None:
        try:
            rules.add_rule(seccomp.ALLOW, name, *tests)
        except (OSError, ValueError):
            return  # this machine has no such call, or libseccomp does not know it: then it is refused

    def is_(index: int, value: int) -> object:
        return seccomp.Arg(index, seccomp.EQ, value)

    def bits(index: int, mask: int, value: int = 0) -> object:
        return seccomp.Arg(index, seccomp.MASKED_EQ, mask, value)

    for name in PROGRAM + (FORKING if kind == "forking" else []):
        add(name)
    for name, index, values in (
        ("fcntl", 1, (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ)),
        ("ioctl", 1, (TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX)),
        ("prlimit64", 0, (0, SELF)),
        ("close_range", 2, (0, CLOSE_RANGE_CLOEXEC)),
        ("madvise", 2, MADVISED),
        ("sched_getaffinity", 0, (0, SELF)),
        ("tgkill", 0, (SELF,)),
        ("socketpair", 0, (AF_UNIX,)),
        ("prctl", 0, (PR_SET_NAME, PR_GET_NAME, PR_SET_VMA)),
    ):
        for value in values:
            add(name, is_(index, value))
    for value in SOCKET_OPTIONS:
        add("getsockopt", is_(1, SOL_SOCKET), is_(2, value))
    for value, mask in FUTEX_OPERATIONS:
        add("futex", bits(1, _INT_BITS ^ (FUTEX_OPTIONS | mask), value))
    for name in ("clock_getres", "clock_gettime", "clock_nanosleep"):
        add(name, bits(0, _INT_BITS ^ CLOCKS))
    add("mmap", bits(3, MAP_HUGETLB))
    add("pipe2", bits(1, _ALL_BITS ^ (O_NONBLOCK | O_DIRECT | O_CLOEXEC)))
    if kind == "forking":
        for value in (PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS):
            add("prctl", is_(0, value))
        add("clone", bits(0, CLONE_REFUSED))
    else:
        add("kill", is_(0, SELF))
        thread = CLONE_VM | CLONE_THREAD | CLONE_FILES
        if kind == "program":
            add("clone", bits(0, CLONE_REFUSED | thread, thread))
    add("sendto", bits(3, _ALL_BITS ^ (MSG_DONTWAIT | MSG_NOSIGNAL)), is_(4, 0))
    add("recvfrom", bits(3, _ALL_BITS ^ (MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT | MSG_WAITALL)))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
