"""An endpoint that fails in every way a network can: nothing is lost, and nothing of it is held against a workflow."""

import asyncio
import dataclasses
import random
import time

import psutil
import pytest

from aflow_ops.errors import ExecutorError
from aflow_ops.executor import Call, ExecutorConfig, open_executor
from aflow_ops.executor.breaker import FAILURES_TO_OPEN, CircuitBreaker
from aflow_ops.executor.requests import RequestForm
from aflow_ops.fault_clock import FaultClock
from aflow_ops.language import parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox, open_sandbox, warm
from data.problem import Problem
from rewards.rollout import Rollout, RolloutScorer
from rewards.workflow_reward import score_all
from tests.patience import PATIENCE, until
from tests.stub_endpoint import Broken, Failure, Messages, StubEndpoint

FAULTS: list[Failure | Broken] = [
    Failure(429, headers={"Retry-After": "0.05"}),
    Failure(500),
    Failure(502),
    Broken("slow"),
    Broken("cut"),
    Broken("truncated"),
    Broken("empty"),
    Broken("html"),
]
TWICE = """\
async def workflow(problem):
    first = await custom(input=problem + "{}")
    second = await custom(input=first["response"] + "{} again")
    return second["response"]"""


def quick(config: ExecutorConfig, **changes: object) -> ExecutorConfig:
    values = {"executor_timeout": 0.5, "executor_max_retries": 8, "executor_cache_dir": "none", **changes}
    return dataclasses.replace(config, **values)  # type: ignore[arg-type]


async def graded(config: ExecutorConfig, sandbox: Sandbox, count: int, timeout: float = 3.0) -> list[Rollout]:
    problem = Problem.from_row({"question": "What?", "answer": "42", "source": "gsm8k"})
    limits = RuntimeLimits(timeout=timeout, processes=64)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        scorer = RolloutScorer(runtime, sandbox)
        return await score_all(scorer, [(problem, TWICE.format(i, i)) for i in range(100, 100 + count)])  # without 42


@pytest.mark.timeout(240)
async def test_with_a_third_of_all_calls_failing_every_workflow_is_graded_right(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    dice = random.Random(0)
    stub.answer = lambda messages: dice.choice(FAULTS) if dice.random() < 0.3 else "42"
    stub.slow_seconds = 3
    # 0.3 ** 17 is never
    patient = quick(config, executor_timeout=1.0, executor_max_retries=16, executor_max_backoff=0.5)
    rollouts = await graded(patient, sandbox, 256, timeout=20)
    assert {(rollout.reward, rollout.infra_error) for rollout in rollouts} == {(1.0, None)}
    assert len(stub.requests) > 2 * 256 * 1.3


async def test_an_outage_ends_in_time_without_a_grade(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.answer = lambda messages: Failure(503)
    patient = quick(config, executor_outage_seconds=2.0, executor_timeout=PATIENCE)
    rollouts = await graded(patient, sandbox, 64, timeout=PATIENCE)
    assert {rollout.reward for rollout in rollouts} == {None}
    assert {rollout.ending for rollout in rollouts} == {"infra_error"}
    assert len(stub.requests) < 200  # held back, not hammered: 64 workflows with 9 attempts each would be 576


async def test_a_short_outage_is_waited_out_and_burns_no_retry(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    back_at = time.monotonic() + 6.0
    stub.answer = lambda messages: "42" if time.monotonic() > back_at else Failure(503)
    rollouts = await graded(quick(config, executor_max_retries=4, executor_outage_seconds=60), sandbox, 16, timeout=5)
    assert {rollout.reward for rollout in rollouts} == {1.0}
    assert max(rollout.trace.lost_seconds for rollout in rollouts if rollout.trace) > 1.5


async def test_a_workflow_that_is_slow_itself_still_times_out(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.latency = 0.4
    rollouts = await graded(config, sandbox, 2, timeout=0.6)
    assert {(rollout.reward, rollout.ending) for rollout in rollouts} == {(0.0, "timeout")}


async def test_a_queue_for_the_sandbox_is_not_held_against_a_workflow(
    config: ExecutorConfig, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: "```python\ndef solve():\n    return 42\n```"
    workflow = 'async def workflow(problem):\n    return (await programmer(problem=problem))["output"]'
    problem = Problem.from_row({"question": "What?", "answer": "42", "source": "gsm8k"})
    limits = RuntimeLimits(timeout=2.0)
    async with (
        open_sandbox(concurrency=1) as single,
        open_executor(config) as executor,
        WorkflowRuntime(executor, single, limits) as runtime,
    ):
        scorer = RolloutScorer(runtime, single)
        await scorer.score(workflow, problem)  # starts what starts once
        hanging = asyncio.create_task(single.run("import time; time.sleep(60)", timeout=4))
        await asyncio.sleep(0.1)
        rollout = await scorer.score(workflow, problem)
        await hanging
    assert rollout.trace is not None and (rollout.trace.outcome, rollout.reward) == ("ok", 1.0)
    assert rollout.trace.lost_seconds > 2


async def test_the_start_of_a_sandbox_worker_is_not_held_against_a_workflow(
    config: ExecutorConfig, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "LIGHT", warm.HEAVY)  # imports that take a second
    stub.answer = lambda messages: "```python\ndef solve():\n    return 42\n```"
    workflow = parse_workflow(
        'async def workflow(problem):\n    return (await programmer(problem=problem))["output"]',
        domain="math",
        has_entry_point=False,
    )
    problem = Problem.from_row({"question": "What?", "answer": "42", "source": "gsm8k"}).view
    async with (
        open_sandbox(concurrency=1) as cold,
        open_executor(config) as executor,
        WorkflowRuntime(executor, cold, RuntimeLimits(timeout=PATIENCE)) as runtime,
    ):
        first = await runtime.run(workflow, problem)
    assert first.outcome == "ok"
    assert first.lost_seconds >= 0.3


async def test_killed_interpreters_cost_no_grade(config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox) -> None:
    def workers() -> list[psutil.Process]:
        return [process for process in psutil.Process().children(recursive=True) if process.name() == "monty"]

    stub.held = True
    batch = asyncio.create_task(graded(quick(config, executor_timeout=PATIENCE), sandbox, 24, timeout=PATIENCE))
    await until(lambda: len(workers()) >= 8)
    for worker in workers()[:8]:
        worker.kill()
    stub.held = False
    assert {(rollout.reward, rollout.infra_error) for rollout in await batch} == {(1.0, None)}


async def test_no_call_outlives_its_workflow(config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox) -> None:
    stub.latency = 1.0
    workflow = parse_workflow(TWICE.format(0, 0), domain="math", has_entry_point=False)
    problem = Problem.from_row({"question": "What?", "answer": "42", "source": "gsm8k"})
    limits = RuntimeLimits(timeout=0.3, processes=2)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        assert (await runtime.run(workflow, problem.view)).outcome == "timeout"
        await asyncio.sleep(0.05)
        assert executor.usage.calls == 0
        assert executor._slots._value == config.executor_max_concurrency


def test_the_breaker_opens_probes_and_closes() -> None:
    now = 0.0
    breaker = CircuitBreaker(clock=lambda: now)
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.try_admit() == "pass"
        breaker.failed(probe=False)
    assert breaker.try_admit() is None
    now = 1.1
    assert breaker.try_admit() == "probe"
    assert breaker.try_admit() is None  # one at a time
    breaker.failed(probe=True)
    assert breaker.try_admit() is None
    now = 2.0
    assert breaker.try_admit() is None  # twice the pause
    now = 3.2
    assert breaker.try_admit() == "probe"
    assert breaker.down_seconds == pytest.approx(3.2)
    breaker.succeeded()
    assert (breaker.try_admit(), breaker.down_seconds) == ("pass", 0.0)


def test_a_success_in_between_keeps_it_closed() -> None:
    breaker = CircuitBreaker()
    for _ in range(5 * FAILURES_TO_OPEN):
        breaker.failed(probe=False)
        breaker.succeeded()
    assert breaker.try_admit() == "pass"


def test_waiting_at_the_same_time_counts_once() -> None:
    clock = FaultClock()
    with clock.waiting(), clock.waiting():
        time.sleep(0.05)
        assert 0.04 < clock.seconds < 0.5
    clock.add(1.0)
    assert 1.04 < clock.seconds < 1.5


async def test_several_endpoints_share_the_calls_and_stand_in_for_each_other(config: ExecutorConfig) -> None:
    with StubEndpoint(latency=0.02) as one, StubEndpoint(latency=0.02) as other:
        both = quick(config, executor_base_url=f"{one.url}, {other.url}")
        async with open_executor(both) as executor:

            async def ask(count: int) -> None:
                calls = (
                    executor.complete([{"role": "user", "content": str(i)}], temperature=0, max_tokens=8)
                    for i in range(count)
                )
                await asyncio.gather(*calls)

            await ask(40)
            assert min(len(one.requests), len(other.requests)) >= 10
            one.answer = lambda messages: Failure(500)
            await ask(40)
            before = len(one.requests)
            await ask(40)
            assert len(one.requests) - before <= 2  # set aside, but for a probe now and then


@pytest.mark.parametrize("kind", ["truncated", "empty", "html", "cut"])
async def test_nonsense_is_no_reply(kind: str, config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Broken(kind)
    async with open_executor(quick(config, executor_max_retries=1)) as executor:
        with pytest.raises(ExecutorError, match="after 2 attempts"):
            await executor.complete([{"role": "user", "content": "x"}], temperature=0, max_tokens=8)


# Providers that do not take everything


CHAT: Messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_a_reasoning_model_gets_no_temperature_and_room_to_think() -> None:
    for model in ("o3-mini", "o1", "gpt-5-nano", "openai/o4-mini"):
        form = RequestForm(model, 4096)
        request = form.request(Call(CHAT, 0.7, 100, ["\n"]), 100 + form.room)  # type: ignore[arg-type]
        assert "temperature" not in request and "max_tokens" not in request and "stop" not in request
        assert request["max_completion_tokens"] > 1000
    plain = RequestForm("gpt-4o-mini", 4096)
    assert plain.room == 0
    assert plain.request(Call(CHAT, 0.7, 100), 100)["max_tokens"] == 100  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("refusal", "gone", "there"),
    [
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "max_completion_tokens",
        ),
        ("Unsupported value: 'temperature' does not support 0.7.", "temperature", "max_tokens"),
        ("Unsupported parameter: 'stop' is not supported with this model.", "stop", "temperature"),
    ],
)
async def test_what_a_model_refuses_is_left_out_from_then_on(
    refusal: str, gone: str, there: str, config: ExecutorConfig, stub: StubEndpoint
) -> None:
    def answer(messages: Messages) -> str | Failure:
        return Failure(400, refusal) if gone in stub.requests[-1] else "42"

    stub.answer = answer
    async with open_executor(quick(config, executor_max_retries=0)) as executor:
        for index in range(3):
            reply = await executor.complete(
                [{"role": "user", "content": str(index)}], temperature=0.7, max_tokens=8, stop=["\n"]
            )
            assert reply.text == "42"
    assert len(stub.requests) == 4
    assert there in stub.requests[-1]


async def test_a_model_without_a_system_role_reads_it_in_the_first_message(
    config: ExecutorConfig, stub: StubEndpoint
) -> None:
    def answer(messages: Messages) -> str | Failure:
        return Failure(400, "System role not supported") if messages[0]["role"] == "system" else "42"

    stub.answer = answer
    async with open_executor(config) as executor:
        await executor.complete(CHAT, temperature=0, max_tokens=8)  # type: ignore[arg-type]
    assert stub.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nHi"}]


async def test_a_refusal_that_no_form_mends_fails_at_once(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(400, "This content violates a policy")
    async with open_executor(config) as executor:
        with pytest.raises(ExecutorError, match="policy"):
            await executor.complete([{"role": "user", "content": "x"}], temperature=0, max_tokens=8)
    assert len(stub.requests) == 1
