"""The door: the operator calls of one workflow run, whichever interpreter asks for them.

A run that began in the first ring may have to start over in the second. What it asked for is not paid for twice: equal
calls get the replies that there are, in the order in which they came.
"""

import asyncio
import dataclasses
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aflow_ops.errors import InfraError
from aflow_ops.executor.types import Executor, Message
from aflow_ops.fault_clock import FaultClock
from aflow_ops.language.dialects import Spoken, spoken_operator
from aflow_ops.lowering import OPERATOR_DOOR
from aflow_ops.operators import OPERATORS, OperatorContext
from aflow_ops.operators.base import Ask
from aflow_ops.rings.limits import RuntimeLimits
from aflow_ops.sandbox import Sandbox
from aflow_ops.trace import Interpreter, OperatorCall, Outcome, Trace, TraceError
from aflow_ops.values import bind_arguments, checked_output, improved_draft, result_text, shortened
from data.problem import ProblemView

# Equal calls of one run are fewer than this, so runs with another `repeat` share none of their samples.
SAMPLES_APART = 1_000

HostFunction = Callable[..., Coroutine[Any, Any, Any]]


@dataclass
class _Usage:
    """What one operator call spent."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    replies: int = 0
    cached_replies: int = 0
    samples: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Answered:
    """An operator call that worked."""

    call: OperatorCall
    output: dict[str, Any]
    usage: _Usage


@dataclass
class Run:
    """The state of one run: its calls so far, and the failure of ours that ends it.

    Args:
        problem (`ProblemView`): what it runs on.
        executor (`Executor`): answers inside the operators.
        sandbox (`Sandbox`): runs code that the executor writes.
        limits (`RuntimeLimits`): its limits.
        repeat (`int`): which of several independent runs this is.
        interpreter (`str`): which one runs its code.
        started (`float`): by `time.monotonic()`; 0 before its code begins.
        infra_error (`InfraError`, *optional*): the failure of ours.
        faults (`FaultClock`): what it lost through no fault of its own.
    """

    problem: ProblemView
    executor: Executor
    sandbox: Sandbox
    limits: RuntimeLimits
    repeat: int = 0
    interpreter: Interpreter = "monty"
    started: float = 0.0
    infra_error: InfraError | None = None
    faults: FaultClock = field(default_factory=FaultClock)
    total_cost: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _calls: list[OperatorCall | None] = field(default_factory=list)
    _answered: list[tuple[str, _Answered]] = field(default_factory=list)
    _paid: dict[str, deque[_Answered]] = field(default_factory=lambda: defaultdict(deque))
    _spent: list[OperatorCall] = field(default_factory=list)
    _samples: Counter[str] = field(default_factory=Counter)
    _tasks: set["asyncio.Task[_Answered]"] = field(default_factory=set)

    @property
    def own_seconds(self) -> float:
        """Wall seconds so far without those that we lost for it."""
        return time.monotonic() - self.started - self.faults.seconds

    def begin(self) -> None:
        """Its code begins; what came before does not count."""
        if not self.started:
            self.started = time.monotonic()

    def start_over(self, interpreter: Interpreter) -> None:
        """Forget what the code did, not what it paid for: equal calls get the same replies again."""
        self.interpreter = interpreter
        self._spent += [call for call in self._calls if call is not None and call.replies and call.error]
        left = [(key, answer) for key, answers in self._paid.items() for answer in answers]
        self._paid = defaultdict(deque)
        for key, answer in self._answered + left:
            self._paid[key].append(answer)
        self._answered, self._calls = [], []
        self._samples.clear()
        self.total_cost, self.prompt_tokens, self.completion_tokens = 0.0, 0, 0

    def host_functions(self) -> dict[str, HostFunction]:
        """The operators by short name, and the door for native workflows."""
        functions: dict[str, HostFunction] = {cls.snake_name(): self._by_name(name) for name, cls in OPERATORS.items()}
        functions[OPERATOR_DOOR] = self._native_call
        return functions

    def _by_name(self, name: str) -> HostFunction:
        async def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
            spoken = spoken_operator(name)
            assert spoken is not None, name
            return await self._call(spoken, {}, args, kwargs)

        return call

    async def _native_call(
        self, name: Any, options: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        spoken = spoken_operator(name) if isinstance(name, str) else None
        if spoken is None or not isinstance(options, dict):
            raise TypeError(f"unknown operator {name!r}")
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise TypeError(f"{name} is called with arguments that are none")
        result = await self._call(spoken, options, args, kwargs)
        text = result_text(result)
        return {
            "result": {**dict.fromkeys(spoken.keys, text), **result},
            "text": text,
            "total_cost": self.total_cost,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }

    async def _call(
        self, spoken: Spoken, options: dict[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self.infra_error is not None:
            raise self.infra_error
        if len(self._calls) >= self.limits.operator_calls:
            raise RuntimeError(f"more than {self.limits.operator_calls} operator calls")
        slot, name = len(self._calls), spoken.operator.__name__
        self._calls.append(None)
        try:
            given = spoken.arguments(args, kwargs, self.problem)
            arguments = bind_arguments(spoken.operator, (), given, self.limits.argument_chars)
        except (TypeError, ValueError, RecursionError) as error:  # the workflow passed something that does not fit
            self._calls[slot] = _record(name, {}, None, _Usage(), 0.0, f"{type(error).__name__}: {error}")
            raise
        key = json.dumps([name, options, arguments], sort_keys=True, default=str)
        if self._paid.get(key):
            answered = self._again(self._paid[key].popleft())
        else:
            answered = await self._asked(spoken, options, arguments, slot)
        self._calls[slot] = answered.call
        self._answered.append((key, answered))
        return answered.output

    def _again(self, answered: _Answered) -> _Answered:
        """Count a reply that an earlier attempt of this run has paid for, as if it had been asked for here."""
        self._samples.update(answered.usage.samples)
        self._count(answered.usage.cost_usd, answered.usage.prompt_tokens, answered.usage.completion_tokens)
        return answered

    def _count(self, cost_usd: float, prompt_tokens: int, completion_tokens: int) -> None:
        self.total_cost += cost_usd
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    async def _asked(self, spoken: Spoken, options: dict[str, Any], arguments: dict[str, Any], slot: int) -> _Answered:
        """Run the call as a task of its own: the first ring does not cancel host functions when it is cut off."""
        task = asyncio.ensure_future(self._perform(spoken, options, arguments, slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    async def cancel_calls(self) -> None:
        """Cancel the operator calls that are still in flight."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _perform(
        self, spoken: Spoken, options: dict[str, Any], arguments: dict[str, Any], slot: int
    ) -> _Answered:
        name, calls = spoken.operator.__name__, self._calls
        usage, start = _Usage(), time.monotonic()
        output: dict[str, Any] | None = None
        failure: str | None = None
        try:
            run_code = partial(self.sandbox.run, faults=self.faults)
            context = OperatorContext(self.problem, self._metered(usage), run_code, self.executor.prompt_set, options)
            output = checked_output(spoken.operator, await spoken.operator(context)(**arguments))
        except InfraError as error:
            failure, self.infra_error = str(error), error
            raise
        except asyncio.CancelledError:
            failure = "cancelled"
            raise
        except Exception as error:  # a bug of ours is not the policy's fault
            failure = f"{type(error).__name__}: {error}"
            self.infra_error = InfraError(f"{name} failed: {failure}")
            raise self.infra_error from error
        finally:
            record = _record(name, arguments, output, usage, time.monotonic() - start, failure)
            improved = improved_draft(spoken.operator, arguments, output)
            calls[slot] = record = dataclasses.replace(record, improved=improved)
        return _Answered(record, output, usage)

    def _metered(self, usage: _Usage) -> Ask:
        async def ask(
            messages: Sequence[Message],
            *,
            max_tokens: int,
            temperature: float | None = None,
            stop: Sequence[str] = (),
        ) -> str:
            temperature = self.executor.temperature if temperature is None else temperature
            key = json.dumps([list(messages), max_tokens, temperature, list(stop)])
            sample = self.repeat * SAMPLES_APART + self._samples[key]
            self._samples[key] += 1
            usage.samples[key] += 1
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
            self._count(reply.cost_usd, reply.prompt_tokens, reply.completion_tokens)
            return reply.text

        return ask

    def trace(self, outcome: Outcome, *, answer: str | None = None, error: TraceError | None = None) -> Trace:
        """Close the record. A failure of ours overrides whatever the workflow made of it."""
        if self.infra_error is not None:
            outcome, answer = "infra_error", None
            error = TraceError(type(self.infra_error).__name__, str(self.infra_error))
        calls = [call for call in self._calls if call is not None] + self._spent
        calls += [answered.call for answers in self._paid.values() for answered in answers]
        seconds = round(time.monotonic() - self.started, 4) if self.started else 0.0
        return Trace(
            answer=answer,
            outcome=outcome,
            error=error,
            calls=tuple(calls),
            seconds=seconds,
            lost_seconds=round(self.faults.seconds, 4),
            interpreter=self.interpreter,
        )

    def timed_out(self) -> Trace:
        """The record of a run whose time is up: its own fault, unless we lost more of it than it used."""
        if self.own_seconds >= self.limits.timeout:
            return self.trace("timeout", error=TraceError("TimeoutError", f"over {self.limits.timeout:g} s"))
        lost = f"{self.faults.seconds:.0f} s lost waiting for the executor and the sandbox"
        return self.trace("infra_error", error=TraceError("ExecutorOutage", lost))


def _record(
    name: str,
    arguments: dict[str, Any],
    output: dict[str, Any] | None,
    usage: _Usage,
    seconds: float,
    failure: str | None,
) -> OperatorCall:
    return OperatorCall(
        operator=name,
        args=shortened(arguments),
        output=shortened(output),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
        seconds=round(seconds, 4),
        cached=0 < usage.replies == usage.cached_replies,
        error=failure,
        replies=usage.replies,
    )
