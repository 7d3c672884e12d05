"""An answer with the verdict that it must get."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data.problem import Problem


@dataclass(frozen=True)
class Case:
    """An answer to a problem.

    Args:
        kind (`str`): domain and class of the answer, for the table.
        problem (`Problem`): with the gold answer.
        answer (`str`): what is graded.
        right (`bool`): the verdict that it must get.
    """

    kind: str
    problem: Problem
    answer: str
    right: bool


Generator = Callable[[random.Random], Iterator[Case]]


def problem_of(answer: str, source: str) -> Problem:
    """A problem of math or question answering with a gold answer."""
    domain = "math" if source == "math" else "qa"
    return Problem(question="What is it?", answer=answer, source=source, domain=domain, id=answer)
