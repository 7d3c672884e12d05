import asyncio
import dataclasses
import gc
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aflow_ops.concurrency import collecting_seldom
from aflow_ops.errors import FatalExecutorError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow, prompt_constants
from aflow_ops.operators import OPERATORS
from aflow_ops.rings.ending import within_deadline
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox
from aflow_ops.trace import Trace
from aflow_ops.values import bind_arguments
from data.problem import ProblemView
from tests.stub_endpoint import Failure, StubEndpoint

VIEW = ProblemView("What is 6 * 7?", "math")


async def run(runtime: WorkflowRuntime, text: str, prompts: dict[str, str] | None = None) -> Trace:
    return await runtime.run(parse_workflow(text, domain="math", has_entry_point=False, prompts=prompts), VIEW)


async def test_the_trace_lists_every_call_with_tokens_and_cost(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    trace = await run(runtime, "[Custom, AnswerGenerate, Custom] -> ScEnsemble -> Format")
    assert [call.operator for call in trace.calls] == ["Custom", "AnswerGenerate", "Custom", "ScEnsemble", "Format"]
    assert trace.outcome == "ok"
    asked = [call for call in trace.calls if call.operator != "ScEnsemble"]  # three equal answers need no vote
    assert all(call.prompt_tokens > 0 and call.completion_tokens > 0 and call.cost_usd > 0 for call in asked)
    assert trace.tokens == sum(call.prompt_tokens + call.completion_tokens for call in trace.calls)
    record = json.loads(json.dumps(trace.to_dict()))
    assert set(record) == {
        "answer", "outcome", "error", "calls", "prompt_tokens", "completion_tokens", "cost_usd", "seconds",
        "lost_seconds", "interpreter",
    }  # fmt: skip
    assert set(record["calls"][0]) == {
        "replies",
        "operator", "args", "output", "prompt_tokens", "completion_tokens", "cost_usd", "seconds", "cached", "error",
    }  # fmt: skip


async def test_calls_that_a_workflow_gathers_run_at_once(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.latency = 0.5
    await run(
        runtime,
        "async def workflow(problem):\n"
        "    drafts = await asyncio.gather(*[custom(input=problem + str(i)) for i in range(8)])\n"
        "    return drafts[0]['response']",
    )
    assert stub.most_in_flight == len(stub.requests) == 8


@pytest.mark.parametrize(("temperature", "samples"), [(0.7, 3), (0.0, 1)])
async def test_equal_calls_are_different_samples_unless_the_temperature_is_zero(
    temperature: float, samples: int, config: ExecutorConfig, sandbox: Sandbox, stub: StubEndpoint
) -> None:
    text = "[Custom, Custom, Custom] -> ScEnsemble"
    config = dataclasses.replace(config, executor_temperature=temperature)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, RuntimeLimits()) as runtime:
        await run(runtime, text)
        assert len(stub.requests) == samples
        again = await run(runtime, text)
        assert len(stub.requests) == samples
    assert all(call.cached for call in again.calls if call.operator == "Custom")
    assert again.cost_usd == 0


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return 1 / 0", "ZeroDivisionError"),
        ("return undefined_name", "NameError"),
        ("return (await custom(input=problem))['no_such_key']", "KeyError"),
        ("await sc_ensemble(solutions=7, problem=problem)\n    return ''", "TypeError"),
        ("return None", "ValueError"),
    ],
)
async def test_the_workflows_own_faults_are_policy_errors(runtime: WorkflowRuntime, body: str, error: str) -> None:
    trace = await run(runtime, f"async def workflow(problem):\n    {body}")
    assert trace.outcome == "policy_error"
    assert trace.error is not None
    assert trace.error.kind == error
    assert trace.answer is None


@pytest.mark.parametrize(("asked", "given"), [(2, 2), (2.9, 2), (-5, 0), (99, 10), (float("inf"), 10), (10**400, 10)])
def test_a_number_of_repairs_is_brought_into_its_range(asked: float, given: int) -> None:
    arguments = {"problem": "", "solution": "", "entry_point": "f", "test_loop": asked}
    assert bind_arguments(OPERATORS["Test"], (), arguments, max_chars=10)["test_loop"] == given


async def test_an_unreachable_executor_is_an_infra_error_even_if_the_workflow_hides_it(
    runtime: WorkflowRuntime, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: Failure(500)
    trace = await run(
        runtime,
        "async def workflow(problem):\n"
        "    try:\n        await custom(input=problem)\n    except Exception:\n        pass\n    return '42'",
    )
    assert trace.outcome == "infra_error"
    assert trace.answer is None


async def test_a_refused_key_stops_the_run(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(401, "bad key")
    with pytest.raises(FatalExecutorError, match="OPENAI_API_KEY"):
        await run(runtime, "Custom")


async def test_the_deadline_holds_while_the_workflow_waits(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.latency = 30
    async with (
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, RuntimeLimits(timeout=1, processes=2)) as runtime,
    ):
        trace = await run(runtime, "Custom")
    assert trace.outcome == "timeout"


async def test_many_workflows_wait_at_the_same_time(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    async with (
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, RuntimeLimits(timeout=30, processes=40)) as runtime,
    ):
        stub.latency = 0.5
        text = "async def workflow(problem):\n    return (await custom(input=problem + '{}'))['response']"
        traces = await asyncio.gather(*[run(runtime, text.format(i)) for i in range(40)])
    assert all(trace.outcome == "ok" for trace in traces)
    assert stub.most_in_flight > 20


# AFlow's published workflows, in the shape in which the project publishes them, run unmodified.

PUBLISHED = Path(__file__).parent / "published"


@pytest.mark.parametrize("folder", sorted(PUBLISHED.iterdir()), ids=lambda folder: folder.name)
async def test_published_workflows_run_unmodified(runtime: WorkflowRuntime, folder: Path) -> None:
    code = folder.name in ("humaneval", "mbpp")
    view = ProblemView("def f(x):\n    '''x'''", "code", entry_point="f") if code else VIEW
    workflow = parse_workflow(
        (folder / "graph.py").read_text(),
        domain=view.domain,
        has_entry_point=code,
        prompts=prompt_constants((folder / "prompt.py").read_text()),
    )
    assert workflow.form == "native"
    assert workflow.repairs == ()
    trace = await runtime.run(workflow, view)
    assert trace.outcome == "ok", trace.error
    assert trace.answer is not None
    assert trace.cost_usd > 0


async def test_prompt_custom_reaches_the_executor(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    folder = PUBLISHED / "three_customs"
    await run(runtime, (folder / "graph.py").read_text(), prompt_constants((folder / "prompt.py").read_text()))
    assert "Think of $5 {braces}" in stub.requests[0]["messages"][-1]["content"]


async def test_waiting_for_a_turn_is_not_held_against_a_workflow(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.latency = 0.3
    async with (
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, RuntimeLimits(timeout=1, processes=2)) as runtime,
    ):
        text = "async def workflow(problem):\n    return (await custom(input=problem + '{}'))['response']"
        traces = await asyncio.gather(*[run(runtime, text.format(i)) for i in range(12)])
    assert [trace.outcome for trace in traces] == ["ok"] * 12


async def test_what_a_run_that_was_cut_off_still_raises_is_not_reported() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    run = SimpleNamespace(limits=RuntimeLimits(), own_seconds=0.0, faults=SimpleNamespace(seconds=0.0))
    waiting = asyncio.ensure_future(within_deadline(run, work))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    work.set_exception(RuntimeError("the budget is spent"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del work, waiting
    gc.collect()
    await asyncio.sleep(0)
    assert not reported


def test_whoever_left_objects_out_of_collections_has_them_left_out_after_an_evaluation() -> None:
    before = gc.get_freeze_count()  # what the tests' imports made
    with collecting_seldom():
        pass
    assert gc.get_freeze_count() >= before > 0
