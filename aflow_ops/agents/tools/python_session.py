"""Python for agents: a session in the sandbox whose variables live from one call to the next.

    session.run("x = 6 * 7")        ->  PythonOutput("", ok=True)
    session.run("print(x)\nx / 2")  ->  PythonOutput("42\n21.0", ok=True)

What runs here may say anything on its channel: what comes back is text for the agents, and nothing is trusted in it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aflow_ops.sandbox import Sandbox, Session

MAX_OUTPUT_CHARS = 4_000
MAX_SOURCE_CHARS = 20_000
# Of one session: what it computes in all, and how long it may live, waiting for its agents included.
CPU_SECONDS = 30.0
LIFE_SECONDS = 3_600.0

_PROGRAM = """
import ast, contextlib, io, traceback
space = {"__name__": "__main__"}
_send(b"ready")
while True:
    source, out, ok = _receive().decode("utf-8", "replace"), io.StringIO(), b"1"
    try:
        with contextlib.redirect_stdout(out):
            tree = ast.parse(source)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "<python>", "exec"), space)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "<python>", "eval"), space)
                if value is not None:
                    print(repr(value))
    except BaseException as error:
        ok = b"0"
        out.write("".join(traceback.format_exception_only(error)))
    _send(ok + out.getvalue()[-100_000:].encode("utf-8", "replace"))
"""


@dataclass(frozen=True)
class PythonOutput:
    """What one call printed.

    Args:
        text (`str`): standard output, the value of a last expression, and the last line of a traceback.
        ok (`bool`): nothing was raised, and no limit was met.
    """

    text: str
    ok: bool

    @property
    def last_line(self) -> str:
        """The last line that is not empty; empty when there is none or the call failed."""
        lines = [line for line in self.text.splitlines() if line.strip()] if self.ok else []
        return lines[-1].strip() if lines else ""


class PythonSession:
    """Runs code call by call. After a call that took too long or ended the process, the next one starts afresh.

    Args:
        sandbox (`Sandbox`): where it runs.
        seconds (`float`): wall-clock limit of one call.
    """

    def __init__(self, sandbox: Sandbox, seconds: float = 10.0) -> None:
        self.sandbox, self.seconds = sandbox, seconds
        self._stack = AsyncExitStack()
        self._session: Session | None = None

    async def run(self, code: str) -> PythonOutput:
        """Run code in the session.

        Raises:
            SandboxError: no worker could be started.
        """
        if len(code) > MAX_SOURCE_CHARS:
            return PythonOutput(f"error: {len(code)} characters of code; at most {MAX_SOURCE_CHARS} are run", False)
        if self._session is None:
            program = self.sandbox.converse(_PROGRAM, timeout=LIFE_SECONDS, cpu_seconds=CPU_SECONDS)
            self._session = await self._stack.enter_async_context(program)
            await self._session.receive()  # it began: a call's time does not pay for that
        try:
            async with asyncio.timeout(self.seconds):
                await self._session.send(code.encode("utf-8", "replace"))
                said = await self._session.receive()
        except TimeoutError:
            await self.close()
            return PythonOutput(f"error: stopped after {self.seconds:g} s; variables are gone", False)
        if said is None:
            await self.close()
            return PythonOutput("error: the Python process ended; variables are gone", False)
        return PythonOutput(said[1:].decode("utf-8", "replace")[-MAX_OUTPUT_CHARS:].strip("\n"), said[:1] == b"1")

    async def close(self) -> None:
        """End the process, if there is one."""
        self._session = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()


@asynccontextmanager
async def python_session(sandbox: Sandbox, seconds: float = 10.0) -> AsyncIterator[PythonSession]:
    """Open a session that ends with the block."""
    session = PythonSession(sandbox, seconds)
    try:
        yield session
    finally:
        await session.close()
