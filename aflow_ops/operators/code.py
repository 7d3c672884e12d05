"""Operators that write and run Python: CustomCodeGenerate, Programmer and Test."""

import keyword
from typing import Any, ClassVar

from aflow_ops.operators.base import Operator
from aflow_ops.operators.parsing import as_text, extract_code, function_names, keep_definitions
from aflow_ops.operators.programs import TestReport, run_public_tests, solve_output, solve_program


class CustomCodeGenerate(Operator):
    """Write the function that the problem asks for."""

    summary = "writes the Python function `entry_point`"
    returns = ("response",)
    main = "response"
    domains = ("code",)
    needs_entry_point = True

    async def __call__(self, problem: str, entry_point: str, instruction: str = "") -> dict[str, Any]:
        """Return `{"response": code}`: definitions only, `entry_point` among them if the reply has a function."""
        name = _function_name(entry_point, self.context.problem.entry_point)
        reply = await self.ask(
            "custom_code_generate",
            instruction=as_text(instruction),
            problem=as_text(problem),
            entry_point=name,
        )
        return {"response": _solution(reply, name)}


class Programmer(Operator):
    """Write `solve()`, run it in the sandbox, retry with the error."""

    summary = "writes a Python program that computes the answer, runs it, and returns what it computed"
    returns = ("code", "output")
    main = "output"
    draft = "analysis"

    attempts: ClassVar[int] = 3
    timeout: ClassVar[float] = 10.0

    async def __call__(self, problem: str, analysis: str = "None") -> dict[str, Any]:
        """Return `{"code": code, "output": text}`; the output is empty when no attempt ran to its end."""
        task = as_text(problem)
        hints = as_text(analysis).strip()
        if hints and hints != "None":
            task = f"{task}\n\nAnalysis: {hints}"
        code, error = "", ""
        for _ in range(self.attempts):
            if error:
                reply = await self.ask("programmer_retry", problem=task, code=code, error=error)
            else:
                reply = await self.ask("programmer", problem=task)
            attempt = extract_code(reply, "solve")
            if attempt == code and error:
                break
            code = attempt
            output, error = await self._execute(code)
            if output:
                return {"code": code, "output": output}
        return {"code": code, "output": ""}

    async def _execute(self, code: str) -> tuple[str, str]:
        """Return output and error; one of them is empty."""
        if not code:
            return "", "The reply has no Python code."
        program = solve_program(code)
        result = await self.context.run_code(program.code, timeout=self.timeout)
        output = solve_output(program, result)
        return output, "" if output else result.error or "solve() returned nothing and nothing was printed."


class Test(Operator):
    """Run the public tests on a solution; reflect and retry while one fails."""

    __test__ = False  # not a test class for pytest

    summary = "runs the public tests on a solution and repairs it while one fails"
    returns = ("result", "solution")
    main = "solution"
    domains = ("code",)
    needs_entry_point = True
    verdict = "result"
    improves = True

    max_test_loop: ClassVar[int] = 10
    timeout: ClassVar[float] = 15.0

    async def __call__(self, problem: str, solution: str, entry_point: str, test_loop: int = 3) -> dict[str, Any]:
        """Return `{"result": bool, "solution": code}`: the first code that passes, else the one that got furthest."""
        name = _function_name(entry_point, self.context.problem.entry_point)
        tests = self.context.problem.public_tests
        code = _solution(as_text(solution), name)
        report = best = await self._report(code, name)
        best_code = code
        # Without public tests there is nothing to reflect on.
        repairs = _clamp(test_loop, 0, self.max_test_loop) if tests else 0
        for _ in range(repairs):
            if report.passed:
                break
            reply = await self.ask(
                "test_reflect", problem=as_text(problem), solution=code, failure=report.failure, entry_point=name
            )
            repaired = _solution(reply, name)
            if repaired == code:
                break
            code = repaired
            report = await self._report(code, name)
            if report.count > best.count:
                best, best_code = report, code
        return {"result": best.passed, "solution": best_code}

    async def _report(self, code: str, entry_point: str) -> TestReport:
        tests = self.context.problem.public_tests
        return await run_public_tests(code, entry_point, tests, self.context.run_code, seconds=self.timeout)


def _function_name(asked: Any, known: str | None) -> str:
    """Return the entry point to write: what the workflow asks for if it can be a function's name."""
    name = as_text(asked).strip()
    if name.isidentifier() and not keyword.iskeyword(name):
        return name
    return known or "solution"


def _solution(text: str, entry_point: str) -> str:
    """Return the definitions in a reply; under a wrong name, the only function also gets the right one."""
    code = extract_code(text, entry_point)
    if not code:
        return text.strip()
    code = keep_definitions(code)
    names = function_names(code)
    if len(names) == 1 and names[0] != entry_point:
        return f"{code}\n\n{entry_point} = {names[0]}"
    return code


def _clamp(value: Any, low: int, high: int) -> int:
    try:
        return max(low, min(int(value), high))
    except (TypeError, ValueError, OverflowError):
        return low
