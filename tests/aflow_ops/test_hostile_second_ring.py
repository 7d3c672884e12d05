"""What the first ring stops, CPython in the sandbox stops too: the suite's hostile workflows are forced into it."""

import ast
import asyncio
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aflow_ops.errors import WorkflowError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from aflow_ops.trace import Interpreter, Trace
from data.problem import ProblemView
from tests.aflow_ops.test_first_ring import HOSTILE
from tests.conftest import KEY
from tests.rewards.hostile_completions import CANARY
from tests.rewards.hostile_completions import HOSTILE as COMPLETIONS
from tests.stub_endpoint import StubEndpoint

pytestmark = pytest.mark.long
VIEW = ProblemView("What is 12 + 30 * 2?", "math")
PASSWORDS = "root:x:"
LIMITS = RuntimeLimits(timeout=20.0, processes=4)
BODIES = {name: textwrap.indent(body, "    ") for name, body in HOSTILE.items()}
TEXTS = {name: f"async def workflow(problem):\n{body}\n" for name, body in BODIES.items()} | {
    item.name: item.completion for item in COMPLETIONS
}
Traces = dict[str, Trace | None]


def parsed(text: str) -> Workflow | None:
    """The workflow; `None` for one that the checker stops."""
    try:
        return parse_workflow(text, domain="math", has_entry_point=False)
    except WorkflowError:
        return None


def unchecked(text: str) -> Workflow:
    """The workflow as it would be if the checker had let it through."""
    source = text.removeprefix("```python\n").removesuffix("```")
    return Workflow("short", source, source, ())


def is_source(text: str) -> bool:
    """Whether an interpreter would read it at all: a file of Python holds neither NUL bytes nor half characters."""
    try:
        tree = ast.parse(unchecked(text).source.encode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.AsyncFunctionDef) and node.name == "workflow" for node in tree.body)


async def trace_of(runtime: WorkflowRuntime, workflow: Workflow | None) -> Trace | None:
    """How it ends; `None` for one that does not get as far as a ring."""
    try:
        return None if workflow is None else await runtime.run(workflow, VIEW)
    except WorkflowError:  # its imports are read again when the program is made
        return None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Traces], StubEndpoint, Path]]:
    """Every workflow in both rings alone, and every text of Python in the second one past the checker."""
    canary = tmp_path_factory.mktemp("canary") / "escaped"
    patch = pytest.MonkeyPatch()
    patch.setenv("OPENAI_API_KEY", KEY)
    texts = {name: text.replace(CANARY, str(canary)) for name, text in TEXTS.items()}

    async def everything(config: ExecutorConfig) -> dict[str, Traces]:
        async with open_sandbox() as sandbox, open_executor(config) as executor:

            async def traces(interpreter: Interpreter, workflows: Mapping[str, Workflow | None]) -> Traces:
                async with WorkflowRuntime(executor, sandbox, LIMITS, interpreter) as runtime:
                    found = await asyncio.gather(*(trace_of(runtime, workflow) for workflow in workflows.values()))
                return dict(zip(workflows, found, strict=True))

            checked = {name: parsed(text) for name, text in texts.items()}
            python = {
                name: unchecked(text) for name, text in texts.items() if checked[name] is None and is_source(text)
            }
            return {
                "monty": await traces("monty", checked),
                "cpython": await traces("cpython", checked),
                "unchecked": await traces("cpython", python),
            }

    with StubEndpoint() as stub:
        config = ExecutorConfig(executor_base_url=stub.url, executor_cache_dir="none", executor_temperature=0)
        yield asyncio.run(everything(config)), stub, canary
    patch.undo()


@pytest.mark.parametrize("name", TEXTS)
def test_what_the_first_ring_stops_the_second_stops(
    name: str, runs: tuple[dict[str, Traces], StubEndpoint, Path]
) -> None:
    first, second = runs[0]["monty"][name], runs[0]["cpython"][name]
    assert (first is None) == (second is None)
    if first is None or second is None:  # by the checker, before either
        return
    assert second.outcome in ("ok", "policy_error", "timeout"), second.error
    assert second.interpreter == "cpython"
    assert len(second.calls) <= LIMITS.operator_calls
    if first.outcome != "ok":
        assert second.outcome != "ok", (first.error, second.answer)


def test_the_set_is_large_and_reaches_the_second_ring(runs: tuple[dict[str, Traces], StubEndpoint, Path]) -> None:
    assert len(TEXTS) == len(HOSTILE) + len(COMPLETIONS)
    assert sum(trace is not None for trace in runs[0]["cpython"].values()) >= 60
    assert sum(trace is not None for trace in runs[0]["unchecked"].values()) >= 15


def test_past_the_checker_nothing_gets_out_either(runs: tuple[dict[str, Traces], StubEndpoint, Path]) -> None:
    found, stub, canary = runs
    assert not canary.exists()
    for name, trace in [*found["cpython"].items(), *found["unchecked"].items()]:
        record = json.dumps(trace.to_dict()) if trace is not None else ""
        assert KEY not in record and PASSWORDS not in record, name
        assert trace is None or trace.outcome != "infra_error", (name, trace.error)
    assert KEY not in json.dumps(stub.requests) and PASSWORDS not in json.dumps(stub.requests)
