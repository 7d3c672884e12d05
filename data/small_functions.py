"""Small function-writing tasks with public examples and separate hidden tests.

Example row:

    {"question": "def times_7_plus_3(x):\\n    \\"\\"\\"Return x multiplied by 7, plus 3.\\"\\"\\"",
     "entry_point": "times_7_plus_3",
     "public_tests": ["assert times_7_plus_3(2) == 17"], "tests": ["assert candidate(5) == 38", ...],
     "answer": "def times_7_plus_3(x):\\n    return x * 7 + 3", "source": "small_functions"}
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from data.problem import Problem

PUBLIC_TESTS, HIDDEN_TESTS = 2, 5
WORDS = ["river", "stone", "cloud", "apple", "candle", "window", "garden", "silver", "orange", "market", "banana"]


@dataclass(frozen=True)
class _Task:
    """One task: name, parameters, docstring, the expression that solves it, and a maker of inputs."""

    name: str
    parameters: str
    docstring: str
    expression: str
    inputs: Callable[[random.Random], tuple[Any, ...]]

    @property
    def signature(self) -> str:
        return f"def {self.name}({self.parameters}):"

    @property
    def reference(self) -> str:
        return f"{self.signature}\n    return {self.expression}"


def _number(rng: random.Random) -> tuple[int]:
    return (rng.randint(-20, 40),)


def _numbers(rng: random.Random) -> tuple[list[int]]:
    return ([rng.randint(-9, 30) for _ in range(rng.randint(3, 7))],)


def _text(rng: random.Random) -> tuple[str]:
    return (" ".join(rng.sample(WORDS, rng.randint(1, 3))),)


def _two_numbers(rng: random.Random) -> tuple[int, int]:
    return rng.randint(-20, 40), rng.randint(-20, 40)


_FAMILIES: tuple[Callable[[int, int, str], _Task], ...] = (
    lambda a, b, c: _Task(
        f"times_{a}_plus_{b}", "x", f"Return x multiplied by {a}, plus {b}.", f"x * {a} + {b}", _number
    ),
    lambda a, b, c: _Task(f"plus_{b}", "x", f"Return x plus {b}.", f"x + {b}", _number),
    lambda a, b, c: _Task(f"square_minus_{b}", "x", f"Return the square of x, minus {b}.", f"x * x - {b}", _number),
    lambda a, b, c: _Task(
        f"is_multiple_of_{a}", "x", f"Return True if x is a multiple of {a}, else False.", f"x % {a} == 0", _number
    ),
    lambda a, b, c: _Task(
        f"add_all_plus_{b}", "xs", f"Return the sum of the list xs, plus {b}.", f"sum(xs) + {b}", _numbers
    ),
    lambda a, b, c: _Task(
        f"sum_above_{b}",
        "xs",
        f"Return the sum of the numbers in xs that are greater than {b}.",
        f"sum(x for x in xs if x > {b})",
        _numbers,
    ),
    lambda a, b, c: _Task(
        f"count_below_{b}",
        "xs",
        f"Return how many numbers in xs are less than {b}.",
        f"sum(1 for x in xs if x < {b})",
        _numbers,
    ),
    lambda a, b, c: _Task(
        f"each_times_{a}",
        "xs",
        f"Return a list with every number in xs multiplied by {a}.",
        f"[x * {a} for x in xs]",
        _numbers,
    ),
    lambda a, b, c: _Task(
        f"keep_multiples_of_{a}",
        "xs",
        f"Return the list of the numbers in xs that are multiples of {a}.",
        f"[x for x in xs if x % {a} == 0]",
        _numbers,
    ),
    lambda a, b, c: _Task(
        f"largest_plus_{b}", "xs", f"Return the largest number in xs, plus {b}.", f"max(xs) + {b}", _numbers
    ),
    lambda a, b, c: _Task(
        f"range_times_{a}",
        "xs",
        f"Return the difference of the largest and the smallest number in xs, times {a}.",
        f"(max(xs) - min(xs)) * {a}",
        _numbers,
    ),
    lambda a, b, c: _Task(f"first_{a}", "xs", f"Return the first {a} items of the list xs.", f"xs[:{a}]", _numbers),
    lambda a, b, c: _Task(f"repeat_{a}_times", "text", f"Return text repeated {a} times.", f"text * {a}", _text),
    lambda a, b, c: _Task(
        f"count_letter_{c}", "text", f"Return how many times the letter '{c}' is in text.", f"text.count('{c}')", _text
    ),
    lambda a, b, c: _Task(
        f"remove_letter_{c}", "text", f"Return text without the letter '{c}'.", f"text.replace('{c}', '')", _text
    ),
    lambda a, b, c: _Task(
        f"length_plus_{b}", "text", f"Return the number of characters in text, plus {b}.", f"len(text) + {b}", _text
    ),
    lambda a, b, c: _Task(
        f"words_longer_than_{a}",
        "text",
        f"Return the list of the words in text with more than {a} letters.",
        f"[word for word in text.split() if len(word) > {a}]",
        _text,
    ),
    lambda a, b, c: _Task(
        f"upper_plus_{c}", "text", f"Return text in upper case followed by '{c}'.", f"text.upper() + '{c}'", _text
    ),
    lambda a, b, c: _Task(
        f"sum_times_{a}", "x, y", f"Return the sum of x and y, multiplied by {a}.", f"(x + y) * {a}", _two_numbers
    ),
    lambda a, b, c: _Task(
        f"larger_plus_{b}", "x, y", f"Return the larger of x and y, plus {b}.", f"max(x, y) + {b}", _two_numbers
    ),
)


def small_functions(seed: int) -> Iterator[Problem]:
    """Yield function-writing tasks, without end (they repeat once every family and parameter was seen)."""
    rng = random.Random(f"small_functions {seed}")
    while True:
        task = rng.choice(_FAMILIES)(rng.randint(2, 9), rng.randint(1, 20), rng.choice("abcdeilnor"))
        yield _problem(task, rng)


def _problem(task: _Task, rng: random.Random) -> Problem:
    inputs: list[tuple[Any, ...]] = []
    while len(inputs) < PUBLIC_TESTS + HIDDEN_TESTS:
        candidate = task.inputs(rng)
        if candidate not in inputs:
            inputs.append(candidate)
    tests = [(arguments, _expected(task, arguments)) for arguments in inputs]

    def asserts(name: str, part: list[tuple[tuple[Any, ...], Any]]) -> list[str]:
        return [f"assert {name}({', '.join(map(repr, arguments))}) == {value!r}" for arguments, value in part]

    return Problem.from_row(
        {
            "question": f'{task.signature}\n    """{task.docstring}"""',
            "answer": task.reference,
            "source": "small_functions",
            "entry_point": task.name,
            "public_tests": asserts(task.name, tests[:PUBLIC_TESTS]),
            "tests": asserts("candidate", tests[PUBLIC_TESTS:]),
        }
    )


def _expected(task: _Task, arguments: tuple[Any, ...]) -> Any:
    """The reference's result; the expression is this file's own text, with none of anybody else's in it."""
    names = [name.strip() for name in task.parameters.split(",")]
    return eval(task.expression, {}, dict(zip(names, arguments, strict=True)))  # noqa: S307
