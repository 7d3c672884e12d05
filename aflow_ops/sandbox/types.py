"""What a sandbox offers, whichever kind it is."""

from dataclasses import dataclass
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
            `"killed"` or the last traceback line, such as `"ZeroDivisionError: division by zero"`.
        seconds (`float`): wall time, waiting for a free worker not included.
    """

    ok: bool
    stdout: str
    stderr: str
    error: str | None
    seconds: float


class Sandbox(Protocol):
    """Runs Python programs that nobody trusts. An async context manager: leaving it ends its workers."""

    async def __aenter__(self) -> "Sandbox":
        """Open it; workers start when they are needed."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all workers."""
        ...

    async def run(
        self, code: str | CodeType, *, timeout: float, stdin: str = "", faults: FaultClock | None = None
    ) -> SandboxResult:
        """Run one program to its end or to its limit.

        Every run starts in the same state, `random`'s included, so that equal programs give equal results.

        Args:
            code (`str` or `CodeType`): Python source, or a program of ours that is compiled once and run often; run as
                `__main__` with numpy and sympy importable. Its standard input is best
                read with `os.read`, exactly: the global `_read(size)` does that. The global `_confine()` shuts a
                forked process off from the one that it was forked from.
            timeout (`float`): wall-clock limit in seconds, from the moment when the program starts.
            stdin (`str`): its standard input.
            faults (`FaultClock`, *optional*): counts the time for which the program waits for others to end.

        Raises:
            SandboxError: the sandbox itself failed; says nothing about the program.
        """
        ...
