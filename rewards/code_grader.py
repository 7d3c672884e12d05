"""Code: the share of hidden tests that a solution passes.

Example: entry point `add`, tests `["assert candidate(1, 2) == 3", "assert candidate(0, 0) == 0"]`, and the answer

    def add(a, b):
        return a + b

The rule is that of HumanEval (https://arxiv.org/abs/2107.03374): right means that every test passes. The tests run in
the sandbox, apart from the solution (`rewards/code_harness.py`).
"""

import json
import re
from functools import cache
from pathlib import Path

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.tiers import Grade, Tier

TEST_SECONDS = 3.0
TOTAL_SECONDS = 30.0
# Workers forked ahead: how often a solution may hang or crash before its remaining tests count as failed.
SPARE_WORKERS = 4
MAX_ANSWER_CHARS = 50_000

_FENCE = re.compile(r"```[^\S\n]*[\w+-]*[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


async def grade_code(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade a solution by its share of passed hidden tests.

    Args:
        answer (`str`): Python, possibly in a fence with prose around it, or the body that completes the question.
        problem (`Problem`): with `entry_point` and hidden `tests`.
        sandbox (`Sandbox`): where everything runs.

    Raises:
        SandboxError: the sandbox failed; says nothing about the answer.
        ValueError: the problem has no entry point or no hidden tests.
    """
    if not problem.entry_point or not problem.tests:
        raise ValueError(f"problem {problem.id}: code problems need entry_point and tests")
    if len(answer) > MAX_ANSWER_CHARS or "\x00" in answer:
        return Grade(1, False, None, "too long, or not text")
    solution = extract_solution(answer, problem.entry_point, problem.question)
    if solution is None:
        return Grade(1, False, None, "no code")
    report = await _run_tests(solution, problem.entry_point, problem.tests, sandbox)
    if not report["defines"]:
        reason = f"does not define {problem.entry_point}" if report["parses"] else "does not parse"
        return Grade(1, False, solution, reason)
    passed, total = sum(report["passed"]), len(problem.tests)
    failed = next((error for error in report["errors"] if error), None)
    detail = f"{passed} of {total} hidden tests" + (f"; first failure: {failed}" if failed else "")
    return Grade(code_tier(passed, total), passed == total, solution, detail)


def code_tier(passed: int, total: int) -> Tier:
    """Return the tier of a solution that parses and defines the entry point.

    Args:
        passed (`int`): tests passed, 0 to `total`.
        total (`int`): tests, at least 1.
    """
    share = passed / total
    if passed == total:
        return 5
    return 4 if share >= 0.8 else 3 if share >= 0.5 else 2


def extract_solution(answer: str, entry_point: str, question: str) -> str | None:
    """Find the code in an answer.

    The fence that defines the entry point counts, else the first fence, else the whole text. A body without `def`
    completes the question's own signature, and the question's imports stand above a function that lacks them.

    Returns:
        `str` or `None` when there is nothing but space.
    """
    blocks = [block for block in _FENCE.findall(answer) if block.strip()]
    defining = [block for block in blocks if f"def {entry_point}" in block]
    code = (defining or blocks or [answer])[0].strip("\n")
    if not code.strip():
        return None
    if f"def {entry_point}" not in code and f"def {entry_point}" in question and code.startswith((" ", "\t")):
        return f"{question.rstrip()}\n{code}\n"
    imports = [line for line in question.splitlines() if re.match(r"(?:from|import)\s+\w", line)]
    return "\n".join([*imports, code])


async def _run_tests(
    solution: str, entry_point: str, tests: tuple[str, ...], sandbox: Sandbox
) -> dict[str, list[bool]]:
    job = {"solution": solution, "entry_point": entry_point, "spares": SPARE_WORKERS, "timeout": TEST_SECONDS}
    result = await sandbox.run(_harness(), timeout=TOTAL_SECONDS, stdin=_block(job) + _block(tests))
    try:
        report: dict[str, list[bool]] = json.loads(result.stdout)
    except ValueError:
        if result.error in ("timeout", "killed", "memory"):
            # The tests' side was taken down with the solution: out of memory or time as a whole.
            return {"parses": [True], "defines": [True], "passed": [], "errors": []}
        raise SandboxError(f"the test harness failed: {result.error}") from None
    return report


def _block(value: object) -> str:
    text = json.dumps(value)  # ASCII, so that characters are bytes
    return f"{len(text):08d}{text}"


@cache
def _harness() -> str:
    return Path(__file__).with_name("code_harness.py").read_text(encoding="utf-8")
