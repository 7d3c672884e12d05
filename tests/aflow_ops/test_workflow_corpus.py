"""Workflows as models write them, each with the outcome that it must have, and the same one in both interpreters."""

import asyncio
import textwrap
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from aflow_ops.errors import WorkflowError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import Workflow, parse_workflow, prompt_definitions
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from aflow_ops.trace import Trace
from data.problem import ProblemView
from tests.conftest import KEY
from tests.patience import PATIENCE
from tests.stub_endpoint import StubEndpoint

pytestmark = pytest.mark.slow
CORPUS = Path(__file__).parent / "corpus"
BESIDE = 32  # workflows that are run at once when a test asks for one of them
OPERATORS = ("Custom", "AnswerGenerate", "ScEnsemble", "Programmer", "Review", "Revise")
HEAD = """\
import workspace.MATH.workflows.template.operator as operator
import workspace.MATH.workflows.round_1.prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType
"""


def indented(text: str, levels: int) -> str:
    return textwrap.indent(text.strip("\n") + "\n", "    " * levels) if text else ""


def native(item: dict[str, Any]) -> str:
    """AFlow's class around a body."""
    built = "".join(f"        self.{snake(name)} = operator.{name}(self.llm)\n" for name in OPERATORS)
    bases = f"({item['bases']})" if "bases" in item else ""
    return (
        f"{HEAD}{item.get('above', '')}\nclass Workflow{bases}:\n{indented(item.get('methods', ''), 1)}"
        "    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:\n        self.name = name\n"
        f"        self.llm = create_llm_instance(llm_config)\n{built}{indented(item.get('init', ''), 2)}"
        f"    async def __call__(self, problem: str):\n{indented(item['body'], 2)}"
    )


def snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


def source(item: dict[str, Any], form: str) -> str:
    if "text" in item:
        return str(item["text"])
    if form == "native":
        return native(item)
    return f"{item.get('above', '')}\nasync def workflow(problem):\n{indented(item['body'], 1)}"


ITEMS = {
    f"{path.stem}: {item['name']}": {**item, "source": source(item, path.stem)}
    for path in sorted(CORPUS.glob("*.yaml"))
    for item in yaml.safe_load(path.read_text(encoding="utf-8"))
}
RUNNABLE = [name for name, item in ITEMS.items() if "refused" not in item]
RUN = [name for name, item in ITEMS.items() if "refused" not in item and "error" not in item]


def view(item: dict[str, Any]) -> ProblemView:
    if item.get("domain") == "code":
        return ProblemView("def f(x):\n    '''Return x.'''", "code", entry_point="f")
    return ProblemView("What is 6 * 7?", "math")


def parsed(item: dict[str, Any]) -> Workflow:
    prompts = item.get("prompts", "")
    prompts = prompts.replace("LONG", "x" * 20_000) if item.get("long") else prompts
    domain = item.get("domain", "math")
    return parse_workflow(
        item["source"], domain=domain, has_entry_point=domain == "code", prompts=prompt_definitions(prompts)
    )


class Traces:
    """What an interpreter makes of a workflow. Those beside it are run at once, all others when they are asked for."""

    def __init__(self, runner: asyncio.Runner, runtimes: dict[str, WorkflowRuntime]) -> None:
        self._runner, self._runtimes = runner, runtimes
        self._known: dict[tuple[str, str], Trace] = {}

    def __call__(self, name: str, kind: str) -> Trace:
        if (name, kind) not in self._known:
            place = RUNNABLE.index(name)
            names = RUNNABLE[place - place % BESIDE :][:BESIDE]
            found = self._runner.run(self._run(names, self._runtimes[kind]))
            self._known |= {(each, kind): trace for each, trace in zip(names, found, strict=True)}
        return self._known[name, kind]

    async def _run(self, names: list[str], runtime: WorkflowRuntime) -> list[Trace]:
        started = asyncio.Semaphore(8)

        async def run(item: dict[str, Any]) -> Trace:
            workflow = parsed(item)
            async with started:
                return await runtime.run(workflow, view(item))

        return await asyncio.gather(*(run(ITEMS[name]) for name in names))


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    """Made when asked for: no process of a test run makes those of the others' tests."""
    limits = RuntimeLimits(timeout=PATIENCE, processes=8)
    stack = AsyncExitStack()

    async def opened(config: ExecutorConfig) -> dict[str, WorkflowRuntime]:
        sandbox = await stack.enter_async_context(open_sandbox())
        executor = await stack.enter_async_context(open_executor(config))
        kinds: tuple[Any, ...] = ("auto", "monty", "cpython")
        return {
            kind: await stack.enter_async_context(WorkflowRuntime(executor, sandbox, limits, kind)) for kind in kinds
        }

    with pytest.MonkeyPatch.context() as patch, StubEndpoint() as stub, asyncio.Runner() as runner:
        patch.setenv("OPENAI_API_KEY", KEY)
        config = ExecutorConfig(executor_base_url=stub.url, executor_cache_dir="none")
        try:
            yield Traces(runner, runner.run(opened(config)))
        finally:
            runner.run(stack.aclose())


def essence(trace: Trace, racing: bool = False) -> dict[str, Any]:
    """What does not depend on the clock and the cache, nor, of calls that race, on which of them was first."""
    if racing:
        return {"answer": trace.answer, "outcome": trace.outcome, "calls": len(trace.calls)}
    calls = [{**asdict(call), "seconds": 0, "cached": False, "cost_usd": 0} for call in trace.calls]
    return {"answer": trace.answer, "outcome": trace.outcome, "calls": calls}


def test_the_corpus_is_large() -> None:
    assert len(ITEMS) >= 120
    assert len(RUN) >= 0.8 * len(ITEMS)


@pytest.mark.parametrize("name", [name for name, item in ITEMS.items() if "refused" in item])
def test_what_no_workflow_may_do_is_told_at_check_time(name: str) -> None:
    with pytest.raises(WorkflowError, match=ITEMS[name]["refused"]):
        parsed(ITEMS[name])


@pytest.mark.parametrize("name", [name for name, item in ITEMS.items() if "error" in item])
def test_each_fault_ends_with_its_error(traces: Traces, name: str) -> None:
    trace = traces(name, "auto")
    assert trace.outcome == "policy_error", trace.answer
    assert trace.error is not None
    assert trace.error.kind == ITEMS[name]["error"], trace.error


@pytest.mark.parametrize("name", RUN)
def test_each_workflow_gives_its_answer(traces: Traces, name: str) -> None:
    trace = traces(name, "auto")
    assert trace.outcome == "ok", trace.error
    assert trace.answer == str(ITEMS[name].get("answer", "42"))
    assert trace.calls


@pytest.mark.parametrize("name", RUN)
def test_both_interpreters_agree(traces: Traces, name: str) -> None:
    trace, racing = traces(name, "auto"), ITEMS[name].get("racing", False)
    assert essence(traces(name, "cpython"), racing) == essence(trace, racing)
    # What goes past Monty for what it does not speak must not run there all the same, to another end.
    if ITEMS[name].get("only_cpython"):  # Monty would run it, to another end
        assert trace.interpreter == "cpython"
        return
    alone = traces(name, "monty")
    assert alone.outcome == "policy_error" or essence(alone) == essence(trace)


def test_monty_stays_the_usual_one(traces: Traces) -> None:
    alike = [name for name in RUN if not ITEMS[name].get("only_cpython")]
    able = [name for name in alike if traces(name, "monty").outcome == "ok"]
    assert len(able) > 40
    sent_past = [name for name in able if traces(name, "auto").interpreter == "cpython"]
    assert len(sent_past) < 0.1 * len(able), sent_past
