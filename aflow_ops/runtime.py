"""Runs workflows: in Monty, the fast first ring, and what it cannot speak in CPython behind the sandbox's walls.

Both have one door out, the operator call, and the same limits: of time, memory, recursion and calls of the workflow's
code, and the deadline over the whole workflow, waiting for the executor included.
"""

import sys
from functools import lru_cache
from types import TracebackType
from typing import Literal

from aflow_ops.errors import FatalExecutorError, SandboxError
from aflow_ops.executor.types import Executor
from aflow_ops.language.workflow import SourceKey, Workflow
from aflow_ops.lowering import lower_workflow
from aflow_ops.operators import OPERATORS, Operator
from aflow_ops.rings.calls import Run
from aflow_ops.rings.choice import beyond_monty
from aflow_ops.rings.ending import Ending
from aflow_ops.rings.first import FirstRing
from aflow_ops.rings.limits import RuntimeLimits
from aflow_ops.rings.second import SecondRing
from aflow_ops.sandbox import Sandbox
from aflow_ops.trace import Interpreter, Trace, TraceError
from aflow_ops.values import answer_text
from data.problem import Domain, ProblemView

__all__ = ["RuntimeLimits", "WorkflowRuntime"]

# Programs that are kept.
MAX_REMEMBERED = 512


class WorkflowRuntime:
    """Runs workflows against one executor and one sandbox. An async context manager, used on one event loop.

    Args:
        executor (`Executor`): answers inside the operators.
        sandbox (`Sandbox`): runs code that the executor writes, and workflows that need all of Python.
        limits (`RuntimeLimits`): limits of each run.
        interpreter (`str`): `"auto"` takes Monty where it will do; `"monty"` or `"cpython"` that one only.
    """

    def __init__(
        self,
        executor: Executor,
        sandbox: Sandbox,
        limits: RuntimeLimits | None = None,
        interpreter: Literal["auto"] | Interpreter = "auto",
    ) -> None:
        self.executor, self.sandbox = executor, sandbox
        self.limits = limits or RuntimeLimits()
        self._interpreter = interpreter
        self._first = FirstRing(self.limits)
        self._second = SecondRing(sandbox, self.limits)

    async def __aenter__(self) -> "WorkflowRuntime":
        await self._first.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._first.__aexit__(kind, error, traceback)

    async def run(
        self, workflow: Workflow, problem: ProblemView, executor: Executor | None = None, repeat: int = 0
    ) -> Trace:
        """Run a workflow on a problem.

        Args:
            workflow (`Workflow`): from `aflow_ops.language.parse_workflow`.
            problem (`ProblemView`): the problem's public part.
            executor (`Executor`, *optional*): another one for this run only.
            repeat (`int`): which of several independent runs this is: above temperature 0 each has samples of its own.

        Returns:
            `Trace`: whatever happened; errors of the workflow, of the executor and of the sandbox are in its outcome.

        Raises:
            FatalExecutorError: the executor refuses every call, or the budget is spent; no other run would fare better.
        """
        run = Run(problem, executor or self.executor, self.sandbox, self.limits, repeat=repeat)
        try:
            source, beyond = _prepared(workflow.key, problem.domain, repeat, tuple(OPERATORS.values()))
        except (RecursionError, MemoryError):  # it parses, but printing its tree back takes a deeper stack
            return run.trace("policy_error", error=TraceError("RecursionError", "the code is nested too deeply"))
        try:
            ending = await self._in_rings(run, source, beyond)
        except SandboxError as error:
            run.infra_error = run.infra_error or error
            ending = Ending("lost", error=TraceError("SandboxError", str(error)))
        if isinstance(run.infra_error, FatalExecutorError):
            raise run.infra_error
        return _trace(run, ending)

    async def _in_rings(self, run: Run, source: str, beyond: str | None) -> Ending:
        """Run in the first ring, in the second, or in one after the other."""
        first = self._interpreter != "cpython"
        if first and (beyond is None or not self._may_use_second(beyond)):
            ending = await self._first.run(run, source)
            if ending.kind not in ("raised", "lost") or ending.final or run.infra_error is not None:
                return ending
            if not self._may_use_second(str(ending.error and ending.error.message)):
                return ending
            run.start_over("cpython")
        return await self._second.run(run, source)

    def _may_use_second(self, reason: str) -> bool:
        """Whether there are walls for the second ring; says once what goes without it."""
        if self._interpreter == "auto" and not self.sandbox.confined:
            _warn_once(reason)
        return self._interpreter == "auto" and self.sandbox.confined


@lru_cache(maxsize=MAX_REMEMBERED)
def _prepared(
    key: SourceKey, domain: Domain, seed: int, operators: tuple[type[Operator], ...]
) -> tuple[str, str | None]:
    """The program of a workflow, and what in it Monty cannot speak; the same on every problem of a domain."""
    program = lower_workflow(key.workflow, domain, seed=seed)
    return program.source, beyond_monty(program.own)


def _trace(run: Run, ending: Ending) -> Trace:
    match ending:
        case Ending("returned", value):
            answer = answer_text(value)
            if answer is not None:
                return run.trace("ok", answer=answer)
            return run.trace("policy_error", error=TraceError("ValueError", "the workflow returned nothing usable"))
        case Ending("timeout"):
            return run.timed_out()
        case Ending("lost", error=error) if run.interpreter == "monty" and not ending.final:
            # Somebody killed the interpreter, or the code broke it: no verdict on the workflow.
            return run.trace("infra_error", error=error)
    return run.trace("policy_error", error=ending.error)


_warned: set[str] = set()


def _warn_once(reason: str) -> None:
    if not _warned:
        _warned.add(reason)
        print(
            "warning: workflows run in Monty alone, which speaks a part of Python only, because nothing confines "
            f"another interpreter here (first met: {reason[:100]})",
            file=sys.stderr,
        )
