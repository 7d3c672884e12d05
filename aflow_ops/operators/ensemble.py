"""Operators that choose among several solutions: ScEnsemble and MdEnsemble."""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aflow_ops.operators.base import Operator
from aflow_ops.operators.parsing import as_text, extract_letter

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ScEnsemble(Operator):
    """Pick the most consistent solution (self-consistency, https://arxiv.org/abs/2311.17311)."""

    summary = "picks the most consistent of several solutions"
    returns = ("response",)
    main = "response"

    async def __call__(self, solutions: list[str], problem: str) -> dict[str, Any]:
        """Return `{"response": solution}`.

        A solution that more than half of the others repeat word for word is the most consistent one by definition: it
        is returned without asking the executor. An unreadable reply stands for the most frequent solution.

        Raises:
            ValueError: there are no solutions.
        """
        texts = _texts(solutions, "ScEnsemble")
        choices, counts = _distinct(texts)
        if counts[0] * 2 > len(texts):
            return {"response": choices[0]}
        reply = await self.ask("sc_ensemble", problem=as_text(problem), solutions=_lettered(choices))
        return {"response": choices[extract_letter(reply, len(choices)) or 0]}


class MdEnsemble(Operator):
    """Pick by majority over shuffled votes (Medprompt, https://arxiv.org/abs/2311.16452)."""

    summary = "picks the best of several solutions by voting over shuffled orders"
    returns = ("solution",)
    main = "solution"

    default_vote_count: ClassVar[int] = 5
    max_vote_count: ClassVar[int] = 15

    async def __call__(self, solutions: list[str], problem: str, mode: str | None = None) -> dict[str, Any]:
        """Return `{"solution": solution}`.

        The constructor's `vote_count` says how many votes are taken; voting stops when it is decided. The orders are
        drawn from a hash of the solutions and the problem, so that equal calls make equal requests.

        Raises:
            ValueError: there are no solutions.
        """
        choices, _ = _distinct(_texts(solutions, "MdEnsemble"))
        if len(choices) == 1:
            return {"solution": choices[0]}
        text = as_text(problem)
        shuffle = random.Random(hashlib.sha256("\x1f".join([text, *choices]).encode("utf-8", "replace")).digest())
        votes: Counter[int] = Counter()
        remaining = self._vote_count()
        while remaining and not _decided(votes, remaining):
            remaining -= 1
            order = shuffle.sample(range(len(choices)), len(choices))
            reply = await self.ask("md_ensemble", problem=text, solutions=_lettered([choices[i] for i in order]))
            letter = extract_letter(reply, len(choices))
            if letter is not None:
                votes[order[letter]] += 1
        best = max(range(len(choices)), key=lambda i: (votes[i], -i))
        return {"solution": choices[best]}

    def _vote_count(self) -> int:
        wanted = self.context.options.get("vote_count", self.default_vote_count)
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            return self.default_vote_count
        return max(1, min(wanted, self.max_vote_count))


def _decided(votes: Counter[int], remaining: int) -> bool:
    """Tell whether the leader can no longer be reached."""
    first, second = (*(count for _, count in votes.most_common(2)), 0, 0)[:2]
    return first > second + remaining


def _texts(solutions: Any, operator: str) -> list[str]:
    """Return the solutions as texts. One text alone is one solution, not a list of letters."""
    if isinstance(solutions, (str, Mapping)) or not isinstance(solutions, Sequence):
        solutions = [solutions]
    texts = [as_text(solution) for solution in solutions]
    if not texts:
        raise ValueError(f"{operator} needs at least one solution")
    return texts


def _distinct(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the distinct texts, the most frequent first, and how often each occurs; at most one per letter."""
    counts = Counter(text.strip() for text in texts)
    originals = {text.strip(): text for text in reversed(texts)}
    common = counts.most_common(len(LETTERS))
    return [originals[key] for key, _ in common], [count for _, count in common]


def _lettered(choices: Sequence[str]) -> str:
    return "\n\n".join(f"{letter}:\n{choice.strip()}" for letter, choice in zip(LETTERS, choices, strict=False))
