"""None escapes, none hangs past its limit, none raises out of the reward; each gets its tier."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aflow_ops.agents.tools.edits import EditRefusedError, apply_edits, parse_edits
from aflow_ops.agents.tools.retriever import usable_query
from aflow_ops.agents.verdicts import read_verdict
from aflow_ops.errors import WorkflowError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.executor.reading import _without_thoughts
from aflow_ops.language import parse_workflow, prompt_definitions
from aflow_ops.language.constants import prompt_constants
from aflow_ops.operators.parsing import extract_code, extract_letter, extract_tag, extract_verdict, strip_tags
from aflow_ops.python_source import longest_marks, parse_source
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from aflow_ops.search.canonical import workflow_key
from data.problem import Problem
from rewards.agents.citations import citations, without_citations
from rewards.graders.code import extract_solution
from rewards.graders.math_text import find_answer
from rewards.graders.qa import grade_qa
from rewards.rollout import Rollout, RolloutScorer
from rewards.workflow_reward import score_all
from tests.conftest import KEY
from tests.patience import PATIENCE
from tests.rewards.hostile_completions import CANARY, HOSTILE, Hostile
from tests.stub_endpoint import StubEndpoint

PROBLEM = Problem.from_row({"question": "What is 12 + 30 * 2?", "answer": "72", "source": "arithmetic"})
TIMEOUT = 8.0


@pytest.fixture(scope="module", params=["auto", pytest.param("cpython", marks=pytest.mark.long)])
def hostile_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Rollout], StubEndpoint, Path]]:
    canary = tmp_path_factory.mktemp("canary") / "escaped"
    limits = RuntimeLimits(timeout=TIMEOUT, processes=24)
    patch = pytest.MonkeyPatch()
    patch.setenv("OPENAI_API_KEY", KEY)
    with StubEndpoint() as stub:
        config = ExecutorConfig(executor_base_url=stub.url, executor_cache_dir="none", executor_temperature=0)

        async def score() -> list[Rollout]:
            async with (
                open_sandbox() as sandbox,
                open_executor(config) as executor,
                WorkflowRuntime(executor, sandbox, limits, request.param) as runtime,
            ):
                pairs = [(PROBLEM, item.completion.replace(CANARY, str(canary))) for item in HOSTILE]
                return await score_all(RolloutScorer(runtime, sandbox), pairs)

        rollouts = asyncio.run(score())
        yield {item.name: rollout for item, rollout in zip(HOSTILE, rollouts, strict=True)}, stub, canary
    patch.undo()


def test_the_corpus_is_large_and_its_names_are_distinct() -> None:
    assert len(HOSTILE) >= 60
    assert len({item.name for item in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("item", HOSTILE, ids=lambda item: item.name)
def test_each_completion_gets_its_tier(
    hostile_run: tuple[dict[str, Rollout], StubEndpoint, Path], item: Hostile
) -> None:
    rollout = hostile_run[0][item.name]
    assert rollout.infra_error is None
    assert rollout.grade is not None
    assert rollout.grade.tier == item.tier, (rollout.invalid, rollout.trace, rollout.grade)


@pytest.mark.parametrize("item", HOSTILE, ids=lambda item: item.name)
def test_each_record_can_be_written(hostile_run: tuple[dict[str, Rollout], StubEndpoint, Path], item: Hostile) -> None:
    json.dumps(hostile_run[0][item.name].to_row(), ensure_ascii=False).encode("utf-8")


def test_nothing_hangs_past_its_limit(hostile_run: tuple[dict[str, Rollout], StubEndpoint, Path]) -> None:
    seconds = {name: rollout.trace.seconds for name, rollout in hostile_run[0].items() if rollout.trace}
    assert max(seconds.values()) < TIMEOUT + PATIENCE, seconds


def test_nothing_escapes(hostile_run: tuple[dict[str, Rollout], StubEndpoint, Path]) -> None:
    rollouts, stub, canary = hostile_run
    assert not canary.exists()
    records = json.dumps([rollout.to_row() for rollout in rollouts.values()])
    assert KEY not in records
    assert "root:x:" not in records
    assert KEY not in json.dumps(stub.requests)


def test_the_limit_on_operator_calls_holds(hostile_run: tuple[dict[str, Rollout], StubEndpoint, Path]) -> None:
    for name in ("endless operator calls", "ten thousand calls at once"):
        trace = hostile_run[0][name].trace
        assert trace is not None
        assert len(trace.calls) <= RuntimeLimits().operator_calls


async def test_an_honest_workflow_is_graded_by_its_answer(scorer: RolloutScorer) -> None:
    rollout = await scorer.score(
        "async def workflow(problem):\n    return (await custom(input=problem))['response']", PROBLEM
    )
    assert rollout.reward == 0.4  # 42 is within 50 % of 72


QA = Problem.from_row({"question": "Which?", "answer": "Oslo | Lima", "source": "drop"})


def parsed(text: str) -> None:
    with suppress(WorkflowError):
        parse_workflow(text, domain="code", has_entry_point=True)


# They run on the event loop, so while one of them is busy nothing else is done.
READERS: dict[str, Callable[[str], object]] = {
    "workflow": parsed,
    "math": find_answer,
    "qa": lambda text: grade_qa(text, QA),
    "solution": lambda text: extract_solution(text, "f", "def f(x):\n    pass"),
    "code": lambda text: extract_code(text, "f"),
    "tag": lambda text: extract_tag(text, "answer"),
    "tags": lambda text: strip_tags(text, "answer"),
    "letter": lambda text: extract_letter(text, 26),
    "verdict": extract_verdict,
}
SIZE = 40_000
HEADS = ["", "answer is", "<answer>", "```", "```python\n", "#### ", r"\boxed{", "def f():\n", "The answer"]
UNITS = ["\n", " ", "\n ", "```", "`", "<answer>", "answer is ", "a", "1,111", "a, ", "- ", "def f(x):\n", "not "]
LONG_TEXTS = [head + (unit * SIZE)[:SIZE] for head in HEADS for unit in UNITS]
LONG_TEXTS.append("The answer is" + "\n" * 19_000)  # an answer is read from its end
# What goes on for long and then ends otherwise, so that whoever looked for its end looks again.
LONG_TEXTS += [head + (unit * SIZE)[:SIZE] + "x" for head in ("", "```\n", "custom -> ") for unit in UNITS]


# Fences that never begin, thoughts that never end, and marks: Python's parser sorts those of a name by insertion.
COSTLY = {
    unit: [head + unit * (SIZE // len(unit)) for head in ("", "answer is ", "async def workflow(problem):\n    x = ")]
    for unit in ("~", "~~~ ", "\u0300\u0323", "a\u0300\u0323", "<think>", "</think><think>")
}
# Prompt files that would fill the memory, or compute for ever. None of them has a constant `x` that is read.
BOMBS = {
    "a list of nothing": "x = [[]] * 1000000000",
    "a width in a field": "x = '{:{}}'.format('x', 3000000000)",
    "a width by name": "x = '\\t'.expandtabs(tabsize=3000000000)",
    "a wide indentation": "x = json.dumps([[1]], indent=3000000000)",
    "a prefix of many lines": "a = 'a\\n' * 40000\nb = 'x' * 40000\nx = indent(a, b)",
    "lists added up": "a = [[1]] * 22000\nx = sum(a, [])",
    "a name used again and again": "a = ['x'] * 40000\n" + "b = a\n" * 4000 + "x = a",
    "a list twice in itself": "a = []\n" + "a = [a, a]\n" * 60 + "x = a",
    "a list in a list in a list": "a = []\n" + "a = [a]\n" * 3000 + "x = a",
    "a range": "x = range(10 ** 12)",
}
# Prompt files whose code would make a workflow long, or whose names need each other without end.
CODE_BOMBS = {
    "a chain of functions": "".join(f"def f{i}(): return f{i + 1}()\n" for i in range(1900)),
    "a name of all others": "f0 = [" + ", ".join(f"g(a{i})" for i in range(1900)) + "]\n",
    "a call after the other": "f0 = g()\n" + "f0()\n" * 1900,
    "a name set again and again": "def f0(): return f0()\n" * 1900,
    "a function in a function": "".join(" " * i + f"def f{i}():\n" for i in range(90)) + " " * 91 + "f0()",
    "a long text": f"def f0(): return '{'a' * 300_000}'",
    "more statements than are read": "def f0(): pass\n" * 10_000,
}
PROMPTED = "async def workflow(problem):\n    return prompt_custom.f0 + (await custom(input=problem))['response']"
MORE_READERS: dict[str, Callable[[str], object]] = {
    **READERS,
    "program": lambda text: extract_solution(text, None, ""),
    "prompts": prompt_definitions,
    "prompts of a completion": lambda text: parsed(f"<prompt>\n{text}\n</prompt>\n"),
    "prose": lambda text: (read_verdict(text), citations(text), without_citations(text), usable_query(text)),
    "edits": lambda text: refused(lambda: apply_edits({"a.py": "x = 1\n"}, parse_edits(text))),
    "same program": workflow_key,
    "reply": _without_thoughts,
}


def refused(work: Callable[[], object]) -> None:
    with suppress(EditRefusedError):
        work()


def check_time(name: str, texts: list[str]) -> None:
    """What takes a reader long must not take it longer than its length accounts for."""

    def seconds(text: str) -> float:
        start = time.process_time()
        MORE_READERS[name](text)
        return time.process_time() - start

    for text in texts:
        whole = seconds(text)
        if whole > 1.0:
            assert whole < 8 * seconds(text[: len(text) // 4]), text[:20]


@pytest.mark.parametrize("name", READERS)
def test_no_text_keeps_a_reader_busy(name: str) -> None:
    check_time(name, LONG_TEXTS)


@pytest.mark.parametrize("unit", COSTLY, ids=ascii)
def test_no_costly_text_keeps_a_reader_busy(unit: str) -> None:
    for name in MORE_READERS:
        check_time(name, COSTLY[unit])


def test_marks_that_a_language_has_are_no_hindrance() -> None:
    assert longest_marks("Việt Nam, क्षि, a\u0301b\u0301\u0323") == 2
    assert parse_source("naïve = 'e\u0301'").body
    with pytest.raises(SyntaxError, match="combining marks"):
        parse_source("a" + "\u0300" * 31)


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_no_prompt_file_fills_the_memory_or_keeps_its_reader_busy(source: str) -> None:
    assert "x" not in prompt_constants(source)


@pytest.mark.parametrize("source", CODE_BOMBS.values(), ids=CODE_BOMBS)
def test_no_prompt_file_makes_a_workflow_long(source: str) -> None:
    prompts = prompt_definitions(f"{source}\ng()")
    with pytest.raises(WorkflowError, match=r"has \d+ characters|nested|no prompt file|unknown operator"):
        parse_workflow(PROMPTED, domain="qa", has_entry_point=False, prompts=prompts)
