"""The program inside the sandbox: a warm interpreter that forks a child for each job. Executed, not imported.

Starting an interpreter and importing sympy takes a second, forking one that has done so takes milliseconds. A child
starts with the state that the nursery had before its first job, so nothing of one program reaches the next. Before a
child runs anything it confines itself once more, which keeps it from signalling or tracing the nursery.

`argv[1]`: JSON `{"preload": [module, ...], "warm_up": program, "data_bytes": int, "degraded": [int, ...]}`; `degraded`
is `null` where there is no Landlock.

A job arrives on standard input: two numbers (bytes that follow, seconds allowed), the length of the program, the
program, its standard input. All but the numbers goes from pipe to pipe inside the kernel: the nursery never holds what
is secret to a later job. The answer on standard output: three blocks, each after its length: JSON
`{"status", "cut", "clean"}`, standard output, standard error. `clean` is false when the job left a process behind;
whoever reads that ends this sandbox with all that is in it.
"""

import ctypes
import gc
import importlib
import json
import marshal
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
import types
from typing import Any, NoReturn

MAX_OUTPUT_BYTES = 64 * 1024
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ is there from Python 3.10 on, on some builds only
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINGER_SECONDS = 0.1

_libc = ctypes.CDLL(None)


def read_exactly(size: int) -> bytes:
    """Read from standard input, unbuffered, so that what follows is still there for the program."""
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            raise SystemExit("input ended early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def confine(settings: dict[str, Any]) -> None:
    """Put this process into a Landlock domain of its own: it can no longer signal or trace the ones outside."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if settings["degraded"] is not None:
        import sandlock

        # No new rule about files: those of the sandbox hold as they are.
        box = sandlock.Sandbox(fs_readable=["/"], fs_writable=["/dev/null"], allow_degraded=settings["degraded"])
        sandlock.confine(box)


def run_program(settings: dict[str, Any]) -> int:
    """Be the child: read a program, run it as `__main__`, and return the exit status an interpreter would give."""
    resource.setrlimit(resource.RLIMIT_DATA, (settings["data_bytes"],) * 2)
    confine(settings)
    program = read_exactly(int.from_bytes(read_exactly(8), "big"))
    main = types.ModuleType("__main__")
    main.__dict__.update(_read=read_exactly, _confine=lambda: confine(settings))
    sys.modules["__main__"] = main
    seed_generators()
    try:
        exec(compiled(program), main.__dict__)
        return 0
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 0xFF
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1


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


def be_the_child(settings: dict[str, Any], pipes: tuple[int, int, int]) -> NoReturn:
    """Take the pipes as standard files, run the program, end."""
    status = 1
    try:
        for standard, fd in enumerate(pipes):
            os.dup2(fd, standard)
        os.closerange(3, 256)
        status = run_program(settings)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)


class Job:
    """One child with its three pipes, from its start to its end or its limit."""

    def __init__(self, settings: dict[str, Any], size: int, seconds: float) -> None:
        self.remaining = size
        self.deadline = time.monotonic() + seconds
        self.outputs: dict[int, bytearray] = {}
        self.cut: str | None = None
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            be_the_child(settings, (stdin[0], stdout[1], stderr[1]))
        for fd in (stdin[0], stdout[1], stderr[1]):
            os.close(fd)
        self.stdin: int | None = stdin[1]
        grow(stdin[1])
        os.set_blocking(stdin[1], False)
        self.outputs = {stdout[0]: bytearray(), stderr[0]: bytearray()}
        self.ended = os.pidfd_open(self.pid)

    def run(self) -> int:
        """Carry data until the child has ended; returns its wait status as an exit code, negative for a signal."""
        poller = select.poll()
        for fd in (*self.outputs, self.ended):
            poller.register(fd, select.POLLIN)
        if self.stdin is not None and not self.feed():
            poller.register(self.stdin, select.POLLOUT)
        poller.register(0, 0)  # only its end: there is nobody left to answer
        while (wait := self.deadline - time.monotonic()) > 0:
            events = [fd for fd, _ in poller.poll(wait * 1000)]
            for fd in events:
                if fd == 0:
                    self.stop("abandoned")
                    poller.unregister(0)
                elif fd == self.stdin:
                    if self.feed():
                        poller.unregister(fd)
                elif fd in self.outputs and not self.collect(fd):
                    poller.unregister(fd)
            if self.ended in events:
                return self.end()
        self.stop("timeout")
        return self.end()

    def feed(self) -> bool:
        """Move input from our pipe to the child's, as much as fits; true when that was the last of it."""
        assert self.stdin is not None
        try:
            while self.remaining:
                self.remaining -= os.splice(0, self.stdin, min(self.remaining, PIPE_BYTES))
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass  # it closed its input; the rest is dropped in `end`
        os.close(self.stdin)
        self.stdin = None
        return True

    def collect(self, fd: int) -> bool:
        """Take what the child printed; false at its end."""
        chunk = os.read(fd, 1 << 16)
        self.outputs[fd] += chunk
        if len(self.outputs[fd]) > MAX_OUTPUT_BYTES:
            self.stop("output")
        return bool(chunk)

    def stop(self, reason: str) -> None:
        """Kill the child, once."""
        if self.cut is None:
            self.cut = reason
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Reap the child and take the rest of its output and input."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        for fd in self.outputs:
            os.set_blocking(fd, False)
            try:
                while self.cut is None and self.collect(fd):
                    pass
            except (BlockingIOError, ProcessLookupError):
                pass  # another process still has the other end, or there was too much
            os.close(fd)
        os.close(self.ended)
        if self.stdin is not None:
            os.close(self.stdin)
        if self.remaining:
            null = os.open("/dev/null", os.O_WRONLY)
            while self.remaining:
                self.remaining -= os.splice(0, null, min(self.remaining, PIPE_BYTES))
            os.close(null)
        return status


def grow(fd: int) -> None:
    """Give a pipe room for a whole job."""
    import fcntl

    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        return  # the user's pipe quota is used up: slower, not wrong


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


def answer(*blocks: bytes) -> None:
    """Write blocks to standard output, each after its length."""
    data = b"".join(struct.pack(">I", len(block)) + block for block in blocks)
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """Warm up, then serve jobs until the input ends."""
    settings = json.loads(sys.argv[1])
    for name in settings["preload"]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # an optional package: the program that wants it will say so
    try:
        exec(compile(settings["warm_up"], "<warm-up>", "exec"), {})
    except ImportError:
        pass
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.collect()
    gc.freeze()  # children share these pages as long as nobody writes to them
    while True:
        head = os.read(0, 16)
        if not head:
            return
        if len(head) < 16:
            head += read_exactly(16 - len(head))
        size, seconds = struct.unpack(">Qd", head)
        job = Job(settings, size, seconds)
        status = job.run()
        report = {"status": status, "cut": job.cut, "clean": all_gone()}
        stdout, stderr = (bytes(part[:MAX_OUTPUT_BYTES]) for part in job.outputs.values())
        answer(json.dumps(report).encode(), stdout, stderr)


main()
