"""A domain of one's own goes the whole way: row, prompt, workflow, grade, metric, summary, report."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aflow_ops.domains import DOMAIN_PROMPTS, DomainPrompt, domain_prompt
from aflow_ops.errors import UsageError
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.sandbox import Sandbox
from data.domains import DOMAINS, DomainRow, add_domain_row
from data.mixing import parse_mix
from data.problem import Problem, ProblemView
from rewards.baselines import PUBLISHED_BASELINES, published_baseline
from rewards.benchmark_metrics import benchmark_metrics
from rewards.domains import DOMAIN_REWARDS, DomainRewards, domain_rewards, register_domain
from rewards.evaluation import summarize_rows
from rewards.grading import grade_answer
from rewards.rollout import RolloutScorer
from rewards.tiers import Grade
from scripts.reporting.collect import collect
from scripts.reporting.page import render
from tests.stub_endpoint import StubEndpoint

ROW = {"question": "Write seven words about rain.", "answer": "7", "source": "word_counts", "id": "1"}
ASK = "async def workflow(problem):\n    return (await custom(input=problem))['response']"


async def grade_length(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """How close the number of words is to the wanted one."""
    wanted, count = int(problem.answer), len(answer.split())
    return Grade.of_reward(max(0.0, 1 - abs(count - wanted) / wanted), answer, f"{count} of {wanted} words")


def length_metric(grade: Grade, problem: Problem) -> dict[str, float]:
    return {"closeness": grade.reward}


@pytest.fixture
def words() -> Iterator[None]:
    prompt = DomainPrompt(
        about=" and says how many words are wanted",
        example_problem='"Write three words about snow."',
        example=ASK,
        sample=ProblemView("Write three words about snow.", "words"),
    )
    rewards = DomainRewards(grade_length, metrics=length_metric)
    register_domain("words", rewards=rewards, prompt=prompt, sources=("word_counts",))
    yield
    for registry in (DOMAINS, DOMAIN_PROMPTS, DOMAIN_REWARDS):
        del registry["words"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("words")
async def test_a_registered_domain_goes_the_whole_way(
    scorer: RolloutScorer, stub: StubEndpoint, tmp_path: Path
) -> None:
    problem = Problem.from_row(ROW)
    assert problem.domain == "words"
    assert parse_mix("words=0.5,math=0.5") == {"words": 0.5, "math": 0.5}
    prompt = policy_messages(problem.view)[0]["content"]
    assert "says how many words are wanted" in prompt and "custom(" in prompt and "test(" not in prompt
    stub.answer = lambda messages: "one two three four five six"
    rollout = await scorer.score(ASK, problem)
    assert rollout.grade is not None
    assert (rollout.grade.tier, rollout.grade.detail) == (4, "6 of 7 words")
    assert rollout.reward == pytest.approx(6 / 7)
    row = {**rollout.to_row(), "metrics": benchmark_metrics(rollout)}
    summary = summarize_rows([row])
    assert summary["by_domain"]["words"]["reward"] == pytest.approx(6 / 7)
    assert summary["metrics"]["word_counts"]["closeness"]["mean"] == pytest.approx(6 / 7)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert "words" in render(collect(tmp_path))


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize("name", PUBLISHED_BASELINES)
async def test_baselines_run_on_a_registered_domain(name: str, scorer: RolloutScorer) -> None:
    problem = Problem.from_row(ROW)
    rollout = await scorer.score(published_baseline(name, "words", has_entry_point=False), problem)
    assert (rollout.invalid, rollout.ending) == (None, "ok")


@pytest.mark.usefixtures("words")
async def test_an_answer_that_a_workflow_of_ones_own_domain_brings_along_is_capped(scorer: RolloutScorer) -> None:
    text = "async def workflow(problem):\n    await custom(input='x')\n    return 'a b c d e f g'"
    rollout = await scorer.score(text, Problem.from_row(ROW))
    assert rollout.grade is not None
    assert (rollout.reward, rollout.grade.capped) == (0.2, True)


async def test_an_unknown_domain_is_an_error_that_names_the_known_ones(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="must be one of math, code, qa, swe, not 'maths'"):
        Problem.from_row({**ROW, "domain": "maths"})
    stray = Problem("?", "7", "x", "maths", "1")
    with pytest.raises(UsageError, match=r"'maths' has no grader.*math, code, qa, swe"):
        await grade_answer("7", stray, sandbox)
    with pytest.raises(ValueError, match=r"'maths' has no prompt.*math, code, qa, swe"):
        policy_messages(stray.view)


def test_every_domain_has_its_row_on_every_floor() -> None:
    assert set(DOMAINS) == set(DOMAIN_PROMPTS) == set(DOMAIN_REWARDS)
    for name in DOMAINS:
        assert domain_prompt(name).sample.domain == name
        assert domain_rewards(name).judge_chars > 0


def test_a_domain_is_not_replaced_by_another_of_its_name() -> None:
    add_domain_row(DOMAINS["math"])  # the same again says nothing new
    with pytest.raises(ValueError, match="there is a domain 'math' already"):
        add_domain_row(DomainRow("math", has_tests=True))
