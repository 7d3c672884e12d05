"""Operators that write a first answer: Custom and AnswerGenerate."""

from typing import Any

from aflow_ops.operators.base import Operator


class Custom(Operator):
    """Ask the executor with an instruction of the workflow's own."""

    summary = "asks the model, with your own instruction"
    returns = ("response",)
    main = "response"

    async def __call__(self, input: str, instruction: str = "") -> dict[str, Any]:
        """Return `{"response": text}`."""
        raise NotImplementedError


class AnswerGenerate(Operator):
    """Think, then answer."""

    summary = "thinks step by step, then gives a short final answer"
    returns = ("thought", "answer")
    main = "answer"

    async def __call__(self, input: str) -> dict[str, Any]:
        """Return `{"thought": text, "answer": text}`."""
        raise NotImplementedError
