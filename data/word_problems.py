"""Word problems of one or two operations, which a line of Python solves once the right operations are found.

Example row:

    {"question": "Mila counts pens.\\nx boxes hold y each, and z are left over.\\nHow many?\\nx = 4, y = 7, z = 5.",
     "answer": "33", "source": "word_problems"}

Made for the agents of `recipes/math_tool.py` and a policy of half a million parameters. It chooses operations rather
than copies numbers, for these have names, and the agents' session knows them; what decides is a line by itself.
"""

import random
import re
from collections.abc import Iterator, Mapping

from data.problem import Problem

NAMES = ("Mila", "Jonas", "Tessa", "Ravi", "Nadia", "Oscar", "Lena", "Hugo")
THINGS = ("pens", "apples", "cards", "stones", "books", "coins", "seeds", "tiles")


# Line of the question -> formula of the answer.
KINDS = {
    "x boxes hold y each.": "x * y",
    "There are x, and y more.": "x + y",
    "x boxes hold y each, and z are left over.": "x * y + z",
    "x boxes hold y each, and z are lost.": "x * y - z",
    "Each of z boxes holds x red and y blue ones.": "(x + y) * z",
    "There are x, then y more, and z are given away.": "x + y - z",
    "There are x, and y bags of z each.": "x + y * z",
    "Each of z halls has x rows of y.": "x * y * z",
}
_NUMBER = re.compile(r"\b([xyz]) = (\d+)")


def word_problems(seed: int) -> Iterator[Problem]:
    """Yield problems of all kinds, without end; no other kind's formula gives a problem's answer."""
    rng = random.Random(f"word_problems {seed}")
    while True:
        kind, formula = rng.choice(list(KINDS.items()))
        numbers = {name: rng.randint(2, 60) for name in "xyz" if name in formula}
        answer = value_of(formula, numbers)
        if answer > 0 and answer not in {value_of(other, numbers) for other in other_formulas(formula)}:
            given = ", ".join(f"{name} = {value}" for name, value in numbers.items())
            story = f"{rng.choice(NAMES)} counts {rng.choice(THINGS)}.\n{kind}\nHow many?\n{given}."
            yield Problem.from_row({"question": story, "answer": str(answer), "source": "word_problems"})


def formula_of(question: str) -> tuple[str, dict[str, int]] | None:
    """Return the formula that solves a question of this source, and its numbers; `None` for another one."""
    formula = next((KINDS[line] for line in question.splitlines() if line in KINDS), None)
    if formula is None:
        return None
    return formula, {name: int(value) for name, value in _NUMBER.findall(question)}


def other_formulas(formula: str) -> list[str]:
    """Return the formulas of other kinds in as many numbers."""
    return sorted({other for other in KINDS.values() if ("z" in other) == ("z" in formula)} - {formula})


def value_of(formula: str, numbers: Mapping[str, int]) -> int:
    """Return the value of a formula of this file's."""
    return int(eval(formula, {"__builtins__": {}}, dict(numbers)))  # noqa: S307
