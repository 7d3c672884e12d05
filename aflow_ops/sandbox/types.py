"""What a sandbox offers, whichever kind it is."""

import hashlib
import marshal
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, TracebackType
from typing import Protocol

from aflow_ops.fault_clock import FaultClock


@dataclass(frozen=True)
class SandboxResult:
    """How one program ended.

    Args:
        ok (`bool`): it exited by itself with status 0.
        stdout (`str`): standard output, cut to 64 KiB.
        stderr (`str`): standard error, likewise.
        error (`str`, *optional*): `None` when ok, else `"timeout"`, `"memory"`, `"output"` (it printed too much),
            `"killed"`, `"lost"` (twice a worker did not outlive it) or the last traceback line, such as
            `"ZeroDivisionError: division by zero"`.
        seconds (`float`): wall time, waiting for a free worker not included.
    """

    ok: bool
    stdout: str
    stderr: str
    error: str | None
    seconds: float


@dataclass
class Counts:
    """What a sandbox has done so far.

    Args:
        programs (`int`): runs and conversations that were started.
        replaced (`int`): workers that were ended because a program left a trace in them or because they were lost.
    """

    programs: int = 0
    replaced: int = 0

    @property
    def replaced_share(self) -> float:
        """Workers replaced a program."""
        return self.replaced / max(1, self.programs)


@dataclass(frozen=True)
class Program:
    """A program of ours. A worker runs its body once; a run of it is forked from there and calls its `main()`.

    The body defines and imports, no more: what it leaves is the same for every run. In `main()` there are the globals
    that a program from text has, such as `_read`.

    Args:
        code (`CodeType`): its body.
        forks (`bool`): its runs fork a process for code that nobody trusts; such a process calls the global
            `_confine()` before anything else. Other programs cannot start processes.
        threads (`bool`): its runs may start threads; a worker has a number of them for all that run in it.
    """

    code: CodeType
    forks: bool = False
    threads: bool = True

    @property
    def filter(self) -> str:
        """The list of system calls that its runs are held to; see `filters.py`."""
        return "forking" if self.forks else "program" if self.threads else "single"

    @cached_property
    def body(self) -> bytes:
        """Its code as a worker takes it."""
        return marshal.dumps(self.code)

    @cached_property
    def key(self) -> str:
        """What a worker calls it."""
        return hashlib.sha256(self.body).hexdigest()


class RunProgram(Protocol):
    """The door to a sandbox: like `Sandbox.run`, with the time that is lost there booked by whoever gives it."""

    async def __call__(
        self,
        code: str | Program,
        *,
        timeout: float,
        stdin: str = "",
        modules: Collection[str] | None = None,
    ) -> SandboxResult:
        """Run one program to its end or to its limit."""
        ...


class Session(Protocol):
    """A program that runs and talks with us; see `Sandbox.converse`."""

    async def send(self, message: bytes) -> None:
        """Send a message; the program gets it from `_receive()`. It is dropped when the program has ended."""
        ...

    async def receive(self) -> bytes | None:
        """Wait for the program's next `_send(message)`; `None` when it has ended.

        What comes is written by code that nobody trusts: check it as you would check anything from a network.
        """
        ...

    async def result(self) -> SandboxResult:
        """Wait until the program has ended; says how. Messages that were not received are dropped.

        Raises:
            SandboxError: the sandbox itself failed; says nothing about the program.
        """
        ...


class Sandbox(Protocol):
    """Runs Python programs that nobody trusts. An async context manager: leaving it ends its workers.

    Attributes:
        counts (`Counts`): what it has done so far.
    """

    counts: Counts

    @property
    def confined(self) -> bool:
        """Whether walls hold what it runs, or resource limits only."""
        ...

    async def __aenter__(self) -> "Sandbox":
        """Open it; workers start when they are needed."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all workers."""
        ...

    async def run(
        self,
        code: str | Program,
        *,
        timeout: float,
        stdin: str = "",
        cpu_seconds: float | None = None,
        faults: FaultClock | None = None,
        modules: Collection[str] | None = None,
    ) -> SandboxResult:
        """Run one program to its end or to its limit.

        Every run starts in the same state, `random`'s included, so that equal programs give equal results.

        Args:
            code (`str` or `Program`): Python source, or a program of ours; run as `__main__` with numpy and sympy
                importable. Its standard input is best read with `os.read`, exactly: the global `_read(size)` does that.
            timeout (`float`): wall-clock limit in seconds, from the moment when the program starts.
            stdin (`str`): its standard input.
            cpu_seconds (`float`, *optional*): limit on the time for which it computes, rounded to whole seconds: the
                limit to set where how busy the machine is must not decide.
            faults (`FaultClock`, *optional*): counts the time for which the program waits: for others to end, and
                for its worker to start.
            modules (`Collection[str]`, *optional*): what it imports, so that it goes to a worker that has it loaded,
                such as `("math_verify",)`. By default the program and its input are searched for the names of slow
                ones.

        Raises:
            SandboxError: the sandbox itself failed; says nothing about the program.
        """
        ...

    def converse(
        self,
        code: str | Program,
        *,
        timeout: float,
        cpu_seconds: float | None = None,
        memory_bytes: int | None = None,
        modules: Collection[str] = (),
        alone: bool = False,
    ) -> AbstractAsyncContextManager[Session]:
        """Run a program that exchanges messages with us while it runs.

        The program has three more globals: `_send(data)` and `_receive()`, which wait, and `_channel`, the descriptor
        beneath, for one that waits with `select`. Its standard files are `/dev/null`; the traceback of what it raised
        is the result's `stderr`. Any number of sessions go on at once, each a few milliseconds to start; unlike runs
        they do not queue, since most of their life they wait. Leaving the block ends the program.

            async with sandbox.converse(
                "_send(b'6 * 7 = ?'); assert _receive() == b'42'", timeout=60, cpu_seconds=5
            ) as session:
                while (question := await session.receive()) is not None:
                    await session.send(b"42")
                result = await session.result()

        Where a program of ours forks a process for code that nobody trusts, that process closes `_channel` first: what
        is reported on it, as each test ends say, is then no one else's word.

        Args:
            code (`str` or `Program`): as for `run`.
            timeout (`float`): wall-clock limit in seconds, waiting for messages included.
            cpu_seconds (`float`, *optional*): limit on the time for which it computes, rounded to whole seconds.
            memory_bytes (`int`, *optional*): private memory of its own, if it is to have less than other programs.
            modules (`Collection[str]`): what it imports.
            alone (`bool`): in a worker of its own, so that no other program can be the cause when that is lost.

        Raises:
            SandboxError: no worker could be started.
        """
        ...
