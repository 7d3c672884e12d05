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
from itertools import product
from pathlib import Path
from types import CodeType
from typing import Any

from aflow_ops.operators.parsing import extract_code, function_names
from aflow_ops.sandbox import Sandbox
from aflow_ops.sandbox.warm import HEAVY_MODULES
from data.problem import Problem
from rewards.tiers import Grade, Tier

# HumanEval's own limit, for each test instead of for all of them.
TEST_SECONDS = 3.0
# LiveCodeBench's and DeepCoder's for a test of theirs (https://github.com/LiveCodeBench/LiveCodeBench).
JUDGED_TEST_SECONDS = 6.0
# A solution that passes takes the time that it needs; one that does not is graded by what it passed in time.
TOTAL_SECONDS = 180.0
TOTAL_SECONDS_ONCE_FAILED = 30.0
# Once a test has timed out the solution is not right, and further hangs should not cost as much.
AFTER_HANG_SECONDS = 1.0
MAX_ANSWER_CHARS = 50_000
MAX_PROSE_PARAGRAPHS = 4  # on each side of a program without a fence

# In the order in which they stand in the program: each uses only what is above it.
HARNESS_FILES = (
    *("code_wire", "code_operators", "code_compare", "code_names", "code_worker", "code_stand_ins", "code_harness"),
)

_FENCE = re.compile(r"(```|~~~)([^\n`]*)\n(.*?)(?:\1|\Z)", re.DOTALL)
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
    given = given_code(problem.question, problem.entry_point)
    report = await run_tests(solution, problem.entry_point, problem.tests, sandbox, given=given)
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
    fences = [(info.strip().lower(), block) for _, info, block in _FENCE.findall(answer) if block.strip()]
    blocks = [block for _, block in fences]
    last = [block for info, block in fences if info.startswith(_PYTHON)][-1:] or blocks[-1:]
    if not fences and not _parses(answer):
        answer = _code_in_prose(answer, entry_point)
    if entry_point is None:
        return (last or [answer])[0].strip("\n") or None
    head = _head(entry_point)
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


def _code_in_prose(answer: str, entry_point: str | None) -> str:
    """The code that stands unmarked in an answer, if it has what is asked for; else the answer."""
    if entry_point is None:
        return _program_in_prose(answer)
    code = extract_code(answer, entry_point)
    return code if entry_point in function_names(code) else answer


def _program_in_prose(answer: str) -> str:
    """What is left of an answer without some paragraphs before and behind it, if that is a program; else the answer."""
    paragraphs = re.split(r"\n[ \t]*\n", answer)
    dropped = sorted(product(range(MAX_PROSE_PARAGRAPHS + 1), repeat=2), key=sum)
    for before, behind in dropped:
        code = "\n\n".join(paragraphs[before : len(paragraphs) - behind])
        if "(" in code and _parses(code):
            return code
    return answer


def given_code(question: str, entry_point: str | None) -> str:
    """Return what the question gives away for its tests and solutions to use: the code above the signature.

    Args:
        question (`str`): the task.
        entry_point (`str`, *optional*): name of the function to write.
    """
    signature = _head(entry_point).search(question) if entry_point else None
    return _preamble(question, signature.start()) if signature else ""


def _head(entry_point: str) -> re.Pattern[str]:
    return re.compile(rf"^[^\S\n]*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point)}\b", re.MULTILINE)


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
        passed (`tuple[bool, ...]`): one for each test that was run, in order.
        error (`str`, *optional*): why the first failing test failed.
        note (`str`, *optional*): what was taken for the entry point.
    """

    parses: bool = True
    defines: bool = True
    passed: tuple[bool, ...] = ()
    error: str | None = None
    note: str | None = None


async def run_tests(
    solution: str,
    entry_point: str | None,
    tests: Sequence[str],
    sandbox: Sandbox,
    *,
    given: str = "",
    seconds: float | None = None,
) -> SolutionReport:
    """Run tests against a solution, each for a few seconds at most.

    A test that makes the solution hang or crash costs itself only: the rest goes to a fresh worker. What passed before
    the time for all of them ran out has passed.

    Args:
        solution (`str`): Python.
        entry_point (`str`, *optional*): the function that tests call; `None` for a program that reads and prints.
        tests (`Sequence[str]`): Python snippets, see `data.problem.Problem`.
        sandbox (`Sandbox`): where both run, apart from each other.
        given (`str`): Python that the question gives away; tests see what it defines, not what the solution does.
        seconds (`float`, *optional*): for one test; by default HumanEval's limit, or DeepCoder's for its forms.

    Raises:
        SandboxError: the sandbox failed; says nothing about the solution.
    """
    judged = any(test.startswith(("check_output(", "check_result(")) for test in tests)
    seconds = seconds or (JUDGED_TEST_SECONDS if judged else TEST_SECONDS)
    job: dict[str, Any] = {
        "solution": solution,
        "entry_point": entry_point,
        "seconds": seconds,
        "after_hang": AFTER_HANG_SECONDS,
    }
    job["usual_imports"] = any(test.startswith("check_result(") for test in tests)
    start = time.monotonic()
    report = SolutionReport()
    while len(report.passed) < len(tests):
        spent = time.monotonic() - start
        job["after_failure"] = TOTAL_SECONDS_ONCE_FAILED - spent
        job["total"] = (TOTAL_SECONDS if all(report.passed) else TOTAL_SECONDS_ONCE_FAILED) - spent
        if job["total"] <= 0:
            break
        if report.error is not None and "timed out" in report.error:
            job["seconds"] = min(seconds, AFTER_HANG_SECONDS)
        part = await _run_some(job, given, tests[len(report.passed) :], sandbox)
        report = replace(part, passed=(*report.passed, *part.passed), error=report.error or part.error)
        if not part.passed:
            break
    return report


async def _run_some(job: dict[str, Any], given: str, tests: Sequence[str], sandbox: Sandbox) -> SolutionReport:
    """Run tests in one worker, up to the first that it does not survive."""
    limit = job["total"] + job["seconds"] + 2.0  # the harness keeps the time; this is for a harness that cannot
    stdin = _block(job) + _block({"given": given, "tests": list(tests)})
    # Not the harness's own names: it speaks of numpy, and hardly any solution needs it.
    modules = [name for name in HEAVY_MODULES if re.search(rf"\b{name}\b", stdin)]
    result = await sandbox.run(_harness(), timeout=limit, stdin=stdin, modules=modules, forks=True)
    lines = result.stdout.split("\n")
    lost = result.error in ("timeout", "killed", "memory", "output")
    try:
        report = SolutionReport(**json.loads(lines[0]))
    except ValueError:
        # The sandbox did not fail, or it would have raised: whatever kept the report away, the solution caused it.
        return SolutionReport(passed=(False,), error=f"no report: {result.error}")
    verdicts = [line for line in lines[1:-1] if line[:1] in ("+", "-")][: len(tests)]
    error = next((json.loads(line[1:]) for line in verdicts if len(line) > 1), None)
    passed = [line == "+" for line in verdicts]
    if lost and len(passed) < len(tests):  # the one that was running
        passed, error = [*passed, False], error or f"a test ended the harness: {result.error}"
    return replace(report, passed=tuple(passed), error=error)


def _block(value: object) -> str:
    text = json.dumps(value)  # ASCII, so that characters are bytes
    return f"{len(text):08d}{text}"


@cache
def _harness() -> CodeType:
    """The program that runs in the sandbox: its files in one, since none of ours can be imported there."""
    body: list[ast.stmt] = []
    for name in HARNESS_FILES:
        path = Path(__file__).with_name(f"{name}.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(__package__)):
                body.append(node)
    # Without docstrings, which every run would read.
    return compile(ast.Module(body, type_ignores=[]), "<harness>", "exec", optimize=2)
