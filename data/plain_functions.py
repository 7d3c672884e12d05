"""Functions of one line whose numbers are all arguments, with public examples and separate hidden tests.

Example row:

    {"question": "def mila(x, n):\\n    \\"\\"\\"Return x times n.\\"\\"\\"", "entry_point": "mila",
     "public_tests": ["assert mila(3, 4) == 12", ...], "tests": ["assert candidate(7, 2) == 14", ...],
     "answer": "def mila(x, n):\\n    return x * n", "source": "plain_functions"}

Made for the agents of `recipes/deepcoder.py` and a policy of half a million parameters, which chooses among lines of
code rather than copies numbers into them; `small_functions` are the same with numbers in the text.
"""

import random
from collections.abc import Iterator
from typing import Any

from data.problem import Problem

PUBLIC_TESTS, HIDDEN_TESTS = 2, 5
MISTAKES = 2  # expressions that a task's own is mistaken for
NAMES = (
    "mila", "jonas", "tessa", "ravi", "nadia", "oscar", "lena", "hugo", "ines", "pavel", "greta", "amir", "otto",
    "rosa", "ivan", "nora", "emil", "vera", "luis", "anna", "finn", "maya", "noel", "iris", "leon", "cora", "ezra",
    "june", "dean", "faye",
)  # fmt: skip
# Docstring -> parameters and expression. What x, n, xs and text are is told by their names.
KINDS = {
    "Return x times n.": ("x, n", "x * n"),
    "Return x plus n.": ("x, n", "x + n"),
    "Return x minus n.": ("x, n", "x - n"),
    "Return the square of x, plus n.": ("x, n", "x * x + n"),
    "Return the remainder of x divided by n.": ("x, n", "x % n"),
    "Return the larger of x and n.": ("x, n", "max(x, n)"),
    "Return the sum of xs, plus n.": ("xs, n", "sum(xs) + n"),
    "Return the largest number in xs, plus n.": ("xs, n", "max(xs) + n"),
    "Return the smallest number in xs, plus n.": ("xs, n", "min(xs) + n"),
    "Return a list of the numbers in xs, each times n.": ("xs, n", "[x * n for x in xs]"),
    "Return a list of the numbers in xs that are greater than n.": ("xs, n", "[x for x in xs if x > n]"),
    "Return how many numbers in xs are less than n.": ("xs, n", "sum(x < n for x in xs)"),
    "Return text repeated n times.": ("text, n", "text * n"),
    "Return the first n letters of text.": ("text, n", "text[:n]"),
    "Return text without its first n letters.": ("text, n", "text[n:]"),
    "Return the length of text, plus n.": ("text, n", "len(text) + n"),
}
WORDS = ("river", "stone", "cloud", "apple", "candle", "window", "garden", "silver")


def plain_functions(seed: int) -> Iterator[Problem]:
    """Yield function-writing tasks, without end (they repeat once every name and kind was seen)."""
    rng = random.Random(f"plain_functions {seed}")
    while True:
        name, docstring = rng.choice(NAMES), rng.choice(list(KINDS))
        yield _problem(name, docstring, rng)


def _problem(name: str, docstring: str, rng: random.Random) -> Problem:
    parameters, expression = KINDS[docstring]
    kind = parameters.partition(",")[0]
    inputs: list[tuple[Any, int]] = []
    while len(inputs) < PUBLIC_TESTS + HIDDEN_TESTS:
        given = (_argument(kind, rng), rng.randint(2, 4))
        if given not in inputs:
            inputs.append(given)
    tests = [(given, eval(expression, {kind: given[0], "n": given[1]})) for given in inputs]  # noqa: S307

    def asserts(called: str, part: list[tuple[tuple[Any, int], Any]]) -> list[str]:
        return [f"assert {called}({first!r}, {n}) == {value!r}" for (first, n), value in part]

    signature = f"def {name}({parameters}):"
    return Problem.from_row(
        {
            "question": f'{signature}\n    """{docstring}"""',
            "answer": f"{signature}\n    return {expression}",
            "source": "plain_functions",
            "entry_point": name,
            "public_tests": asserts(name, tests[:PUBLIC_TESTS]),
            "tests": asserts("candidate", tests[PUBLIC_TESTS:]),
        }
    )


def _argument(kind: str, rng: random.Random) -> Any:
    if kind == "text":
        return rng.choice(WORDS)
    return rng.randint(2, 9) if kind == "x" else [rng.randint(1, 9) for _ in range(3)]


def solution_of(question: str) -> tuple[str, list[str]] | None:
    """Return the expression that solves a task of this source, and the two that it is mistaken for; `None` for another.

    Each task with the same parameters is mistaken for the next two of them, so that a mistake tells something of the
    task: whoever makes it has read the question.
    """
    for docstring, (parameters, expression) in KINDS.items():
        if f'"""{docstring}"""' in question:
            alike = [text for its, text in KINDS.values() if its == parameters]
            after = alike.index(expression) + 1
            return expression, [*alike[after:], *alike[:after]][:MISTAKES]
    return None
