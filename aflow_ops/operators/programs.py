"""The programs that Programmer and Test run in the sandbox.

What Programmer's program says is the word of the code that the executor wrote, and nothing more than that is made of
it: `solve()` reports through lines that start with a marker. The marker hashes the code, so the code cannot print it by
accident, and what it prints besides is told apart from what it returns.

Test's verdict is not for the tested code to give: its tests run in the examiner (`aflow_ops/examiner`), in another
process than the code, which holds no descriptor on which a verdict travels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from aflow_ops.examiner import run_tests
from aflow_ops.operators.parsing import function_names
from aflow_ops.sandbox import RunProgram, SandboxResult

MAX_OUTPUT_CHARS = 10_000
# Where there are no public tests: that the code loads and has the function.
_NAMES_IT = "candidate"

_SOLVE = """\
namespace = {"__name__": NAME}
exec(compile(CODE, "<solution>", "exec"), namespace)
value = namespace["solve"]() if callable(namespace.get("solve")) else None
if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
    value = int(value)
if value is not None:
    print("\\n" + MARKER + str(value), flush=True)
"""


@dataclass(frozen=True)
class Program:
    """One sandbox program and the marker of its report lines."""

    code: str
    marker: str

    def reports(self, result: SandboxResult) -> list[str]:
        """Return the reports, in order, without their marker; the last one reaches to the end of the output."""
        return [part.strip() for part in result.stdout.split(self.marker)[1:]]


@dataclass(frozen=True)
class TestReport:
    """How a solution did on its public tests.

    Args:
        passed (`bool`): every test passed, or there was none and the code loads.
        count (`int`): tests passed before the first that failed; -1 when the code does not load.
        failure (`str`): the test that failed and its error; empty when `passed`.
    """

    passed: bool
    count: int
    failure: str


def solve_program(code: str) -> Program:
    """Return a program that calls `solve()` of the code and reports its value as text."""
    name = "solution" if "solve" in function_names(code) else "__main__"
    literals = {"NAME": name, "CODE": code}
    marker = "@" + hashlib.sha256(repr(sorted(literals.items())).encode("utf-8", "replace")).hexdigest()[:20] + ":"
    lines = [f"{name} = {value!r}" for name, value in (literals | {"MARKER": marker}).items()]
    return Program("\n".join([*lines, _SOLVE]), marker)


def solve_output(program: Program, result: SandboxResult) -> str:
    """Return what `solve()` returned, or else what the code printed; empty when it failed or said nothing."""
    if not result.ok:
        return ""
    reports = program.reports(result)
    return (reports[-1] if reports else result.stdout.strip())[:MAX_OUTPUT_CHARS]


async def run_public_tests(
    code: str, entry_point: str, tests: Sequence[str], run: RunProgram, *, seconds: float
) -> TestReport:
    """Run public tests on a solution, one after the other, up to the first that fails.

    Args:
        code (`str`): Python.
        entry_point (`str`): the function that the tests call.
        tests (`Sequence[str]`): Python snippets.
        run (`RunProgram`): the sandbox.
        seconds (`float`): for all of them.

    Raises:
        SandboxError: the sandbox failed; says nothing about the solution.
    """
    tests = list(tests) or [_NAMES_IT]
    report = await run_tests(code, entry_point, tests, run, seconds=seconds, total=seconds, until_failure=True)
    if not report.parses:
        return _unloadable(report.note)
    if not report.defines:
        return _unloadable(f"NameError: the function {entry_point} is not defined")
    if not report.loads:
        return _unloadable(report.error)
    count = report.passed.index(False) if False in report.passed else len(report.passed)
    if count == len(tests):
        return TestReport(True, count, "")
    return TestReport(False, count, f"{tests[count]}\n{report.error or 'the time is up'}")


def _unloadable(error: str | None) -> TestReport:
    return TestReport(False, -1, f"The code does not load.\n{error}")
