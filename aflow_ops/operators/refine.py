"""Operators that work on a draft: Review, Revise and Format."""

from typing import Any

from aflow_ops.operators.base import Operator
from aflow_ops.operators.parsing import (
    as_text,
    extract_code,
    extract_tag,
    extract_verdict,
    keep_definitions,
    strip_tags,
)


class Review(Operator):
    """Judge a draft."""

    summary = "checks a solution and says what is wrong with it"
    returns = ("review_result", "feedback")
    main = "feedback"
    verdict = "review_result"

    async def __call__(self, problem: str, solution: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"review_result": bool, "feedback": text}`. A reply without a verdict counts as a no."""
        reply = await self.ask("review", problem=as_text(problem), solution=as_text(solution))
        verdict = extract_verdict(extract_tag(reply, "verdict") or reply)
        feedback = extract_tag(reply, "feedback") or strip_tags(reply, "verdict", "feedback")
        return {"review_result": bool(verdict), "feedback": feedback}


class Revise(Operator):
    """Rewrite a draft with feedback."""

    summary = "rewrites a solution according to feedback"
    returns = ("solution",)
    main = "solution"
    improves = True

    async def __call__(self, problem: str, solution: str, feedback: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"solution": text}`: code where the problem asks for a function."""
        draft = as_text(solution)
        entry_point = self.context.problem.entry_point
        prompt = "revise_code" if entry_point else "revise"
        reply = await self.ask(prompt, problem=as_text(problem), solution=draft, feedback=as_text(feedback))
        if entry_point:
            return {"solution": keep_definitions(extract_code(reply, entry_point)) or draft}
        return {"solution": extract_tag(reply, "solution") or strip_tags(reply, "solution") or draft}


class Format(Operator):
    """Cut a solution down to its final answer."""

    summary = "extracts the short final answer from a solution"
    returns = ("solution",)
    main = "solution"

    async def __call__(self, problem: str, solution: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"solution": text}`. Where the problem asks for a function, its code is the answer: no LLM call."""
        draft = as_text(solution)
        entry_point = self.context.problem.entry_point
        if entry_point:
            return {"solution": keep_definitions(extract_code(draft, entry_point)) or draft}
        reply = await self.ask("format", problem=as_text(problem), solution=draft)
        return {"solution": extract_tag(reply, "answer") or strip_tags(reply, "answer")}
