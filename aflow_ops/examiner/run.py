"""Runs tests against a solution in the sandbox, and reads what the program there reports (`harness.py`)."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from aflow_ops.sandbox import Program, RunProgram
from aflow_ops.sandbox.joined import joined
from aflow_ops.sandbox.warm import HEAVY_MODULES

# HumanEval's own limit, for each test instead of for all of them.
TEST_SECONDS = 3.0
# LiveCodeBench's and DeepCoder's for a test of theirs (https://github.com/LiveCodeBench/LiveCodeBench).
JUDGED_TEST_SECONDS = 6.0
# A solution that passes takes the time that it needs; one that does not is graded by what it passed in time.
TOTAL_SECONDS = 180.0
TOTAL_SECONDS_ONCE_FAILED = 30.0
# Once a test has timed out the solution is not right, and further hangs should not cost as much.
AFTER_HANG_SECONDS = 1.0

# In the order in which they stand in the program: each uses only what is above it.
HARNESS_FILES = ("wire", "operators", "compare", "names", "worker", "stand_ins", "harness")


@dataclass(frozen=True)
class SolutionReport:
    """How a solution did.

    Args:
        parses (`bool`): it is Python.
        defines (`bool`): it has the entry point, or something that must be meant by it.
        loads (`bool`): it did when a test first wanted it.
        passed (`tuple[bool, ...]`): one for each test that was run, in order.
        error (`str`, *optional*): why the first failing test failed.
        hung (`bool`): that one ran out of time.
        lost (`bool`): twice a sandbox worker did not outlive it.
        note (`str`, *optional*): what was taken for the entry point; of a solution that does not parse, why.
    """

    parses: bool = True
    defines: bool = True
    loads: bool = True
    passed: tuple[bool, ...] = ()
    error: str | None = None
    hung: bool = False
    note: str | None = None
    lost: bool = False


async def run_tests(
    solution: str,
    entry_point: str | None,
    tests: Sequence[str],
    run: RunProgram,
    *,
    given: str = "",
    seconds: float | None = None,
    total: float = TOTAL_SECONDS,
    until_failure: bool = False,
) -> SolutionReport:
    """Run tests against a solution, each for a few seconds at most.

    A test that makes the solution hang or crash costs itself only: the rest goes to a fresh worker. What passed before
    the time for all of them ran out has passed.

    Args:
        solution (`str`): Python.
        entry_point (`str`, *optional*): the function that tests call; `None` for a program that reads and prints.
        tests (`Sequence[str]`): Python snippets, see `data.problem.Problem`.
        run (`RunProgram`): the sandbox where both run, apart from each other.
        given (`str`): Python that the question gives away; tests see what it defines, not what the solution does.
        seconds (`float`, *optional*): for one test; by default HumanEval's limit, or DeepCoder's for its forms.
        total (`float`): seconds for all of them.
        until_failure (`bool`): stop at the first that fails, and say what the solution returned there.

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
        "explain": until_failure,
    }
    once_failed = 0.0 if until_failure else min(total, TOTAL_SECONDS_ONCE_FAILED)
    job["usual_imports"] = any(test.startswith("check_result(") for test in tests)
    start = time.monotonic()
    report = SolutionReport()
    while len(report.passed) < len(tests):
        spent = time.monotonic() - start
        job["after_failure"] = once_failed - spent
        job["total"] = (total if all(report.passed) else once_failed) - spent
        if job["total"] <= 0:
            break
        if report.hung:
            job["seconds"] = min(seconds, AFTER_HANG_SECONDS)
        part = await _run_some(job, given, tests[len(report.passed) :], run)
        first = part if report.error is None else report
        report = replace(part, passed=(*report.passed, *part.passed), error=first.error, hung=first.hung)
        if report.lost or not part.passed:
            break
    return report


async def _run_some(job: dict[str, Any], given: str, tests: Sequence[str], run: RunProgram) -> SolutionReport:
    """Run tests in one worker, up to the first that it does not survive."""
    limit = (
        job["total"] + min(job["seconds"], job["total"]) + 2.0
    )  # the harness keeps the time; this is for a harness that cannot
    stdin = _block(job) + _block({"given": given, "tests": list(tests)})
    # Not the harness's own names: it speaks of numpy, and hardly any solution needs it.
    modules = [name for name in HEAVY_MODULES if re.search(rf"\b{name}\b", stdin)]
    result = await run(_harness(), timeout=limit, stdin=stdin, modules=modules)
    if result.error == "lost":
        return SolutionReport(error="a sandbox worker was lost twice", passed=(False,), lost=True)
    lines = result.stdout.split("\n")
    lost = result.error in ("timeout", "killed", "memory", "output")
    try:
        report = SolutionReport(**json.loads(lines[0]))
    except ValueError:
        # The sandbox did not fail, or it would have raised: whatever kept the report away, the solution caused it.
        return SolutionReport(passed=(False,), error=f"no report: {result.error}")
    verdicts = [line for line in lines[1:-1] if line[:1] in ("+", "-")][: len(tests)]
    failure: dict[str, Any] = next((json.loads(line[1:]) for line in verdicts if len(line) > 1), {})
    error, loads, hung = failure.get("error"), failure.get("loads", True), failure.get("hung", False)
    passed = [line == "+" for line in verdicts]
    if lost and len(passed) < len(tests):  # the one that was running
        passed, error = [*passed, False], error or f"a test ended the harness: {result.error}"
    return replace(report, loads=loads, passed=tuple(passed), error=error, hung=hung)


def _block(value: object) -> str:
    text = json.dumps(value)  # ASCII, so that characters are bytes
    return f"{len(text):08d}{text}"


@cache
def _harness() -> Program:
    """The program that runs in the sandbox: its files in one, since none of ours can be imported there."""
    code = compile(joined(Path(__file__).parent, HARNESS_FILES), "<harness>", "exec", dont_inherit=True)
    return Program(code, forks=True)
