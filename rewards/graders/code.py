"""Code: the share of hidden tests that a solution passes.

Example: entry point `add`, tests `["assert candidate(1, 2) == 3", "assert candidate(0, 0) == 0"]`, and the answer

    def add(a, b):
        return a + b

The rule is that of HumanEval (https://arxiv.org/abs/2107.03374): right means that every test passes. The tests run in
the sandbox, apart from the solution (`rewards/graders/code_harness.py`).
"""

import ast
import json
import re
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.tiers import Grade, Tier

# HumanEval's own limit, for each test instead of for all of them.
TEST_SECONDS = 3.0
TOTAL_SECONDS = 30.0
# Once a test has timed out the solution is not right, and further hangs should not cost as much.
AFTER_HANG_SECONDS = 1.0
MAX_ANSWER_CHARS = 50_000

_FENCE = re.compile(r"```([^\n`]*)\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON = ("python", "python3", "py")
_FUTURE = re.compile(r"^from\s+__future__\s+import\s.*\n?", re.MULTILINE)


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
    if not problem.tests:
        raise ValueError(f"problem {problem.id}: code problems need tests")
    if len(answer) > MAX_ANSWER_CHARS or "\x00" in answer:
        return Grade(1, False, None, "too long, or not text")
    solution = extract_solution(answer, problem.entry_point, problem.question)
    if solution is None:
        return Grade(1, False, None, "no code")
    report = await run_tests(solution, problem.entry_point, problem.tests, sandbox)
    if not report.defines:
        reason = f"does not define {problem.entry_point}" if report.parses else "does not parse"
        return Grade(1, False, solution, reason)
    passed, total = sum(report.passed), len(problem.tests)
    notes = [f"{passed} of {total} hidden tests", report.note, report.error and f"first failure: {report.error}"]
    detail = "; ".join(note for note in notes if note)
    return Grade(code_tier(passed, total), passed == total, solution, detail, disputable=passed < total)


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


def extract_solution(answer: str, entry_point: str | None, question: str) -> str | None:
    """Find the code in an answer and complete it with the question's.

    The last fence that defines the entry point counts, else the last one (of those that say Python, if any do: a sample
    of the output is often fenced too), else the whole text. A body without `def` completes the question's own
    signature. Above a whole function stands what the question has above it: imports, and functions that it gives away.

    Args:
        answer (`str`): the workflow's answer.
        entry_point (`str`, *optional*): name of the function to write; `None` for a program.
        question (`str`): the task.

    Returns:
        `str` or `None` when there is nothing but space.
    """
    fences = [(info.strip().lower(), block) for info, block in _FENCE.findall(answer) if block.strip()]
    blocks = [block for _, block in fences]
    last = [block for info, block in fences if info.startswith(_PYTHON)][-1:] or blocks[-1:]
    if entry_point is None:
        return (last or [answer])[0].strip("\n") or None
    head = re.compile(rf"^[^\S\n]*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point)}\b", re.MULTILINE)
    defining = [block for block in blocks if head.search(block)]
    code = (defining[-1:] or last or [answer])[0].strip("\n")
    if not code.strip():
        return None
    signature = head.search(question)
    if code.startswith((" ", "\t")):
        if signature is not None and head.match(code) is None:
            return f"{question.rstrip()}\n{code}\n"
        code = textwrap.dedent(code)
    preamble = _preamble(question, signature.start() if signature else 0)
    futures = "".join(_FUTURE.findall(code)) if preamble else ""  # these must stay on top
    return f"{futures}{preamble}{_FUTURE.sub('', code)}" if futures else preamble + code


def _preamble(question: str, end: int) -> str:
    """The code above the signature; of a question in prose, its import lines."""
    above = question[:end].rstrip()
    if above and _parses(above):
        return above + "\n\n"
    lines = [line for line in question.splitlines() if re.match(r"(?:from|import)\s+\w", line) and _parses(line)]
    return "".join(line + "\n" for line in lines)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@dataclass(frozen=True)
class SolutionReport:
    """How a solution did.

    Args:
        parses (`bool`): it is Python.
        defines (`bool`): it has the entry point, or something that must be meant by it.
        passed (`list[bool]`): one for each test that was run.
        error (`str`, *optional*): why the first failing test failed.
        note (`str`, *optional*): what was taken for the entry point.
    """

    parses: bool = True
    defines: bool = True
    passed: tuple[bool, ...] = ()
    error: str | None = None
    note: str | None = None


async def run_tests(
    solution: str, entry_point: str | None, tests: Sequence[str], sandbox: Sandbox, seconds: float = TEST_SECONDS
) -> SolutionReport:
    """Run tests against a solution, each for `seconds` at most and all of them for `TOTAL_SECONDS`.

    A test that makes the solution hang or crash costs itself only: the rest goes to a fresh worker.

    Args:
        solution (`str`): Python.
        entry_point (`str`, *optional*): the function that tests call; `None` for a program that reads and prints.
        tests (`Sequence[str]`): Python snippets, see `data.problem.Problem`.
        sandbox (`Sandbox`): where both run, apart from each other.

    Raises:
        SandboxError: the sandbox failed; says nothing about the solution.
    """
    job = {"solution": solution, "entry_point": entry_point, "timeout": seconds, "after_hang": AFTER_HANG_SECONDS}
    deadline = time.monotonic() + TOTAL_SECONDS
    report = SolutionReport()
    while len(report.passed) < len(tests) and (left := deadline - time.monotonic()) > 0:
        if report.error is not None and "timed out" in report.error:
            job["timeout"] = min(seconds, AFTER_HANG_SECONDS)
        part = await _run_some(job, tests[len(report.passed) :], sandbox, left)
        report = replace(part, passed=(*report.passed, *part.passed), error=report.error or part.error, note=part.note)
        if not part.passed:
            break
    return report


async def _run_some(job: dict[str, Any], tests: Sequence[str], sandbox: Sandbox, seconds: float) -> SolutionReport:
    result = await sandbox.run(_harness(), timeout=seconds, stdin=_block(job) + _block(list(tests)), forks=True)
    try:
        fields: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        # The sandbox did not fail, or it would have raised: whatever kept the report away, the solution caused it.
        return SolutionReport(error=f"all tests together: {result.error or 'no report'}")
    return SolutionReport(**{**fields, "passed": tuple(fields["passed"])})


def _block(value: object) -> str:
    text = json.dumps(value)  # ASCII, so that characters are bytes
    return f"{len(text):08d}{text}"


@cache
def _harness() -> CodeType:
    return compile(Path(__file__).with_name("code_harness.py").read_text(encoding="utf-8"), "<harness>", "exec")
