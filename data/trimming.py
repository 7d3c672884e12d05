"""Cutting contexts to the policy's token budget without cutting the answer out."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from data.problem import SPAN_SEPARATOR, Problem

# English text and code in the tokenizers of Qwen2.5 and Llama 3 have 3.5 to 4.5 characters a token.
CHARS_PER_TOKEN = 3.5
_PARAGRAPH = "\n\n"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


# Longest question with context of a processed data set, tokens.
MAX_PROMPT_TOKENS = 3072


class TextBudget:
    """Longest text of a problem, question and context together.

    Args:
        max_tokens (`int`): at least 1.
        tokenize (`Callable[[str], int]`, *optional*): counts tokens; an estimate by characters without it.
    """

    def __init__(self, max_tokens: int = MAX_PROMPT_TOKENS, tokenize: Callable[[str], int] | None = None) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_prompt_tokens={max_tokens} must be at least 1")
        self.max_tokens = max_tokens
        self._tokenize = tokenize

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return int(len(text) / CHARS_PER_TOKEN) if self._tokenize is None else self._tokenize(text)

    def fit(self, problem: Problem, keep: Sequence[str] = ()) -> Problem | None:
        """Return the problem with a context that fits; the problem itself when it does already.

        Whole paragraphs go first, from the end, but none of `keep`; a context of one paragraph loses sentences from its
        end. Without `keep`, an answer that what is left does not state counts as lost: a sum or a count may rest on
        anything. A question that the passage does not answer has nothing to lose.

        Args:
            problem (`Problem`): any.
            keep (`Sequence[str]`): paragraphs that the answer rests on.

        Returns:
            `Problem`, or `None` when it does not fit without losing the answer.
        """
        if self.count(problem.view.text) <= self.max_tokens:
            return problem
        if not problem.context:
            return None
        paragraphs = problem.context.split(_PARAGRAPH)
        if len(paragraphs) > 1:
            context = self._shorter(problem, paragraphs, _PARAGRAPH, set(keep))
        else:
            context = self._shorter(problem, _SENTENCE_END.split(problem.context), " ", set())
        if context is None or any(part not in context for part in keep):
            return None
        lost = not keep and any(problem.golds) and not _states(context, problem.golds)
        return None if lost else dataclasses.replace(problem, context=context)

    def _shorter(self, problem: Problem, parts: list[str], separator: str, keep: set[str]) -> str | None:
        """Drop parts from the end until the rest fits."""
        removable = [position for position, part in enumerate(parts) if part not in keep]
        low, high = 1, len(removable) if keep else len(removable) - 1  # something must remain
        best: str | None = None
        while low <= high:
            count = (low + high) // 2
            gone = set(removable[len(removable) - count :])
            context = separator.join(part for position, part in enumerate(parts) if position not in gone)
            if self.count(dataclasses.replace(problem, context=context).view.text) <= self.max_tokens:
                best, high = context, count - 1
            else:
                low = count + 1
        return best


def _states(context: str, golds: Sequence[str]) -> bool:
    lowered = context.lower()
    return any(gold and all(span in lowered for span in gold.lower().split(SPAN_SEPARATOR)) for gold in golds)
