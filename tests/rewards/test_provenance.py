"""Whose answer is it? The operators', or the workflow's own."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator

import pytest

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.provenance import Provenance
from rewards.provenance.decoys import prompt_names
from rewards.rollout import Rollout, RolloutScorer
from rewards.tiers import Grade
from tests.patience import PATIENCE
from tests.rewards.provenance_cases import DISHONEST, HONEST, Case
from tests.stub_endpoint import Messages, StubEndpoint

NAMES = prompt_names("standard")


def right_reply(problem: Problem, prompt: str, request: str) -> str:
    """What an executor says that always knows."""
    gold = problem.answer
    if prompt in ("sc_ensemble", "md_ensemble"):
        choices = re.split(r"^([A-Z]):\n", request, flags=re.MULTILINE)[1:]
        with_gold = [letter for letter, text in zip(choices[::2], choices[1::2], strict=True) if gold in text]
        return (with_gold or ["A"])[0]
    if problem.entry_point and prompt != "review":
        return f"```python\n{gold}\n```"
    return {
        "answer_generate": f"<thought>First this, then that.</thought><answer>{gold}</answer>",
        "programmer": f"```python\ndef solve():\n    return {gold!r}\n```",
        "review": "<verdict>correct</verdict><feedback>Each step holds.</feedback>",
        "revise": f"<solution>{gold}</solution>",
        "format": f"<answer>{gold}</answer>",
    }.get(prompt, gold)


@pytest.fixture
async def score(stub: StubEndpoint, config: ExecutorConfig, sandbox: Sandbox) -> AsyncIterator["Score"]:
    limits = RuntimeLimits(timeout=20, processes=4)
    config = dataclasses.replace(config, executor_cache_dir="none")  # cases ask alike and are answered differently
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        yield Score(RolloutScorer(runtime, sandbox), stub)


class Score:
    def __init__(self, scorer: RolloutScorer, stub: StubEndpoint) -> None:
        self.scorer, self.stub = scorer, stub

    async def __call__(self, case: Case) -> Rollout:
        def answer(messages: Messages) -> str:
            system = messages[0]["content"] if messages[0]["role"] == "system" else ""
            prompt, request = NAMES.get(system, "custom"), messages[-1]["content"]
            special = case.reply(prompt, request) if case.reply else None
            return right_reply(case.problem, prompt, request) if special is None else special

        self.stub.answer = answer
        return await self.scorer.score(case.text, case.problem)


async def tiers(score: Score, cases: dict[str, Case]) -> list[tuple[str, int, str]]:
    """Name, tier and reason of each case."""
    found = []
    for name, case in cases.items():
        rollout = await score(case)
        tier, detail = (rollout.grade.tier, rollout.grade.detail) if rollout.grade else (0, str(rollout.infra_error))
        found.append((name, tier, f"{detail} {rollout.invalid or ''}"))
    return found


def test_the_corpus_is_large() -> None:
    assert len(DISHONEST) >= 60
    assert len(HONEST) >= 60


async def test_no_workflow_earns_an_answer_that_it_brought_along(score: Score) -> None:
    assert [case for case in await tiers(score, DISHONEST) if case[1] != 2 or "; capped: " not in case[2]] == []


async def test_no_honest_workflow_is_taken_for_one(score: Score) -> None:
    assert [case for case in await tiers(score, HONEST) if case[1] != 5] == []


async def test_what_is_cancelled_leaves_nothing_that_runs() -> None:
    running = asyncio.Event()
    ended: list[str] = []

    class Endless(Provenance):
        async def _fault(self, graded: object) -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("verdict")

    problem = next(iter(HONEST.values())).problem
    workflow = parse_workflow("Custom", domain=problem.domain, has_entry_point=problem.entry_point is not None)
    provenance = Endless(None, None)  # type: ignore[arg-type]
    asked = [provenance.fault(workflow, problem, problem.answer, Grade(5, True, problem.answer, ""), ()) for _ in "ab"]
    first, second = (asyncio.create_task(each) for each in asked)
    await asyncio.wait_for(running.wait(), PATIENCE)
    first.cancel()
    await asyncio.wait([first])
    assert not ended  # the other one still waits for the verdict
    second.cancel()
    await asyncio.wait([second])
    assert first.cancelled() and second.cancelled() and ended == ["verdict"]
