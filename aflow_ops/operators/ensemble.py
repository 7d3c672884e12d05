"""Operators that choose among several solutions: ScEnsemble and MdEnsemble."""

from typing import Any

from aflow_ops.operators.base import Operator


class ScEnsemble(Operator):
    """Pick the most consistent solution (self-consistency, https://arxiv.org/abs/2311.17311)."""

    summary = "picks the most consistent of several solutions"
    returns = ("response",)
    main = "response"

    async def __call__(self, solutions: list[str], problem: str) -> dict[str, Any]:
        """Return `{"response": solution}`."""
        raise NotImplementedError


class MdEnsemble(Operator):
    """Pick by majority over shuffled votes (Medprompt, https://arxiv.org/abs/2311.16452)."""

    summary = "picks the best of several solutions by voting over shuffled orders"
    returns = ("solution",)
    main = "solution"

    async def __call__(self, solutions: list[str], problem: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"solution": solution}`."""
        raise NotImplementedError
