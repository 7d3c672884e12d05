"""Operators that write a first answer: Custom and AnswerGenerate."""

from typing import Any

from aflow_ops.operators.base import Operator
from aflow_ops.operators.parsing import as_text, extract_tag, strip_tags


class Custom(Operator):
    """Ask the executor with an instruction of the workflow's own."""

    summary = "asks the model, with your own instruction"
    returns = ("response",)
    main = "response"

    async def __call__(self, input: str, instruction: str = "") -> dict[str, Any]:
        """Return `{"response": text}`."""
        reply = await self.ask("custom", instruction=as_text(instruction).strip(), input=as_text(input))
        return {"response": reply.strip()}


class AnswerGenerate(Operator):
    """Think, then answer."""

    summary = "thinks step by step, then gives a short final answer"
    returns = ("thought", "answer")
    main = "answer"

    async def __call__(self, input: str) -> dict[str, Any]:
        """Return `{"thought": text, "answer": text}`. A reply without tags is an answer without a thought."""
        reply = await self.ask("answer_generate", input=as_text(input))
        thought, answer = extract_tag(reply, "thought"), extract_tag(reply, "answer")
        if answer:
            return {"thought": thought or "", "answer": answer}
        lines = [line.strip() for line in strip_tags(reply, "thought", "answer").splitlines() if line.strip()]
        return {"thought": "\n".join(lines[:-1]), "answer": lines[-1] if lines else ""}
