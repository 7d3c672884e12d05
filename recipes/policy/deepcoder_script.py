"""The script of `recipes/deepcoder.py`: code, analyses and repairs for `small_functions`, with mistakes planted.

generator:    ```python
              def plus_7(x):
                  return x + 9
              ```
test_runner:  It must return x + 7.
refiner:      ```python
              def plus_7(x):
                  return x + 7
              ```
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message

# How often the script writes right code, finds the fault, follows the analysis, and mends without one.
WRITES_RIGHT, FINDS_FAULT, FOLLOWS, MENDS_ALONE = 0.4, 0.5, 0.7, 0.4

# Docstring -> expression, as `data/small_functions.py` has them.
_SOLVED = (
    (r"Return x multiplied by (\d+), plus (\d+)\.", "x * {0} + {1}"),
    (r"Return x plus (\d+)\.", "x + {0}"),
    (r"Return the square of x, minus (\d+)\.", "x * x - {0}"),
    (r"Return True if x is a multiple of (\d+), else False\.", "x % {0} == 0"),
    (r"Return the sum of the list xs, plus (\d+)\.", "sum(xs) + {0}"),
    (r"Return the sum of the numbers in xs that are greater than (\d+)\.", "sum(x for x in xs if x > {0})"),
    (r"Return how many numbers in xs are less than (\d+)\.", "sum(1 for x in xs if x < {0})"),
    (r"Return a list with every number in xs multiplied by (\d+)\.", "[x * {0} for x in xs]"),
    (r"Return the list of the numbers in xs that are multiples of (\d+)\.", "[x for x in xs if x % {0} == 0]"),
    (r"Return the largest number in xs, plus (\d+)\.", "max(xs) + {0}"),
    (r"Return the difference of the largest and the smallest number in xs, times (\d+)\.", "(max(xs) - min(xs)) * {0}"),
    (r"Return the first (\d+) items of the list xs\.", "xs[:{0}]"),
    (r"Return text repeated (\d+) times\.", "text * {0}"),
    (r"Return how many times the letter '(\w)' is in text\.", "text.count('{0}')"),
    (r"Return text without the letter '(\w)'\.", "text.replace('{0}', '')"),
    (r"Return the number of characters in text, plus (\d+)\.", "len(text) + {0}"),
    (
        r"Return the list of the words in text with more than (\d+) letters\.",
        "[word for word in text.split() if len(word) > {0}]",
    ),
    (r"Return text in upper case followed by '(\w)'\.", "text.upper() + '{0}'"),
    (r"Return the sum of x and y, multiplied by (\d+)\.", "(x + y) * {0}"),
    (r"Return the larger of x and y, plus (\d+)\.", "max(x, y) + {0}"),
)
_SWAPS = ((" + ", " - "), (" - ", " + "), (" * ", " + "), (" > ", " < "), (" < ", " > "), ("max", "min"), ("==", "!="))


class DeepCoderScript:
    """Speaks for generator, test_runner and refiner."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        told = messages[-1]["content"]
        signature = re.search(r"^def .+:$", told, re.MULTILINE)
        right = expression_of(told)
        if signature is None or right is None:
            raise ValueError(f"not a task of small_functions: {told!r}")
        wrong = rng.choice(mistakes(right))
        if role == "test_runner":
            return f"It must return {right if rng.random() < FINDS_FAULT else wrong}."
        if role == "generator":
            written = right if rng.random() < WRITES_RIGHT else wrong
        else:
            analysis = re.search(r"It must return (.+)\.", told.rpartition("Analysis:\n")[2])
            own = right if rng.random() < MENDS_ALONE else wrong
            written = analysis[1] if analysis is not None and rng.random() < FOLLOWS else own
        return f"```python\n{signature[0]}\n    return {written}\n```"


def expression_of(text: str) -> str | None:
    """Return the expression that solves a task, from its docstring; `None` for another task."""
    for pattern, expression in _SOLVED:
        if (found := re.search(pattern, text)) is not None:
            return expression.format(*found.groups())
    return None


def mistakes(expression: str) -> list[str]:
    """Return wrong expressions that look like a right one: another operator, another number or letter."""
    swapped = [expression.replace(old, new, 1) for old, new in _SWAPS if old in expression]
    numbers = [re.sub(r"\d+", lambda found: str(int(found[0]) + 1), expression)] if re.search(r"\d", expression) else []
    letters = [re.sub(r"'(\w)'", "'x'", expression)] if re.search(r"'\w'", expression) else []
    return [text for text in [*swapped, *numbers, *letters] if text != expression]
