"""The script of `recipes/math_tool.py`: plans, code and verdicts for `word_problems`, with mistakes planted on purpose.

analyzer:  Compute x * y + z.
executor:  ```python
           print(x * y + z)
           ```
verifier:  It takes x * y + z.
           VERDICT: right

Each works the problem out carelessly: a wrong formula differs from the right one in at most one operation. The verifier
calls right what is as it would have done it, so its mistakes are those of its own working; the executor mostly writes
the formula that it was told last, the analyzer's or, when it tries again, the verifier's.
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message
from data.word_problems import formula_of, other_formulas

# How often the script works a problem out rightly, and how often the executor writes what it was told.
RIGHT, FOLLOWS = 0.45, 0.85


class MathToolScript:
    """Speaks for analyzer, executor and verifier."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        right, wrong = formulas_for(messages[1]["content"].partition("\n\n")[0])
        own = right if rng.random() < RIGHT else rng.choice(wrong)
        heard = messages[-1]["content"]
        if role == "analyzer":
            return f"Compute {own}."
        if role == "executor":
            told = re.search(r"(?:Compute|It takes) (.+)\.", heard)
            follows = told is not None and rng.random() < FOLLOWS
            return f"```python\nprint({told[1] if told is not None and follows else own})\n```"
        return f"It takes {own}.\nVERDICT: {'right' if f'print({own})' in heard else 'wrong'}"


def formulas_for(question: str) -> tuple[str, list[str]]:
    """Return the formula that solves a question, and those that are mistaken for it: at most one operation differs.

    Raises:
        ValueError: the question is none of `word_problems`.
    """
    found = formula_of(question)
    if found is None:
        raise ValueError(f"not a question of word_problems: {question!r}")
    formula, _ = found
    return formula, [other for other in other_formulas(formula) if _differing(other, formula) <= 1]


def _differing(one: str, other: str) -> int:
    """Count the operations in which two formulas of as many numbers differ; brackets do not count."""
    return sum(a != b for a, b in zip(re.findall(r"[-+*]", one), re.findall(r"[-+*]", other), strict=True))
