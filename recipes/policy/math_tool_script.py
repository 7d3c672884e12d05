"""The script of `recipes/math_tool.py`: plans, code and verdicts for `word_problems`, with mistakes planted on purpose.

analyzer:  Compute x * y + z.
executor:  ```python
           print(x * y + z)
           ```
verifier:  VERDICT: right
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message
from data.word_problems import formula_of, other_formulas, value_of

# How often the script plans right, follows the plan, finds its own way, and judges right.
PLANS_RIGHT, FOLLOWS, OWN_RIGHT, JUDGES_RIGHT = 0.65, 0.8, 0.55, 0.75


class MathToolScript:
    """Speaks for analyzer, executor and verifier."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        told = messages[1]["content"]
        question, _, rest = told.partition("\n\n")
        right, wrong, answer = solved(question)
        if role == "analyzer":
            return f"Compute {right if rng.random() < PLANS_RIGHT else rng.choice(wrong)}."
        if role == "executor":
            planned = re.search(r"Compute (.+)\.", rest)
            follows = planned is not None and len(messages) == 2 and rng.random() < FOLLOWS
            own = right if rng.random() < OWN_RIGHT else rng.choice(wrong)
            return f"```python\nprint({planned[1] if planned is not None and follows else own})\n```"
        printed = messages[-1]["content"].rpartition("It printed:\n")[2].strip()
        is_right = printed == str(answer)
        said = is_right if rng.random() < JUDGES_RIGHT else not is_right
        return f"VERDICT: {'right' if said else 'wrong'}"


def solved(question: str) -> tuple[str, list[str], int]:
    """Return the formula that solves a question, those of other kinds in as many numbers, and the answer.

    Raises:
        ValueError: the question is none of `word_problems`.
    """
    found = formula_of(question)
    if found is None:
        raise ValueError(f"not a question of word_problems: {question!r}")
    formula, numbers = found
    return formula, other_formulas(formula), value_of(formula, numbers)
