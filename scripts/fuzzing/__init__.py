"""Generated answers with their verdicts, for `scripts/fuzz_graders.py` and the tests: one module a domain."""

import random
from collections.abc import Iterator, Sequence

from scripts.fuzzing.case import Case, Generator
from scripts.fuzzing.code_answers import code_cases
from scripts.fuzzing.math_answers import math_cases
from scripts.fuzzing.qa_answers import qa_cases

GENERATORS: dict[str, Generator] = {"math": math_cases, "qa": qa_cases, "code": code_cases}
# Code takes a hundred times as long to grade.
WEIGHTS = {"math": 100, "qa": 100, "code": 2}

__all__ = ["GENERATORS", "Case", "cases"]


def cases(rng: random.Random, domains: Sequence[str]) -> Iterator[Case]:
    """Yield cases of some domains without end."""
    weights = [WEIGHTS[domain] for domain in domains]
    while True:
        yield from GENERATORS[rng.choices(domains, weights)[0]](rng)
