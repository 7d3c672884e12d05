"""Operators that work on a draft: Review, Revise and Format."""

from typing import Any

from aflow_ops.operators.base import Operator


class Review(Operator):
    """Judge a draft."""

    summary = "checks a solution and says what is wrong with it"
    returns = ("review_result", "feedback")
    main = "feedback"

    async def __call__(self, problem: str, solution: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"review_result": bool, "feedback": text}`."""
        raise NotImplementedError


class Revise(Operator):
    """Rewrite a draft with feedback."""

    summary = "rewrites a solution according to feedback"
    returns = ("solution",)
    main = "solution"

    async def __call__(self, problem: str, solution: str, feedback: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"solution": text}`."""
        raise NotImplementedError


class Format(Operator):
    """Cut a solution down to its final answer."""

    summary = "extracts the short final answer from a solution"
    returns = ("solution",)
    main = "solution"

    async def __call__(self, problem: str, solution: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"solution": text}`."""
        raise NotImplementedError
