"""Operators that write and run Python: CustomCodeGenerate, Programmer and Test."""

from typing import Any

from aflow_ops.operators.base import Operator


class CustomCodeGenerate(Operator):
    """Write the function that the problem asks for."""

    summary = "writes the Python function `entry_point`"
    returns = ("response",)
    main = "response"
    domains = ("code",)
    needs_entry_point = True

    async def __call__(self, problem: str, entry_point: str, instruction: str = "") -> dict[str, Any]:
        """Return `{"response": code}`."""
        raise NotImplementedError


class Programmer(Operator):
    """Write `solve()`, run it in the sandbox, retry with the error."""

    summary = "writes a Python program that computes the answer, runs it, and returns what it computed"
    returns = ("code", "output")
    main = "output"

    async def __call__(self, problem: str, analysis: str = "None") -> dict[str, Any]:
        """Return `{"code": code, "output": text}`."""
        raise NotImplementedError


class Test(Operator):
    """Run the public tests on a solution; reflect and retry while one fails."""

    summary = "runs the public tests on a solution and repairs it while one fails"
    returns = ("result", "solution")
    main = "solution"
    domains = ("code",)
    needs_entry_point = True

    async def __call__(self, problem: str, solution: str, entry_point: str, test_loop: int = 3) -> dict[str, Any]:
        """Return `{"result": bool, "solution": code}`."""
        raise NotImplementedError
