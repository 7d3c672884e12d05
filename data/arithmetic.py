"""Math problems from `reasoning-gym` (https://github.com/open-thought/reasoning-gym).

Example row of `arithmetic`, which a one-line program solves and mental arithmetic mostly does not:

    {"question": "Calculate 477 * 863.", "answer": "411651", "source": "arithmetic", "domain": "math"}

Example row of `gsm_symbolic`, word problems of several steps, the hard one:

    {"question": "James gets 160 emails a day. 30% of those ...", "answer": "560", "source": "gsm_symbolic"}
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from data.problem import Problem

# (set of reasoning-gym, its settings, our wording). The wording is short: the embedded executor reads it.
ARITHMETIC_SETS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("chain_sum", {"min_terms": 2, "max_terms": 4, "min_digits": 3, "max_digits": 4}, "Calculate {expression}."),
    ("products", {"min_terms": 2, "max_terms": 2, "min_digits": 3, "max_digits": 3}, "Calculate {expression}."),
    (
        "basic_arithmetic",
        {"min_terms": 3, "max_terms": 3, "min_digits": 2, "max_digits": 2, "allow_negation": False},
        "Calculate {expression}.",
    ),
)
# Problems made at once; reasoning-gym sets are of a fixed size.
BLOCK = 64


def arithmetic(seed: int) -> Iterator[Problem]:
    """Yield short calculations, one of each set in turn, without end."""
    blocks = [_endless(name, settings, seed) for name, settings, _ in ARITHMETIC_SETS]
    for index in count():
        which = index % len(blocks)
        entry = next(blocks[which])
        expression = re.sub(r"\s+", " ", str(entry["metadata"]["expression"])).strip()
        question = ARITHMETIC_SETS[which][2].format(expression=expression)
        yield Problem.from_row({"question": question, "answer": entry["answer"], "source": "arithmetic"})


def gsm_symbolic(seed: int) -> Iterator[Problem]:
    """Yield word problems of several steps, without end."""
    for entry in _endless("gsm_symbolic", {}, seed):
        question = entry["question"].split(" Give the result as your final answer")[0]
        yield Problem.from_row({"question": question, "answer": entry["answer"], "source": "gsm_symbolic"})


def _endless(name: str, settings: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    import reasoning_gym  # a second to import, and only needed here

    for block in count():
        yield from reasoning_gym.create_dataset(name, size=BLOCK, seed=seed * 1_000_003 + block, **settings)
