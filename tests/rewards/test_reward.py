import asyncio
import dataclasses
import itertools
import json
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.errors import FatalExecutorError
from data.problem import Problem
from rewards.baselines import FIXED_BASELINES, PUBLISHED_BASELINES, published_baseline
from rewards.benchmark_metrics import benchmark_metrics
from rewards.evaluation import summarize_rows
from rewards.graders.qa import grade_qa
from rewards.graders.qa_metrics import squad_scores
from rewards.rollout import Rollout, RolloutScorer
from rewards.statistics import bootstrap_mean, paired_bootstrap, pass_at_k
from rewards.tiers import Grade
from rewards.workflow_reward import WorkflowReward, completion_text, stage_metrics
from tests.stub_endpoint import Failure, Messages, StubEndpoint

MATH = Problem.from_row({"question": "What is 6 * 7?", "answer": "42", "source": "arithmetic"})
QA = Problem.from_row(
    {"question": "Who wrote it?", "answer": "Ada Lovelace", "source": "squad", "context": "Ada Lovelace did."}
)
CODE = Problem.from_row(
    {
        "question": "def f(x):\n    '''Return x + 1.'''",
        "answer": "",
        "source": "small_functions",
        "entry_point": "f",
        "public_tests": ["assert f(1) == 2"],
        "tests": ["assert candidate(2) == 3", "assert candidate(5) == 6"],
    }
)
ASK = "async def workflow(problem):\n    return (await custom(input=problem))['response']"


async def call(
    reward: WorkflowReward, problem: Problem, *completions: str
) -> tuple[list[float | None], dict[str, float]]:
    metrics: dict[str, float] = {}
    rows = [json.dumps(problem.to_row())] * len(completions)
    chats = [[{"role": "assistant", "content": text}] for text in completions]
    rewards = await reward(
        completions=chats, problem=rows, log_metric=metrics.__setitem__, prompts=[], trainer_state=None
    )
    return rewards, metrics


async def test_rewards_come_in_order_and_every_stage_is_counted(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    reward = WorkflowReward(scorer)
    raising = "async def workflow(problem):\n    await custom(input=problem)\n    return 1 / 0"
    rewards, metrics = await call(
        reward, MATH, ASK, "nonsense", raising, 'async def workflow(problem):\n    return "42"'
    )
    assert rewards == [1.0, 0.0, 0.0, 0.2]
    assert [rollout.reward for rollout in reward.last] == rewards
    assert metrics["workflow/valid"] == 0.75
    assert metrics["workflow/executed"] == 0.5
    assert metrics["workflow/operators"] == 0.5
    assert metrics["workflow/infra_error"] == 0
    assert [metrics[f"reward/tier_{tier}"] for tier in range(1, 6)] == [0.5, 0.25, 0, 0, 0.25]
    assert metrics["executor/tokens"] > 0 and metrics["executor/cost_usd"] > 0
    assert metrics["sandbox/replaced_workers"] == scorer.grader.sandbox.counts.replaced_share < 0.5


async def test_a_failure_of_ours_is_no_reward_at_all(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    def answer(messages: Messages) -> str | Failure:
        return Failure(500) if "break" in messages[-1]["content"] else "42"

    stub.answer = answer
    breaking = ASK.replace("input=problem", "input='break'")
    rewards, metrics = await call(WorkflowReward(scorer), MATH, ASK, breaking)
    assert rewards == [1.0, None]
    assert metrics["workflow/infra_error"] == 0.5
    assert metrics["reward/tier_5"] == 1.0


async def test_a_refused_key_ends_the_run_instead_of_teaching(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(401)
    with pytest.raises(FatalExecutorError):
        await call(WorkflowReward(scorer), MATH, ASK, ASK)


async def test_records_hold_neither_gold_answer_nor_hidden_tests(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "def f(x):\n    return x + 1"
    workflow = (
        "async def workflow(problem, entry_point):\n"
        "    code = await custom_code_generate(problem=problem, entry_point=entry_point)\n"
        "    return (await test(problem=problem, solution=code['response'], entry_point=entry_point))['solution']"
    )
    rollout = await scorer.score(workflow, CODE)
    assert rollout.reward == 1.0
    for text in (json.dumps(rollout.to_row()), json.dumps(stub.requests)):
        assert "candidate(5)" not in text


async def test_what_a_revision_gained_is_graded(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "<solution>42</solution>"
    text = (
        "async def workflow(problem):\n"
        "    return (await revise(problem=problem, solution='{}', feedback='no'))['solution']"
    )
    helped = await scorer.with_revise_gain(await scorer.score(text.format("1000"), MATH))
    vain = await scorer.with_revise_gain(await scorer.score(text.format("42"), MATH))
    none = await scorer.with_revise_gain(await scorer.score(ASK, MATH))
    assert (helped.revise_gain, vain.revise_gain, none.revise_gain) == (0.9, 0.3, 0.5)


async def test_a_long_draft_is_graded_whole(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    filling = "\n".join(f"def helper_{i}(x):\n    return [{i}, x]" for i in range(200))
    wrong, right = (f"{filling}\n\ndef f(x):\n    return x + {n}" for n in (2, 1))
    assert len(right) > 4_000  # what a trace keeps
    stub.answer = lambda messages: right if "Draft" not in messages[-1]["content"] else wrong
    text = (
        "async def workflow(problem, entry_point):\n"
        "    draft = await custom(input='Draft')\n"
        "    return (await revise(problem=problem, solution=draft['response'], feedback='no'))['solution']"
    )
    rollout = await scorer.score(text, CODE)
    assert rollout.reward == 1.0
    assert (await scorer.with_revise_gain(rollout)).revise_gain == pytest.approx(0.5 + 0.5 * 0.8)
    assert "improved" not in rollout.to_row()["trace"]["calls"][-1]


async def test_features_tell_what_was_called(scorer: RolloutScorer) -> None:
    features = (await scorer.score("[Custom, Custom] -> ScEnsemble -> Format", MATH)).features()
    assert (features.ending, features.operators_used, features.operators_available) == ("ok", 3, 8)
    assert features.tokens > 0
    assert (await scorer.score("garbage", MATH)).features().ending == "invalid"


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("text", "text"),
        ([{"role": "assistant", "content": "text"}], "text"),
        ([{"role": "user", "content": "no"}, {"role": "assistant", "content": "text"}], "text"),
        ([], ""),
        ([{"role": "assistant"}], ""),
        ([{"role": "assistant", "content": None}], ""),
    ],
)
def test_completions_come_in_either_form(completion: object, text: str) -> None:
    assert completion_text(completion) == text


def test_no_rollouts_no_metrics() -> None:
    assert stage_metrics([]) == {}


# Evaluation


async def test_every_baseline_is_valid_where_its_operator_fits(scorer: RolloutScorer) -> None:
    rollouts = await asyncio.gather(*(scorer.score(text, CODE) for text in FIXED_BASELINES.values()))
    assert [rollout.invalid for rollout in rollouts] == [None] * len(FIXED_BASELINES)
    assert len(FIXED_BASELINES) == 12


@pytest.mark.parametrize("name", PUBLISHED_BASELINES)
async def test_published_baselines_are_valid_on_every_kind_of_problem(name: str, scorer: RolloutScorer) -> None:
    program = dataclasses.replace(CODE, entry_point=None)
    for problem in (MATH, QA, CODE, program):
        text = published_baseline(name, problem.domain, problem.entry_point is not None)
        rollout = await scorer.score(text, problem)
        assert (rollout.invalid, rollout.ending) == (None, "ok"), (problem.domain, rollout.trace)


async def test_a_repeat_has_samples_of_its_own(scorer: RolloutScorer, stub: StubEndpoint) -> None:
    for repeat in (0, 0, 1, 2, 1):
        await scorer.score(ASK, MATH, repeat=repeat)
    assert len(stub.requests) == 3


# The benchmarks' own metrics


def answered(problem: Problem, grade: Grade) -> dict[str, float]:
    return benchmark_metrics(Rollout(problem, "", grade=grade))


def test_metrics_are_the_benchmarks_own() -> None:
    right, wrong = Grade(5, True, "5", ""), Grade(3, False, "6", "")
    assert answered(MATH, right) == {"accuracy": 1.0}
    assert answered(MATH, wrong) == {"accuracy": 0.0}
    assert answered(CODE, right) == {"pass": 1.0}
    assert benchmark_metrics(Rollout(MATH, "", infra_error="down")) == {}


@given(st.text(max_size=30), st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_question_answering_scores_the_best_gold_answer(answer: str, golds: list[str]) -> None:
    problem = dataclasses.replace(QA, answer=golds[0], aliases=tuple(golds[1:]))
    grade = grade_qa(answer, problem)
    metrics = answered(problem, grade)
    assert 0 <= metrics["em"] <= metrics["f1"] <= 1
    if grade.tier > 1 and grade.extracted is not None:
        scores = [squad_scores(grade.extracted, gold) for gold in golds if gold]
        assert metrics["f1"] >= max((score for _, score in scores), default=0.0) - 1e-9


def test_an_unanswerable_question_is_right_when_the_answer_says_so() -> None:
    silent = dataclasses.replace(QA, answer="")
    assert answered(silent, grade_qa("unanswerable", silent)) == {"em": 1.0, "f1": 1.0}
    assert answered(silent, grade_qa("Oslo", silent)) == {"em": 0.0, "f1": 0.0}


def test_a_capped_answer_scores_nothing() -> None:
    capped = Grade(2, False, QA.answer, "exact match; the workflow called no operator", capped=True)
    titled = Grade(4, False, "Ada, capped", "F1 0.50, of an answer that says capped")
    assert answered(QA, titled)["f1"] > 0
    assert answered(QA, capped) == {"em": 0.0, "f1": 0.0}


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    samples = [True] * correct + [False] * (n - correct)
    subsets = [any(chosen) for chosen in itertools.combinations(samples, k)]
    assert pass_at_k(n, correct, k) == pytest.approx(sum(subsets) / len(subsets))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_bootstrap_interval_holds_the_mean(values: list[float]) -> None:
    mean, low, high = bootstrap_mean(values, seed=0, resamples=400)
    assert mean == pytest.approx(fmean(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert low <= mean + 1e-9 and mean <= high + 1e-9


async def test_a_summary_counts_problems_not_samples(scorer: RolloutScorer) -> None:
    rows = [(await scorer.score(text, MATH)).to_row() for text in (ASK, "nonsense", ASK, ASK)]
    rows.append((await scorer.score("nonsense", CODE)).to_row())
    summary = summarize_rows(rows)
    assert summary["n"] == 2
    assert summary["by_domain"]["math"] == {"n": 1, "reward": 0.75, "correct": 0.75, "valid": 0.75}
    assert summary["outcomes"] == {"ok": 3, "policy_error": 2, "timeout": 0, "infra_error": 0}
    assert summary["pass_at_k"] == {"1": 0.375}
    assert summary["tokens"] > 0


def test_nothing_graded_is_no_zero() -> None:
    assert summarize_rows([])["reward"] is None


def test_pass_at_k_is_the_unbiased_estimate() -> None:
    assert pass_at_k(4, 1, 1) == pytest.approx(0.25)
    assert pass_at_k(4, 1, 4) == 1.0
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)
    with pytest.raises(ValueError):
        pass_at_k(2, 1, 3)


def test_the_bootstrap_interval_is_paired() -> None:
    before = [0.0, 1.0] * 30
    gain, low, high = paired_bootstrap(before, [value + 0.1 for value in before], seed=0)
    assert gain == pytest.approx(0.1)
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
    _, low, high = paired_bootstrap(before, before[::-1], seed=0)
    assert low < 0 < high
