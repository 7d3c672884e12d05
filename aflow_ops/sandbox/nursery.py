"""The program inside the sandbox: a warm interpreter that forks a child for each job. Executed, not imported.

Starting an interpreter and importing sympy takes a second, forking one that has done so takes milliseconds. A child
starts with the state that the nursery had before its first job, so nothing of one program reaches the next.

`argv[1]`: JSON, see `Settings` in `launch.py`.

A job is one message on the socket that is our standard input: JSON `{"job", "kind", "seconds", "cpu_seconds",
"memory_bytes", "forks"}` with descriptors. Of a run: standard input, output and error, and the status pipe. Of a
session: the channel and the status pipe. The child reads its program from its standard input or channel, after its
length: the nursery never holds what is secret to a later job. Nobody but the nursery holds the status pipe: it writes
`S` when the child is forked, and when it has ended JSON `{"status", "cut", "changed"}`. `changed` names what is not as
it was when the nursery started, or `"processes"` when one was left behind; whoever reads that ends this worker.
A message `{"kill": job, "reason"}` ends a job, and so does closing the other end of its status pipe.
"""

import base64
import ctypes
import gc
import importlib
import json
import marshal
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
SECCOMP_MODE_FILTER = 2
LINGER_SECONDS = 0.1
# Of a child; the nursery needs two for each job.
OPEN_FILES = 64
LIMITS = [value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_")]

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: Any) -> None:
    """Call prctl(2)."""
    if _libc.prctl(option, *arguments, *[0] * (4 - len(arguments))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


# The child's side


def read_exactly(size: int, fd: int = 0) -> bytes:
    """Read unbuffered, so that what follows is still there for the program."""
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            raise EOFError("input ended early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_frame(fd: int) -> bytes:
    """Read what follows its length in eight bytes."""
    return read_exactly(int.from_bytes(read_exactly(8, fd), "big"), fd)


def write_frame(fd: int, data: bytes) -> None:
    """Write data after its length."""
    data = len(data).to_bytes(8, "big") + data
    while data:
        data = data[os.write(fd, data) :]


def confine(settings: dict[str, Any], name: str = "program") -> None:
    """Shut this process off: it dies with its parent, and gets the system calls of a list, which name it alone.

    Args:
        settings (`dict`): of the nursery.
        name (`str`): `"program"` for code that nobody trusts, `"forking"` for ours that forks and confines.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if settings["degraded"] is None:
        return
    code, places = settings["filters"][name]
    code = bytearray(code)
    for place in places:
        code[place : place + 4] = os.getpid().to_bytes(4, sys.byteorder)
    instructions = ctypes.create_string_buffer(bytes(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    program = Program(len(code) // 8, ctypes.addressof(instructions))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


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


def run_program(settings: dict[str, Any], job: dict[str, Any]) -> int:
    """Read a program, run it as `__main__`, and return the exit status an interpreter would give."""
    session = job["kind"] == "session"
    limit(settings, job)
    confine(settings, "forking" if job["forks"] else "program")
    program = read_frame(3 if session else 0)
    main = types.ModuleType("__main__")
    main.__dict__.update(_read=read_exactly, _confine=lambda: confine(settings))
    if session:
        main.__dict__.update(_channel=3, _send=lambda data: write_frame(3, b"m" + data), _receive=lambda: read_frame(3))
    sys.modules["__main__"] = main
    seed_generators()
    try:
        exec(compiled(program), main.__dict__)
        return 0
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 0xFF
        say(session, str(stop.code))
        return 1
    except BaseException:
        say(session, traceback.format_exc())
        return 1


def say(session: bool, text: str) -> None:
    """Tell why a program ended: on standard error, which a session has not."""
    if session:
        write_frame(3, b"e" + text[-4096:].encode("utf-8", "replace"))
    else:
        print(text, file=sys.stderr)


def compiled(program: bytes) -> types.CodeType:
    """The code of a program: of its text, or as our side compiled it."""
    if program[:1] == b"c":
        code: types.CodeType = marshal.loads(program[1:])
        return code
    return compile(program[1:].decode("utf-8", "surrogatepass"), "<program>", "exec", dont_inherit=True)


def seed_generators() -> None:
    """Start every program with the same random numbers: an answer that is graded twice gets the same grade."""
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed(0)


def be_the_child(settings: dict[str, Any], job: dict[str, Any], fds: list[int]) -> NoReturn:
    """Take the descriptors as standard files and channel, run the program, end."""
    status = 1
    try:
        given = [os.dup2(fd, 100 + index) for index, fd in enumerate(fds)]  # above those that are written over
        null = os.open("/dev/null", os.O_RDWR)
        for standard, fd in enumerate([null, null, null, *given] if job["kind"] == "session" else given):
            os.dup2(fd, standard)
        os.closerange(4 if job["kind"] == "session" else 3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        status = run_program(settings, job)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)


# The nursery's side


class Job:
    """One child, from its start to its end or its limit."""

    def __init__(self, settings: dict[str, Any], message: dict[str, Any], fds: list[int]) -> None:
        self.name = message["job"]
        self.deadline = time.monotonic() + message["seconds"]
        self.cut: str | None = None
        *given, self.status = fds
        self.pid = os.fork()
        if self.pid == 0:
            be_the_child(settings, message, given)
        for fd in given:
            os.close(fd)
        self.ended = os.pidfd_open(self.pid)
        self.tell(b"S")

    def tell(self, data: bytes) -> None:
        """Write to the status pipe, if there still is a reader."""
        try:
            os.write(self.status, data)
        except BrokenPipeError:
            pass

    def stop(self, reason: str) -> None:
        """Kill the child, once."""
        if self.cut is None:
            self.cut = reason
            os.kill(self.pid, signal.SIGKILL)

    def end(self, changes: Callable[[], list[str]]) -> None:
        """Reap the child and report."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.ended)
        self.tell(json.dumps({"status": status, "cut": self.cut, "changed": changes()}).encode())
        os.close(self.status)


class Nursery:
    """Serves jobs, several at a time if asked to, until the socket's other end is closed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.control = socket.socket(fileno=os.dup(0))
        self.jobs: list[Job] = []
        self.poller = select.poll()
        self.poller.register(self.control, select.POLLIN)
        self.before = state()
        self.lowest = lowest_free()

    def serve(self) -> None:
        """Wait for jobs, for their ends and for their limits."""
        while True:
            now = time.monotonic()
            for job in self.jobs:
                if job.deadline <= now:
                    job.stop("timeout")
            limits = [job.deadline - now for job in self.jobs if job.cut is None]
            events = {fd for fd, _ in self.poller.poll(min(limits) * 1000 + 1 if limits else None)}
            for job in list(self.jobs):
                if job.status in events:
                    job.stop("abandoned")
                    self.poller.unregister(job.status)
                if job.ended in events:
                    self.finish(job)
            if self.control.fileno() in events and not self.receive():
                return

    def finish(self, job: Job) -> None:
        """Take leave of a job whose child has ended."""
        self.poller.unregister(job.ended)
        try:
            self.poller.unregister(job.status)
        except KeyError:
            pass  # abandoned
        self.jobs.remove(job)
        job.end(self.changes)

    def receive(self) -> bool:
        """Take one message; false when there is nobody left to send one."""
        data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, 4)
        if not data:
            return False
        message = json.loads(data)
        if "kill" in message:
            for job in self.jobs:
                if job.name == message["kill"]:
                    job.stop(message["reason"])
            return True
        job = Job(self.settings, message, fds)
        self.jobs.append(job)
        self.poller.register(job.ended, select.POLLIN)
        self.poller.register(job.status, 0)  # only its end: there is nobody left to answer
        return True

    def changes(self) -> list[str]:
        """Name what is not as it was."""
        found = [name for name, value in state().items() if value != self.before[name]]
        if not self.jobs:
            if not all_gone():
                found.append("processes")
            elif lowest_free() > self.lowest + 2:  # the last job's own two are still open
                found.append("descriptors")
        return found


def state() -> dict[str, object]:
    """What children inherit from this process, but for its memory: nobody else can write to that."""
    scheduling = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.getpriority(os.PRIO_PROCESS, 0)
    return {
        "limits": [resource.getrlimit(which) for which in LIMITS],
        "scheduling": scheduling,
        "affinity": os.sched_getaffinity(0),
        "signals": (
            signal.pthread_sigmask(signal.SIG_BLOCK, []),
            signal.getitimer(signal.ITIMER_REAL),
        ),
        "folder": os.getcwd(),
        "users": (os.getresuid(), os.getresgid(), os.getpgrp()),
        "environment": dict(os.environ),
    }


def lowest_free() -> int:
    """The number that the next descriptor gets."""
    fd = os.dup(0)
    os.close(fd)
    return fd


def all_gone() -> bool:
    """Reap orphans; whether no descendant is left after a short while."""
    deadline = time.monotonic() + LINGER_SECONDS
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)


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


def drop_privileges(user: int) -> None:
    """Become a user who owns nothing."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def enclose(settings: dict[str, Any]) -> None:
    """Put the nursery itself behind its walls: another user, no file but the interpreter's, fixed limits."""
    if settings["user"] is not None:
        drop_privileges(settings["user"])
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


def decoded(text: str, own: int) -> tuple[bytes, list[int]]:
    """A filter, and where in it the number of the process belongs that installs it.

    An instruction has eight bytes, of which the second half is its operand.
    """
    code, mark = base64.b64decode(text), own.to_bytes(4, sys.byteorder)
    return code, [place for place in range(4, len(code), 8) if code[place : place + 4] == mark]


def main() -> None:
    """Warm up, then serve jobs until nobody asks for any."""
    settings = json.loads(sys.argv[1])
    enclose(settings)
    for name in settings["preload"]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # an optional package: the program that wants it will say so
    try:
        exec(compile(settings["warm_up"], "<warm-up>", "exec"), {})
    except ImportError:
        pass
    sys.stderr.flush()  # what is left in a buffer, every child would print
    gc.collect()
    gc.freeze()  # children share these pages as long as nobody writes to them
    settings["filters"] = {name: decoded(text, settings["self"]) for name, text in settings["filters"].items()}
    settings.update(mapped=bytes_by(resource.RLIMIT_AS), private=bytes_by(resource.RLIMIT_DATA))
    Nursery(settings).serve()


main()
