"""How the answers of each domain are graded and measured: one row a domain; `data/domains.py` lists the domains.

| domain | grader | metrics |
|---|---|---|
| math | `graders/math.py` | `accuracy` |
| qa | `graders/qa.py` | `em`, `f1` |
| code | `graders/code.py` | `pass`; its mean is pass@1 |
| swe | `graders/swe.py` | `pass` |
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aflow_ops.domains import DomainPrompt, add_domain_prompt
from aflow_ops.errors import UsageError
from aflow_ops.sandbox import Sandbox
from data.domains import DomainRow, add_domain_row
from data.problem import DOMAINS, Domain, Problem
from rewards.graders.code import extract_solution, grade_code
from rewards.graders.math import grade_math
from rewards.graders.qa import best_scores, grade_qa
from rewards.graders.swe import grade_swe
from rewards.tiers import Grade

Grader = Callable[[str, Problem, Sandbox], Awaitable[Grade]]
Metrics = Callable[[Grade, Problem], dict[str, float]]
DesignedPart = Callable[[str, Problem, Grade], str]


def _extracted(answer: str, problem: Problem, grade: Grade) -> str:
    return grade.extracted or answer


def _accuracy(grade: Grade, problem: Problem) -> dict[str, float]:
    return {"accuracy": float(grade.correct)}


@dataclass(frozen=True)
class DomainRewards:
    """How answers of a domain become grades and numbers.

    Args:
        grade (`Callable`): async; answer, problem and sandbox to a `Grade`. Never called with an empty answer.
        metrics (`Callable`): grade and problem to the benchmark's own metrics, each in [0, 1].
        designed_part (`Callable`): answer, problem and grade to the part of the answer that operators must have given.
        judged (`bool`): whether a judge sees its answers when nobody says which domains it is for.
        judge_chars (`int`): the judge sees no longer answer, for that would be a text with room for persuasion.
    """

    grade: Grader
    metrics: Metrics = _accuracy
    designed_part: DesignedPart = _extracted
    judged: bool = False
    judge_chars: int = 300


async def _grade_qa(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    return grade_qa(answer, problem)


def _qa_metrics(grade: Grade, problem: Problem) -> dict[str, float]:
    if grade.capped or grade.extracted is None:
        return {"em": 0.0, "f1": 0.0}
    exact, f1 = best_scores(grade.extracted, problem)  # by the authors' rule, where the reward is stricter too
    return {"em": float(exact), "f1": max(f1, float(exact)) if grade.correct else f1}


def _pass(grade: Grade, problem: Problem) -> dict[str, float]:
    return {"pass": float(grade.correct)}


def _own_code(answer: str, problem: Problem, grade: Grade) -> str:
    """The solution without what the question gives away."""
    return extract_solution(answer, problem.entry_point, "") or answer


DOMAIN_REWARDS: dict[Domain, DomainRewards] = {
    "math": DomainRewards(grade_math, judged=True),
    "qa": DomainRewards(_grade_qa, metrics=_qa_metrics, judged=True),
    "code": DomainRewards(grade_code, metrics=_pass, designed_part=_own_code, judge_chars=10_000),
    "swe": DomainRewards(grade_swe, metrics=_pass, judge_chars=10_000),
}


def add_domain_rewards(name: Domain, rewards: DomainRewards) -> None:
    """Say how the answers of a domain are graded.

    Raises:
        ValueError: that is known already, and different.
    """
    if DOMAIN_REWARDS.setdefault(name, rewards) != rewards:
        raise ValueError(f"there are rewards for the domain {name!r} already")


def domain_rewards(name: Domain) -> DomainRewards:
    """Return how the answers of a domain are graded.

    Raises:
        UsageError: nobody has said so; lists the domains that have a grader.
    """
    if name not in DOMAIN_REWARDS:
        known = [domain for domain in DOMAINS if domain in DOMAIN_REWARDS]
        raise UsageError(f"the domain {name!r} has no grader (rewards/domains.py); there is one for {', '.join(known)}")
    return DOMAIN_REWARDS[name]


def register_domain(
    name: Domain,
    *,
    rewards: DomainRewards,
    prompt: DomainPrompt,
    sources: tuple[str, ...] = (),
    has_tests: bool = False,
) -> None:
    """Make a domain of one's own known on every floor, in one call.

    Args:
        name (`str`): as in a row's `domain`.
        rewards (`DomainRewards`): how its answers are graded.
        prompt (`DomainPrompt`): what the policy is told of it.
        sources (`tuple[str, ...]`): names, in lower case, that put a row here when it names no domain of its own.
        has_tests (`bool`): its answers are programs, and its rows have hidden tests.

    Raises:
        ValueError: there is another domain of this name.
    """
    add_domain_row(DomainRow(name, sources, has_tests))
    add_domain_prompt(name, prompt)
    add_domain_rewards(name, rewards)


def judged_domains() -> tuple[Domain, ...]:
    """Return the domains that a judge is for when nobody says which."""
    return tuple(name for name, rewards in DOMAIN_REWARDS.items() if rewards.judged)
