"""Generated answers to questions: names, numbers, yes and no, and that there is no answer."""

import random
from collections.abc import Iterator

from scripts.fuzzing.case import Case, problem_of

_NAMES = (
    "Oslo",
    "Lima",
    "Rome",
    "Bern",
    "Quito",
    "Ada Lovelace",
    "Coca-Cola",
    "O'Neill",
    "Spider-Man",
    "Washington, D.C.",
)
_NO = ("No", "No.", "no", "**No**", "No, they are not.", "Answer: no")
_YES = ("Yes", "yes.", "Yes, both are.", "<answer>yes</answer>", "Yes, it is.")
_NEITHER = (
    "No idea",
    "No information is given",
    "No doubt",
    "yes and no",
    "Yes or no",
    "No one knows",
    "No. 1",
    "Yes; false",
    "maybe",
)
_SILENCE = (
    "unanswerable",
    "No answer",
    "N/A",
    "The passage does not say.",
    "It cannot be determined from the passage.",
)


def qa_cases(rng: random.Random) -> Iterator[Case]:
    """Gold answers of one kind, each with a right and a wrong answer."""
    yield from rng.choice([_closed, _named, _counted, _silent])(rng)


def _closed(rng: random.Random) -> Iterator[Case]:
    for gold, right, wrong in (("no", _NO, _YES), ("yes", _YES, _NO)):
        yield Case("qa: yes or no", problem_of(gold, "hotpotqa"), rng.choice(right), True)
        yield Case("qa: yes or no", problem_of(gold, "hotpotqa"), rng.choice([*wrong, *_NEITHER]), False)


def _named(rng: random.Random) -> Iterator[Case]:
    gold, other, third = rng.sample(_NAMES, 3)
    spelled = [
        gold,
        f"The {gold}.",
        gold.lower(),
        f"<answer>{gold}</answer>",
        f"Answer: {gold}\n\nExplanation: it says so.",
    ]
    spelled += [gold.replace("-", "‑").replace("'", "’"), f"{gold}\u200b", rf"\boxed{{\text{{{gold}}}}}"]
    joined = [f"{gold}{mark}{other}{mark}{third}" for mark in (", ", " or ", " | ", "\n", "; ", "/", " and ")]
    wrong = [*joined, other, f"definitely not {gold}", f"{gold} or {other}", f"{other} ({gold})", f"[{gold}] [{other}]"]
    yield Case("qa: names", problem_of(gold, "hotpotqa"), rng.choice(spelled), True)
    yield Case("qa: names", problem_of(gold, "hotpotqa"), rng.choice(wrong), False)


def _counted(rng: random.Random) -> Iterator[Case]:
    value = rng.randint(1, 99_999)
    for source in ("drop", "squad"):
        spelled = [str(value), f"{value:,}", f"Answer: {value}.", f"{value}.0" if source == "drop" else str(value)]
        wrong = [
            f"-{value}",
            f"{value / 10 + 0.01:.2f}",
            str(value * 10),
            str(value + 1),
            f"{value} or {value + 1}",
            f".{value}",
        ]
        yield Case("qa: numbers", problem_of(str(value), source), rng.choice(spelled), True)
        yield Case("qa: numbers", problem_of(str(value), source), rng.choice(wrong), False)


def _silent(rng: random.Random) -> Iterator[Case]:
    yield Case("qa: no answer", problem_of("", "squad"), rng.choice(_SILENCE), True)
    yield Case("qa: no answer", problem_of("", "squad"), rng.choice([*_NAMES, "The", "?", "It says Oslo"]), False)
    yield Case(
        "qa: gold of marks", problem_of(rng.choice(["A", "The The", "$", "+"]), "squad"), rng.choice(_SILENCE), False
    )
