"""The programs that Programmer and Test run in the sandbox: the executor's code, as a string literal, inside a harness.

The harness reports through lines that start with a marker. The marker hashes the code, so the code cannot print it by
accident, and what it prints besides is told apart from what it returns.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from aflow_ops.operators.parsing import function_names
from aflow_ops.sandbox import SandboxResult

MAX_OUTPUT_CHARS = 10_000

_SOLVE = """\
namespace = {"__name__": NAME}
exec(compile(CODE, "<solution>", "exec"), namespace)
value = namespace["solve"]() if callable(namespace.get("solve")) else None
if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
    value = int(value)
if value is not None:
    print("\\n" + MARKER + str(value), flush=True)
"""

_TEST = """\
import ast, io, sys

class Silent(io.TextIOBase):
    def write(self, text):
        return len(text)

def report(text, out=sys.stdout):
    out.write(MARKER + text + "\\n")
    out.flush()

def explain(test, scope):
    statement = ast.parse(test).body[-1]
    compared = statement.test if isinstance(statement, ast.Assert) else None
    if not (isinstance(compared, ast.Compare) and isinstance(compared.left, ast.Call)):
        return None
    value = eval(compile(ast.Expression(compared.left), "<test>", "eval"), scope)
    return ast.unparse(compared.left) + " returned " + repr(value)[:300]

sys.stdout = Silent()
namespace = {"__name__": "solution"}
exec(compile(CODE, "<solution>", "exec"), namespace)
if not callable(namespace.get(ENTRY_POINT)):
    raise NameError("the function " + ENTRY_POINT + " is not defined")
for index, test in enumerate(TESTS):
    report(str(index))
    scope = dict(namespace, candidate=namespace[ENTRY_POINT])
    try:
        exec(compile(test, "<test>", "exec"), scope)
    except AssertionError as error:
        raise AssertionError(str(error) or explain(test, scope) or "the assertion does not hold") from None
report("passed")
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
    return _program(_SOLVE, NAME=name, CODE=code)


def solve_output(program: Program, result: SandboxResult) -> str:
    """Return what `solve()` returned, or else what the code printed; empty when it failed or said nothing."""
    if not result.ok:
        return ""
    reports = program.reports(result)
    return (reports[-1] if reports else result.stdout.strip())[:MAX_OUTPUT_CHARS]


def test_program(code: str, entry_point: str, tests: Sequence[str]) -> Program:
    """Return a program that runs the tests on the code, one after the other, up to the first that fails."""
    return _program(_TEST, CODE=code, ENTRY_POINT=entry_point, TESTS=list(tests))


def read_test_report(program: Program, result: SandboxResult, tests: Sequence[str]) -> TestReport:
    """Return what the run of a `test_program` says about the code."""
    reports = program.reports(result)
    if result.ok and reports and reports[-1] == "passed":
        return TestReport(True, len(tests), "")
    error = result.error or "the program ended before its tests did"
    if not reports or not reports[-1].isdigit():
        return TestReport(False, -1, f"The code does not load.\n{error}")
    index = int(reports[-1])
    return TestReport(False, index, f"{tests[index]}\n{error}")


def _program(harness: str, **literals: object) -> Program:
    marker = "@" + hashlib.sha256(repr(sorted(literals.items())).encode("utf-8", "replace")).hexdigest()[:20] + ":"
    lines = [f"{name} = {value!r}" for name, value in literals.items()]
    return Program("\n".join([*lines, f"MARKER = {marker!r}", harness]), marker)
