"""The first ring: Monty, a Python interpreter in Rust with no files, network or environment.

It bounds time, memory, recursion and calls of the code by itself. Where the kernel gives namespaces, each interpreter's
process has its own, so that a hole in Monty would lead nowhere. It speaks a part of Python only; what it does not speak
looks like an error of the workflow's, such as `NotImplementedError`.
"""

import asyncio
import os
import shlex
import subprocess
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from pydantic_monty import AsyncMonty, AsyncMontySession, MontyCrashedError, MontyError, ResourceLimits
from pydantic_monty._binary import find_monty_binary  # where the pool itself looks; the version is pinned

from aflow_ops.rings.calls import Run
from aflow_ops.rings.ending import Ending, within_deadline
from aflow_ops.rings.limits import RuntimeLimits
from aflow_ops.sandbox.strays import end_strays
from aflow_ops.sandbox.walls import walled_binary
from aflow_ops.trace import TraceError
from aflow_ops.values import MAX_TRACE_CHARS

# Closing a Monty pool and exiting right after a feed was cut off aborts the interpreter (pydantic-monty 1.4.0).
SETTLE_SECONDS = 0.6
# Of an interpreter's process, far beyond those that it keeps itself: no core file, open files, KiB of address space.
PROCESS_LIMITS = ("-c 0", "-n 64", "-v 2097152")
# Errors that end the work in any interpreter: limits, and mistakes that Monty does not make.
_FINAL = (TimeoutError, MemoryError, RecursionError, ArithmeticError, LookupError, AssertionError)


class FirstRing:
    """A pool of Monty interpreters, as an async context manager.

    Args:
        limits (`RuntimeLimits`): limits of each run.
    """

    def __init__(self, limits: RuntimeLimits) -> None:
        self._limits = ResourceLimits(
            max_feed_duration_secs=limits.compute_seconds,
            max_memory=limits.memory_bytes,
            max_recursion_depth=limits.recursion_depth,
            max_suspensions=limits.exchanges,
        )
        self._processes = limits.processes
        # Starting is computing: more at once than there are cores would not be there sooner, and whoever waits to start
        # one takes the first that becomes free instead.
        self._starting = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._cut_off_at = float("-inf")

    async def __aenter__(self) -> "FirstRing":
        await asyncio.to_thread(end_strays)
        self._folder = TemporaryDirectory(prefix="monty")
        self._pool = AsyncMonty(max_processes=self._processes, binary_path=walled_monty(Path(self._folder.name)))
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.sleep(max(0.0, self._cut_off_at + SETTLE_SECONDS - time.monotonic()))
        await self._pool.__aexit__(kind, error, traceback)
        await asyncio.to_thread(end_strays)
        self._folder.cleanup()
        if self._cut_off_at > 0:
            await asyncio.sleep(SETTLE_SECONDS)

    async def run(self, run: Run, program: str) -> Ending:
        """Run a program; one that loses its interpreter runs a second time.

        Args:
            run (`Run`): its calls.
            program (`str`): of `lower_workflow`.
        """
        ending = await self._run_once(run, program)
        if ending.kind != "lost":
            return ending
        run.start_over("monty")
        return await self._run_once(run, program)

    async def _run_once(self, run: Run, program: str) -> Ending:
        try:
            async with AsyncExitStack() as stack:
                async with self._starting:
                    session = await stack.enter_async_context(self._pool.checkout(limits=self._limits))
                return await self._run_in(session, run, program)
        except MontyCrashedError as error:  # before the program began
            return Ending("lost", error=TraceError("InterpreterLost", str(error)))

    async def _run_in(self, session: AsyncMontySession, run: Run, program: str) -> Ending:
        run.begin()
        feed = session.feed_run(
            program,
            inputs={"_problem": run.problem.text, "_entry_point": run.problem.entry_point or ""},
            external_lookup=run.host_functions(),
            print_callback=lambda stream, text: None,
        )
        try:
            return Ending("returned", await within_deadline(run, feed))
        except TimeoutError:
            self._cut_off_at = time.monotonic()
            return Ending("timeout")
        except MontyCrashedError as error:
            self._cut_off_at = time.monotonic()
            if error.timed_out:  # computed past the limit inside one builtin, such as a regular expression
                return Ending("lost", error=TraceError("TimeoutError", str(error)), final=True)
            return Ending("lost", error=TraceError("InterpreterLost", str(error)))
        except MontyError as error:
            inner = error.exception()
            if isinstance(inner, (TimeoutError, MemoryError)):
                self._cut_off_at = time.monotonic()
            return Ending("raised", error=_trace_error(inner), final=isinstance(inner, _FINAL))
        finally:
            await run.cancel_calls()


def walled_monty(folder: Path) -> Path | None:
    """Write a program into a folder that starts Monty behind walls; return its path, `None` if there are none.

    Args:
        folder (`Path`): where programs may lie.
    """
    binary = find_monty_binary()
    command = walled_binary(binary)
    if command is None:
        return None
    path = folder / "monty"
    limits = "".join(f"ulimit {limit}\n" for limit in PROCESS_LIMITS)
    path.write_text(f'#!/bin/sh\n{limits}exec {shlex.join(command)} "$@" 2>/dev/null\n', encoding="utf-8")
    path.chmod(0o700)
    try:
        subprocess.run([path, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # such as a folder for temporary files that nothing may run in
        return None
    return path


def _trace_error(error: BaseException) -> TraceError:
    return TraceError(type(error).__name__, str(error)[:MAX_TRACE_CHARS])
