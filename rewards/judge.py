"""An LLM judge for answers that the rules call unequal although they may mean the same.

It can only raise a grade to tier 5 or leave it as it is. It is asked where a rule compared words or notations (`Mr
Darcy` and `Fitzwilliam Darcy`), never where a rule is sure: two numbers that differ, several options, a pasted context.
Code is judged by its tests; `judge_domains` can say otherwise and should not: a judge is easier to talk to than a test.

What comes from the problem and from the workflow reaches the judge as one JSON object, in which no line can end the
fence around it.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from aflow_ops.executor.types import Executor, Message
from data.problem import DOMAINS, Domain, Problem
from rewards.domains import domain_rewards, judged_domains
from rewards.tiers import Grade

MAX_QUESTION_CHARS = 6_000
_VERDICT = re.compile(r"\W*(EQUAL|DIFFERENT)\W*", re.IGNORECASE)
_SAME_PROMPT = {"gsm_symbolic": "gsm8k", "aime": "math", "aime24": "math", "deepscaler": "math", "mbpp": "humaneval"}


@dataclass(frozen=True)
class JudgeConfig:
    """When the judge is asked.

    Args:
        enabled (`bool`): whether there is one.
        domains (`tuple[str, ...]`): domains whose answers it sees.
        audit (`float`): share in [0, 1] of the answers that the rules call equal on which it is asked too, to measure
            how often it agrees; its word changes nothing there.

    Raises:
        ValueError: an unknown domain, or `audit` is out of range.
    """

    enabled: bool = False
    domains: tuple[Domain, ...] = field(default_factory=judged_domains)
    audit: float = 0.05

    def __post_init__(self) -> None:
        unknown = [domain for domain in self.domains if domain not in DOMAINS]
        if unknown:
            raise ValueError(f"judge_domains: {unknown[0]!r} is not one of {', '.join(DOMAINS)}")
        if not 0 <= self.audit <= 1:
            raise ValueError(f"judge_audit={self.audit} must be between 0 and 1")


@dataclass
class JudgeCounts:
    """What the judge said so far.

    Args:
        asked, raised (`int`): answers that the rules call unequal: seen, and called equal.
        audited, confirmed (`int`): answers that the rules call equal: seen, and called equal.
        unreadable (`int`): replies that are neither verdict; they change nothing.
    """

    asked: int = 0
    raised: int = 0
    audited: int = 0
    confirmed: int = 0
    unreadable: int = 0

    def metrics(self) -> dict[str, float]:
        """Return values to log; `judge/agreement` is the share of all verdicts that the rules share."""
        seen = self.asked + self.audited
        if not seen:
            return {}
        agreed = self.asked - self.raised + self.confirmed
        return {
            "judge/asked": float(self.asked),
            "judge/raised": float(self.raised),
            "judge/agreement": agreed / seen,
            "judge/unreadable": self.unreadable / seen,
        }


@dataclass
class Judge:
    """Asks an executor whether an answer means the gold one.

    Args:
        executor (`Executor`): the LLM; its cache, limits and budget hold for the judge too.
        config (`JudgeConfig`): when to ask.
    """

    executor: Executor
    config: JudgeConfig
    counts: JudgeCounts = field(default_factory=JudgeCounts)

    async def review(self, grade: Grade, problem: Problem) -> Grade:
        """Return the grade, or tier 5 where the judge finds the answers equal.

        Raises:
            ExecutorError: no reply; the answer has no grade, for the judge might have raised it.
        """
        if problem.domain not in self.config.domains or grade.extracted is None:
            return grade
        if len(grade.extracted) > domain_rewards(problem.domain).judge_chars:
            return grade
        if grade.correct:
            await self._audit(grade.extracted, problem)
            return grade
        if not grade.disputable:
            return grade
        verdict = await self._verdict(grade.extracted, problem)
        self.counts.asked += 1
        if verdict is not True:
            return grade
        self.counts.raised += 1
        return grade.moved_to(5, f"{grade.detail}; judged equal", correct=True)

    async def _audit(self, answer: str, problem: Problem) -> None:
        digest = hashlib.sha256(f"{problem.id}\x1f{answer}".encode("utf-8", "replace")).digest()
        if int.from_bytes(digest[:4], "big") >= self.config.audit * 2**32:
            return
        verdict = await self._verdict(answer, problem)
        self.counts.audited += 1
        self.counts.confirmed += verdict is True

    async def _verdict(self, answer: str, problem: Problem) -> bool | None:
        reply = await self.executor.complete(judge_messages(answer, problem), temperature=0.0, max_tokens=8)
        verdict = parse_verdict(reply.text)
        self.counts.unreadable += verdict is None
        return verdict


def parse_verdict(text: str) -> bool | None:
    """Read a reply: true for EQUAL, false for DIFFERENT, `None` for anything but one of the two words."""
    match = _VERDICT.fullmatch(text)
    return None if match is None else match.group(1).upper() == "EQUAL"


def judge_messages(answer: str, problem: Problem) -> list[Message]:
    """Return the chat for one comparison, with everything from outside in one fenced JSON object."""
    prompts = _prompts()
    source = problem.source.lower()
    name = source if source in prompts["sources"] else _SAME_PROMPT.get(source, "generic")
    data = {
        "question": problem.question[:MAX_QUESTION_CHARS],
        "reference_answer": _reference(problem.golds),
        "candidate_answer": answer,
    }
    # JSON has no raw line breaks, so no line of the data can be the fence.
    fenced = json.dumps(data, ensure_ascii=True)
    return [
        {"role": "system", "content": f"{prompts['rules']}\n{prompts['sources'][name]}"},
        {"role": "user", "content": f"BEGIN DATA\n{fenced}\nEND DATA"},
    ]


def _reference(golds: Sequence[str]) -> Any:
    return golds[0] if len(golds) == 1 else {"any_of": list(golds)}


@cache
def _prompts() -> dict[str, Any]:
    prompts: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("judge_prompts.yaml").read_text(encoding="utf-8"))
    return prompts
