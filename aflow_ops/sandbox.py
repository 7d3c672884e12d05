"""The second ring: solution code runs in a sandboxed CPython, never in this process."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SandboxResult:
    """How one program ended.

    Args:
        ok (`bool`): it exited by itself with status 0.
        stdout (`str`): standard output, cut to the sandbox's limit.
        stderr (`str`): standard error, likewise.
        error (`str`, *optional*): `None` when ok, else `"timeout"`, `"memory"`, `"killed"` or the last traceback line,
            such as `"ZeroDivisionError: division by zero"`.
        seconds (`float`): wall time.
    """

    ok: bool
    stdout: str
    stderr: str
    error: str | None
    seconds: float


class Sandbox(Protocol):
    """Runs Python programs that nobody trusts."""

    async def run(self, code: str, *, timeout: float, stdin: str = "") -> SandboxResult:
        """Run one program to its end or to its limit.

        Args:
            code (`str`): Python source, run as `__main__` with numpy and sympy importable.
            timeout (`float`): wall-clock limit in seconds.
            stdin (`str`): its standard input.

        Raises:
            SandboxError: the sandbox itself failed; says nothing about the program.
        """
        ...
