"""The script of `recipes/math_tool.py`: plans, code and verdicts for `word_problems`, with mistakes planted on purpose.

analyzer:  Compute 4 * 7 + 5.
executor:  ```python
           print(4 * 7 + 5)
           ```
verifier:  VERDICT: right
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message
from data.word_problems import formula_of, other_formulas, value_of

# How often the script plans right, follows the plan, finds its own way, and judges right.
PLANS_RIGHT, FOLLOWS, OWN_RIGHT, JUDGES_RIGHT = 0.5, 0.75, 0.45, 0.65


class MathToolScript:
    """Speaks for analyzer, executor and verifier."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        told = messages[1]["content"]
        question, _, rest = told.partition("\n\n")
        right, wrong = formulas(question)
        if role == "analyzer":
            return f"Compute {right if rng.random() < PLANS_RIGHT else rng.choice(wrong)}."
        if role == "executor":
            planned = re.search(r"Compute (.+)\.", rest)
            follows = planned is not None and len(messages) == 2 and rng.random() < FOLLOWS
            own = right if rng.random() < OWN_RIGHT else rng.choice(wrong)
            return f"```python\nprint({planned[1] if planned is not None and follows else own})\n```"
        printed = messages[-1]["content"].rpartition("It printed:\n")[2].strip()
        is_right = printed == str(value_of(right))
        said = is_right if rng.random() < JUDGES_RIGHT else not is_right
        return f"VERDICT: {'right' if said else 'wrong'}"


def formulas(question: str) -> tuple[str, list[str]]:
    """Return the formula that solves a question, and those of other kinds in its numbers.

    Raises:
        ValueError: the question is none of `word_problems`.
    """
    found = formula_of(question)
    if found is None:
        raise ValueError(f"not a question of word_problems: {question!r}")
    formula, numbers = found
    return formula.format(**numbers), [other.format(**numbers) for other in other_formulas(formula)]
