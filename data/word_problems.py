"""Word problems of one or two operations, which a line of Python solves once the right operations are found.

Example row:

    {"question": "Mila fills 4 boxes with 7 pens each and has 5 pens left over. How many pens are there?",
     "answer": "33", "source": "word_problems", "domain": "math"}

Made for the agents of `recipes/math_tool.py` and a policy of half a million parameters: few sentences, small numbers.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from data.problem import Problem

NAMES = ("Mila", "Jonas", "Tessa", "Ravi", "Nadia", "Oscar", "Lena", "Hugo")
THINGS = ("pens", "apples", "cards", "stones", "books", "coins", "seeds", "tiles")


@dataclass(frozen=True)
class Kind:
    """One kind of problem.

    Args:
        text (`str`): with `{name}`, `{things}` and the numbers `{a}`, `{b}` and perhaps `{c}`, in this order.
        formula (`str`): of the answer, in the same numbers.
    """

    text: str
    formula: str

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds a problem of this kind and its numbers."""
        text = re.escape(self.text).replace(r"\{name\}", r"\w+").replace(r"\{things\}", r"\w+")
        return re.compile(re.sub(r"\\\{([abc])\\\}", r"(?P<\1>\\d+)", text))


KINDS = (
    Kind("{name} fills {a} boxes with {b} {things} each. How many {things} are there?", "{a} * {b}"),
    Kind("{name} has {a} {things} and finds {b} more. How many {things} are there?", "{a} + {b}"),
    Kind("{name} fills {a} boxes with {b} {things} each and has {c} {things} left over. How many {things} are there?",
         "{a} * {b} + {c}"),
    Kind("{name} fills {a} boxes with {b} {things} each, then loses {c} {things}. How many {things} are left?",
         "{a} * {b} - {c}"),
    Kind("{name} has {a} red and {b} blue {things} in each of {c} boxes. How many {things} are there?",
         "({a} + {b}) * {c}"),
    Kind("{name} has {a} {things}, finds {b} more and gives {c} away. How many {things} are left?", "{a} + {b} - {c}"),
    Kind("{name} has {a} {things} and buys {b} bags of {c} {things}. How many {things} are there?", "{a} + {b} * {c}"),
    Kind("{name} stacks {a} rows of {b} {things} in each of {c} halls. How many {things} are there?",
         "{a} * {b} * {c}"),
)  # fmt: skip


def word_problems(seed: int) -> Iterator[Problem]:
    """Yield problems of all kinds, without end; no other kind's formula gives a problem's answer."""
    rng = random.Random(f"word_problems {seed}")
    while True:
        kind = rng.choice(KINDS)
        numbers = {name: rng.randint(2, 9) for name in "abc"}
        answer = value_of(kind.formula.format(**numbers))
        others = {value_of(other.format(**numbers)) for other in other_formulas(kind.formula)}
        if answer > 0 and answer not in others:
            question = kind.text.format(name=rng.choice(NAMES), things=rng.choice(THINGS), **numbers)
            yield Problem.from_row({"question": question, "answer": str(answer), "source": "word_problems"})


def formula_of(question: str) -> tuple[str, dict[str, str]] | None:
    """Return the formula that solves a question of this source, and its numbers by letter; `None` for another one."""
    for kind in KINDS:
        if (found := kind.pattern.fullmatch(question)) is not None:
            return kind.formula, found.groupdict()
    return None


def other_formulas(formula: str) -> list[str]:
    """Return the formulas of other kinds in as many numbers."""
    return sorted({kind.formula for kind in KINDS if ("{c}" in kind.formula) == ("{c}" in formula)} - {formula})


def value_of(expression: str) -> int:
    """Return the value of a formula with its numbers filled in; the text is this file's own."""
    return int(eval(expression, {"__builtins__": {}}))  # noqa: S307
