"""The child's side: takes its descriptors, reads its program, shuts itself off, runs it and ends.

Part of the program of `nursery.py`.
"""

import marshal
import os
import resource
import sys
import traceback
import types
from typing import Any, NoReturn

from aflow_ops.sandbox.inside.confinement import confine, limit


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


class Prepared:
    """A program of ours whose body was run before the first of its jobs.

    Args:
        fd (`int`): its code is read from it; it is closed.
    """

    def __init__(self, fd: int) -> None:
        self.module = types.ModuleType("__main__")
        self.error: BaseException | None = None
        with os.fdopen(fd, "rb") as file:
            code = marshal.load(file)
        try:
            exec(code, self.module.__dict__)
        except Exception as error:  # such as a module that is not installed: every job says so
            self.error = error

    def main(self) -> None:
        """Run it."""
        if self.error is not None:
            raise self.error
        self.module.__dict__["main"]()


def run_program(settings: dict[str, Any], session: bool, prepared: Prepared | None) -> int:
    """Run a program, one that is read first or a prepared one; return the exit status an interpreter would give."""
    main = types.ModuleType("__main__") if prepared is None else prepared.module
    main.__dict__.update(_read=read_exactly, _confine=lambda: confine(settings))
    if session:
        main.__dict__.update(_channel=3, _send=lambda data: write_frame(3, b"m" + data), _receive=lambda: read_frame(3))
    sys.modules["__main__"] = main
    try:
        if prepared is None:
            exec(compiled(read_frame(3 if session else 0)), main.__dict__)
        else:
            prepared.main()
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
    """The code of a program."""
    return compile(program.decode("utf-8", "surrogatepass"), "<program>", "exec", dont_inherit=True)


def take(fds: list[int], report: int, *, session: bool) -> int:
    """Make the descriptors standard files and channel, with the report behind them; close all others."""
    given = [os.dup2(fd, 100 + index) for index, fd in enumerate([*fds, report])]  # above those that are written over
    null = os.open("/dev/null", os.O_RDWR)
    kept = [null, null, null, *given] if session else given
    for number, fd in enumerate(kept):
        os.dup2(fd, number)
    os.closerange(len(kept), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return len(kept) - 1


def be_the_child(
    settings: dict[str, Any], job: dict[str, Any], fds: list[int], report: int, prepared: Prepared | None
) -> NoReturn:
    """Put up the walls, say that the program begins, run it, end."""
    status, session = 1, job["kind"] == "session"
    try:
        try:
            report = take(fds, report, session=session)
            limit(settings, job)
            confine(settings, job["filter"])
        except BaseException as error:  # of ours: the program has not begun
            os.write(report, f"{type(error).__name__}: {error}"[:200].encode())
            raise
        os.write(report, b"S")
        os.close(report)
        status = run_program(settings, session, prepared)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)
