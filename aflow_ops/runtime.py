"""Runs workflows: the first ring. Workflow code lives in the Monty interpreter; its only way out is an operator call.

Limits: the interpreter bounds time, memory, recursion and calls of the sandboxed code; the deadline over the whole
workflow, waiting for the executor included, is kept here.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from pydantic_monty import AsyncMonty, MontyCrashedError, MontyError, ResourceLimits

from aflow_ops.errors import FatalExecutorError, InfraError
from aflow_ops.executor.types import Executor, Message
from aflow_ops.fault_clock import FaultClock
from aflow_ops.language.dialects import Spoken, spoken_operator
from aflow_ops.language.workflow import Workflow
from aflow_ops.lowering import OPERATOR_DOOR, lower_workflow
from aflow_ops.operators import OPERATORS, OperatorContext
from aflow_ops.sandbox import Sandbox
from aflow_ops.trace import OperatorCall, Outcome, Trace, TraceError
from aflow_ops.values import (
    MAX_TRACE_CHARS,
    answer_text,
    bind_arguments,
    checked_output,
    improved_draft,
    result_text,
    shortened,
)
from data.problem import ProblemView

# Closing a Monty pool and exiting right after a feed was cut off aborts the interpreter (pydantic-monty 1.4.0).
SETTLE_SECONDS = 0.6
# A run that we keep waiting for longer than this many times its limit is given up, as a failure of ours.
MAX_LOST_LIMITS = 10
# Equal calls of one run are fewer than this, so runs with another `repeat` share none of their samples.
SAMPLES_APART = 1_000

HostFunction = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class RuntimeLimits:
    """Limits of one workflow run.

    Args:
        timeout (`float`): wall seconds for the whole run, operator calls included.
        compute_seconds (`float`): seconds that the workflow's own code may compute.
        memory_bytes (`int`): heap of the workflow's own code.
        recursion_depth (`int`): call depth of the workflow's own code.
        operator_calls (`int`): most operator calls.
        argument_chars (`int`): most characters of one text handed to an operator.
        processes (`int`): interpreters at most; each holds some 6 MB, and a workflow keeps one while it runs.
    """

    timeout: float = 180.0
    compute_seconds: float = 2.0
    memory_bytes: int = 64 * 2**20
    recursion_depth: int = 200
    operator_calls: int = 64
    argument_chars: int = 40_000
    processes: int = 256


class WorkflowRuntime:
    """Runs workflows against one executor and one sandbox. An async context manager, used on one event loop.

    Args:
        executor (`Executor`): answers inside the operators.
        sandbox (`Sandbox`): runs code that the executor writes.
        limits (`RuntimeLimits`): limits of each run.
    """

    def __init__(self, executor: Executor, sandbox: Sandbox, limits: RuntimeLimits | None = None) -> None:
        self.executor, self.sandbox = executor, sandbox
        self.limits = limits or RuntimeLimits()
        self._pool: AsyncMonty | None = None
        self._cut_off_at = float("-inf")

    async def __aenter__(self) -> "WorkflowRuntime":
        self._pool = AsyncMonty(max_processes=self.limits.processes)
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await asyncio.sleep(max(0.0, self._cut_off_at + SETTLE_SECONDS - time.monotonic()))
            await pool.__aexit__(kind, error, traceback)
            if self._cut_off_at > 0:
                await asyncio.sleep(SETTLE_SECONDS)

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
        try:
            program = lower_workflow(workflow, problem)
        except (RecursionError, MemoryError):  # it parses, but printing its tree back takes a deeper stack
            return Trace(None, "policy_error", TraceError("RecursionError", "the code is nested too deeply"))
        for attempt in (1, 2):
            run = _Run(problem, executor or self.executor, self.sandbox, self.limits, repeat=repeat)
            try:
                trace = await self._run_once(run, program)
                if isinstance(run.infra_error, FatalExecutorError):
                    raise run.infra_error
                return trace
            except MontyCrashedError as error:
                self._cut_off_at = time.monotonic()
                if attempt == 2 and error.timed_out:
                    # Its code computed past the limit inside one builtin, such as a regular expression, twice.
                    return run.trace("policy_error", error=TraceError("TimeoutError", str(error)))
                if attempt == 2:
                    # Somebody killed the worker, or the code broke the interpreter: no verdict on the workflow.
                    return run.trace("infra_error", error=TraceError("InterpreterLost", str(error)))
        raise AssertionError("unreachable")

    async def _run_once(self, run: "_Run", program: str) -> Trace:
        assert self._pool is not None, "WorkflowRuntime is used outside of `async with`"
        async with self._pool.checkout(limits=self._interpreter_limits()) as session:
            run.started = time.monotonic()
            feed = session.feed_run(
                program,
                inputs={"_problem": run.problem.text, "_entry_point": run.problem.entry_point or ""},
                external_lookup=run.host_functions(),
                print_callback=lambda stream, text: None,
            )
            try:
                value = await self._within_deadline(run, feed)
            except TimeoutError:
                self._cut_off_at = time.monotonic()
                return run.timed_out()
            except MontyCrashedError:
                raise
            except MontyError as error:
                if isinstance(error.exception(), (TimeoutError, MemoryError)):
                    self._cut_off_at = time.monotonic()
                return run.trace("policy_error", error=_trace_error(error))
            finally:
                await run.cancel_calls()
        answer = answer_text(value)
        if answer is None:
            return run.trace("policy_error", error=TraceError("ValueError", "the workflow returned nothing usable"))
        return run.trace("ok", answer=answer)

    async def _within_deadline(self, run: "_Run", feed: Coroutine[Any, Any, Any]) -> Any:
        """Await the run for as long as its own time is within the limit: time that we lost for it does not count.

        Raises:
            asyncio.TimeoutError: its time is up, or we lost far more than the limit; the run is cancelled.
        """
        task = asyncio.ensure_future(feed)
        try:
            while not task.done():
                left = self.limits.timeout - run.own_seconds
                if left <= 0 or run.faults.seconds > MAX_LOST_LIMITS * self.limits.timeout:
                    raise TimeoutError
                await asyncio.wait([task], timeout=left)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def _interpreter_limits(self) -> ResourceLimits:
        return ResourceLimits(
            max_feed_duration_secs=self.limits.compute_seconds,
            max_memory=self.limits.memory_bytes,
            max_recursion_depth=self.limits.recursion_depth,
            # A call takes up to three: the name, the call, the result.
            max_suspensions=20 + 4 * self.limits.operator_calls,
        )


@dataclass
class _Usage:
    """What one operator call spent."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    replies: int = 0
    cached_replies: int = 0


@dataclass
class _Run:
    """The state of one run: its calls so far, and the failure of ours that ends it."""

    problem: ProblemView
    executor: Executor
    sandbox: Sandbox
    limits: RuntimeLimits
    started: float = 0.0
    calls: list[OperatorCall | None] = field(default_factory=list)
    repeat: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    tasks: set["asyncio.Task[Any]"] = field(default_factory=set)
    infra_error: InfraError | None = None
    total_cost: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    faults: FaultClock = field(default_factory=FaultClock)

    @property
    def own_seconds(self) -> float:
        """Wall seconds so far without those that we lost for it."""
        return time.monotonic() - self.started - self.faults.seconds

    def timed_out(self) -> Trace:
        """The record of a run whose time is up: its own fault, unless we lost more of it than it used."""
        if self.own_seconds >= self.limits.timeout:
            return self.trace("timeout", error=TraceError("TimeoutError", f"over {self.limits.timeout:g} s"))
        lost = f"{self.faults.seconds:.0f} s lost waiting for the executor and the sandbox"
        return self.trace("infra_error", error=TraceError("ExecutorOutage", lost))

    def host_functions(self) -> dict[str, Any]:
        """The operators by short name, and the door for native workflows."""
        functions: dict[str, Any] = {cls.snake_name(): self._by_name(name) for name, cls in OPERATORS.items()}
        functions[OPERATOR_DOOR] = self._native_call
        return functions

    def _by_name(self, name: str) -> HostFunction:
        async def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
            spoken = spoken_operator(name)
            assert spoken is not None, name
            return await self._tracked(spoken, {}, args, kwargs)

        return call

    async def _native_call(
        self, name: Any, options: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        spoken = spoken_operator(name) if isinstance(name, str) else None
        if spoken is None or not isinstance(options, dict):
            raise TypeError(f"unknown operator {name!r}")
        result = await self._tracked(spoken, options, args, kwargs)
        text = result_text(result)
        return {
            "result": {**dict.fromkeys(spoken.keys, text), **result},
            "text": text,
            "total_cost": self.total_cost,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }

    async def _tracked(
        self, spoken: Spoken, options: dict[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Run the call as a task of its own: the interpreter does not cancel host functions when it is cut off."""
        task = asyncio.ensure_future(self._call(spoken, options, args, kwargs))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await task

    async def cancel_calls(self) -> None:
        """Cancel the operator calls that are still in flight."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _call(
        self, spoken: Spoken, options: dict[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self.infra_error is not None:
            raise self.infra_error
        if len(self.calls) >= self.limits.operator_calls:
            raise RuntimeError(f"more than {self.limits.operator_calls} operator calls")
        name, slot = spoken.operator.__name__, len(self.calls)
        self.calls.append(None)
        usage, start = _Usage(), time.monotonic()
        arguments: dict[str, Any] | None = None
        output: dict[str, Any] | None = None
        failure: str | None = None
        try:
            given = spoken.arguments(args, kwargs, self.problem)
            arguments = bind_arguments(spoken.operator, (), given, self.limits.argument_chars)
            run_code = partial(self.sandbox.run, faults=self.faults)
            context = OperatorContext(self.problem, self._metered(usage), run_code, self.executor.prompt_set, options)
            output = checked_output(spoken.operator, await spoken.operator(context)(**arguments))
            return output
        except (TypeError, ValueError, RecursionError) as error:
            failure = f"{type(error).__name__}: {error}"
            if arguments is None:
                raise  # the workflow passed something that does not fit
            self.infra_error = InfraError(f"{name} failed: {failure}")
            raise self.infra_error from error
        except InfraError as error:
            failure = str(error)
            self.infra_error = error
            raise
        except asyncio.CancelledError:
            failure = "cancelled"
            raise
        except Exception as error:  # a bug of ours is not the policy's fault
            failure = f"{type(error).__name__}: {error}"
            self.infra_error = InfraError(f"{name} failed: {failure}")
            raise self.infra_error from error
        finally:
            self.calls[slot] = OperatorCall(
                operator=name,
                args=shortened(arguments or {}),
                output=shortened(output),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost_usd=usage.cost_usd,
                seconds=round(time.monotonic() - start, 4),
                cached=0 < usage.replies == usage.cached_replies,
                error=failure,
                replies=usage.replies,
                improved=improved_draft(spoken.operator, arguments, output),
            )

    def _metered(self, usage: _Usage) -> Any:
        async def ask(
            messages: Sequence[Message],
            *,
            max_tokens: int,
            temperature: float | None = None,
            stop: Sequence[str] = (),
        ) -> str:
            temperature = self.executor.temperature if temperature is None else temperature
            key = json.dumps([list(messages), max_tokens, temperature, list(stop)])
            sample = self.repeat * SAMPLES_APART + self.samples[key]
            self.samples[key] += 1
            reply = await self.executor.complete(
                messages,
                temperature=temperature,
                max_tokens=max_tokens,
                stop=stop,
                sample=sample,
                faults=self.faults,
            )
            usage.replies += 1
            usage.cached_replies += reply.cached
            usage.prompt_tokens += reply.prompt_tokens
            usage.completion_tokens += reply.completion_tokens
            usage.cost_usd += reply.cost_usd
            self.total_cost += reply.cost_usd
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            return reply.text

        return ask

    def trace(self, outcome: Outcome, *, answer: str | None = None, error: TraceError | None = None) -> Trace:
        """Close the record. A failure of ours overrides whatever the workflow made of it."""
        if self.infra_error is not None:
            outcome, answer = "infra_error", None
            error = TraceError(type(self.infra_error).__name__, str(self.infra_error))
        calls = tuple(call for call in self.calls if call is not None)
        seconds = round(time.monotonic() - self.started, 4) if self.started else 0.0
        lost = round(self.faults.seconds, 4)
        return Trace(answer=answer, outcome=outcome, error=error, calls=calls, seconds=seconds, lost_seconds=lost)


def _trace_error(error: MontyError) -> TraceError:
    inner = error.exception()
    return TraceError(type(inner).__name__, str(inner)[:MAX_TRACE_CHARS])
