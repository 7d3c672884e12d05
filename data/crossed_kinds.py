"""Problems that another workflow solves than the other problems of their domain: math to be read, qa to be calculated.

Example row of `read_numbers`, math whose number stands in a passage, so that there is nothing to calculate:

    {"context": "Mila Torvan takes bus 431. Jonas Halden lives in room 12. Mila Torvan keeps a parrot. ...",
     "question": "Which bus does Mila Torvan take?", "answer": "431", "source": "read_numbers"}

Example row of `calculations`, questions without a passage that a program of one line answers, and nobody by heart:

    {"question": "How much is 477 * 863?", "answer": "411651", "source": "calculations"}

Beside `arithmetic` and `invented_facts` they make a domain of two kinds, in which a policy that knows no more than the
domain is bad at one of them. The question tells the kinds apart.
"""

import random
from collections.abc import Iterator

from data.invented_facts import ANIMALS, COLOURS, FIRST_NAMES, JOBS, LAST_PARTS
from data.problem import Problem

# (fact, its question, the least and the greatest number)
NUMBER_FACTS: tuple[tuple[str, str, int, int], ...] = (
    ("{name} lives in room {number}.", "In which room does {name} live?", 3, 999),
    ("{name} is {number} years old.", "How old is {name}?", 7, 99),
    ("{name} takes bus {number}.", "Which bus does {name} take?", 3, 999),
)


def read_numbers(seed: int) -> Iterator[Problem]:
    """Yield questions for one of two numbers in a passage, without end."""
    rng = random.Random(f"read_numbers {seed}")
    while True:
        (fact, question, *bounds), (other_fact, _, *other_bounds) = rng.sample(NUMBER_FACTS, 2)
        name, other = _two_names(rng)
        number, other_number = rng.randint(*bounds), rng.randint(*other_bounds)
        if number == other_number:
            continue
        sentences = [
            fact.format(name=name, number=number),
            other_fact.format(name=other, number=other_number),
            rng.choice((f"{name} keeps a {rng.choice(ANIMALS)}.", f"{name} drives a {rng.choice(COLOURS)} car.")),
            f"{other} works as a {rng.choice(JOBS)}.",
        ]
        rng.shuffle(sentences)
        row = {"question": question.format(name=name), "answer": str(number), "context": " ".join(sentences)}
        yield Problem.from_row({**row, "source": "read_numbers"})


def calculations(seed: int) -> Iterator[Problem]:
    """Yield questions for a product, a sum, or one of each, without end; no answer is below 0."""
    rng = random.Random(f"calculations {seed}")
    while True:
        a, b, c = (rng.randint(100, 999) for _ in range(3))
        x, y = (rng.randint(11, 99) for _ in range(2))
        expression, value = rng.choice(
            (
                (f"{a} * {b}", a * b),
                (f"{a} + {b} + {c}", a + b + c),
                (f"{a + b} - {c} + {x}", a + b - c + x),
                (f"{a} + {x} * {y}", a + x * y),
            )
        )
        if value >= 0:
            row = {"question": f"How much is {expression}?", "answer": str(value), "source": "calculations"}
            yield Problem.from_row(row)


def _two_names(rng: random.Random) -> tuple[str, str]:
    one, other = (
        f"{first} {rng.choice(LAST_PARTS[0])}{rng.choice(LAST_PARTS[1])}" for first in rng.sample(FIRST_NAMES, 2)
    )
    return one, other
