"""Evaluation: fixed workflows to compare with, and what graded rows add up to."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rewards.statistics import pass_at_k

Row = Mapping[str, Any]

# The least workflow around each operator, and two composite ones. Operators that need a draft get one from Custom.
# Where an operator does not fit the domain its workflow is invalid there and scores 0, as the policy's would.
FIXED_BASELINES: dict[str, str] = {
    "Custom": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    return draft["response"]""",
    "AnswerGenerate": """\
async def workflow(problem):
    result = await answer_generate(input=problem)
    return result["answer"]""",
    "CustomCodeGenerate": """\
async def workflow(problem, entry_point):
    code = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="")
    return code["response"]""",
    "Programmer": """\
async def workflow(problem):
    result = await programmer(problem=problem)
    return result["output"]""",
    "Test": """\
async def workflow(problem, entry_point):
    draft = await custom(input=problem, instruction="")
    tested = await test(problem=problem, solution=draft["response"], entry_point=entry_point)
    return tested["solution"]""",
    "Review": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    check = await review(problem=problem, solution=draft["response"])
    return draft["response"] if check["review_result"] else check["feedback"]""",
    "Revise": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    better = await revise(problem=problem, solution=draft["response"], feedback="Check every step.")
    return better["solution"]""",
    "ScEnsemble": """\
async def workflow(problem):
    drafts = [(await custom(input=problem, instruction=""))["response"] for _ in range(3)]
    best = await sc_ensemble(solutions=drafts, problem=problem)
    return best["response"]""",
    "MdEnsemble": """\
async def workflow(problem):
    drafts = [(await custom(input=problem, instruction=""))["response"] for _ in range(3)]
    best = await md_ensemble(solutions=drafts, problem=problem)
    return best["solution"]""",
    "Format": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    answer = await format(problem=problem, solution=draft["response"])
    return answer["solution"]""",
    "Programmer + AnswerGenerate -> ScEnsemble": """\
async def workflow(problem):
    computed = await programmer(problem=problem)
    answered = await answer_generate(input=problem)
    best = await sc_ensemble(solutions=[computed["output"], answered["answer"]], problem=problem)
    return best["response"]""",
    "AnswerGenerate -> Review -> Revise": """\
async def workflow(problem):
    draft = await answer_generate(input=problem)
    check = await review(problem=problem, solution=draft["answer"])
    better = await revise(problem=problem, solution=draft["answer"], feedback=check["feedback"])
    return better["solution"]""",
}


def summarize_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Add up graded rows (`Rollout.to_row()`), with the keys of `scripts/evaluate.py`'s `summary.json`.

    Means are over graded rows: an infrastructure error is nobody's wrong answer, and is counted in `outcomes`.

    Returns:
        `dict`: `n`, `reward`, `correct`, `valid`, `by_domain`, `outcomes`, `pass_at_k`, `cost_usd`, `tokens`; the
        means are `None` when nothing was graded.
    """
    domains = sorted({row["domain"] for row in rows})
    outcomes = Counter(row["outcome"] for row in rows)
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    return {
        **_means(rows),
        "by_domain": {domain: _means([row for row in rows if row["domain"] == domain]) for domain in domains},
        "outcomes": {name: outcomes[name] for name in ("ok", "policy_error", "timeout", "infra_error")},
        "pass_at_k": _pass_at_k(rows),
        "cost_usd": sum(trace["cost_usd"] for trace in traces),
        "tokens": sum(trace["prompt_tokens"] + trace["completion_tokens"] for trace in traces),
    }


def _means(rows: Sequence[Row]) -> dict[str, Any]:
    graded = [row for row in rows if row["reward"] is not None]
    return {
        "n": len({_key(row) for row in rows}),
        "reward": _mean(row["reward"] for row in graded),
        "correct": _mean(float(row["correct"]) for row in graded),
        "valid": _mean(float(row["workflow"] is not None) for row in rows),
    }


def _pass_at_k(rows: Sequence[Row]) -> dict[str, float]:
    """pass@k for k = 1, 2, 4, ... up to the smallest number of graded samples that a problem has."""
    problems: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        if row["reward"] is not None:
            problems.setdefault(_key(row), []).append(bool(row["correct"]))
    fewest = min((len(samples) for samples in problems.values()), default=0)
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= fewest]
    return {str(k): fmean(pass_at_k(len(s), sum(s), k) for s in problems.values()) for k in ks}


def _key(row: Row) -> tuple[str, str]:
    return row["source"], row["id"]


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return fmean(numbers) if numbers else None
