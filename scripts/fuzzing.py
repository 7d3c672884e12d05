"""Generated answers with their verdicts, for `fuzz_graders.py` and the tests.

Example: the gold answer `\\frac{-7}{12}` gives the right answers `-7/12` and `\\boxed{-\\frac{7}{12}}` and the
wrong ones `7/12` and `\\boxed{-\\frac{7}{13}}`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
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

_FULLWIDTH = str.maketrans("0123456789-+", "０１２３４５６７８９－＋")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_DRESSES = (
    r"\boxed{@}",
    "<answer>@</answer>",
    "The answer is $@$.",
    "#### @",
    r"Thus $\boxed{@}$. I hope it is correct.",
    r"\boxed{\boldsymbol{@}}",
    r"\boxed{\color{red}{@}}",
)


def cases(rng: random.Random, domains: Sequence[str]) -> Iterator[Case]:
    """Yield cases without end: code, which is slow to run, one in two hundred."""
    weights = [1 if domain == "code" else 100 for domain in domains]
    while True:
        yield from GENERATORS[rng.choices(domains, weights)[0]](rng)


def _problem(answer: str, source: str) -> Problem:
    return Problem(
        question="What is it?", answer=answer, source=source, domain="qa" if source != "math" else "math", id=answer
    )


# Math: what is generated has a key, and two answers are equal when their keys are


def _math(rng: random.Random) -> Iterator[Case]:
    kind, make = rng.choice(list(_SHAPES.items()))
    key = make(rng, None)
    gold = rng.choice(_written(kind, key))
    for _ in range(3):
        dress = rng.choice(_DRESSES)
        yield Case(f"math: {kind}", _problem(gold, "math"), dress.replace("@", rng.choice(_written(kind, key))), True)
        other = make(rng, key)
        if other != key:
            answer = dress.replace("@", rng.choice(_written(kind, other)))
            yield Case(f"math: {kind}", _problem(gold, "math"), answer, False)


Key = tuple[int, ...]


def _changed(rng: random.Random, key: Key | None, fresh: Callable[[], Key]) -> Key:
    """A new key, or one that differs in one number by a digit, a sign or one."""
    if key is None:
        return fresh()
    parts = list(key)
    place = rng.randrange(len(parts))
    digits = list(str(abs(parts[place])))
    digit = rng.randrange(len(digits))
    digits[digit] = rng.choice("123456789")
    parts[place] = rng.choice([-parts[place], parts[place] + 1, int("".join(digits)), parts[place] * 10])
    return tuple(parts)


def _integer(rng: random.Random, key: Key | None) -> Key:
    return _changed(rng, key, lambda: (rng.choice([1, -1]) * rng.randrange(10 ** rng.randint(1, 60)),))


def _fraction(rng: random.Random, key: Key | None) -> Key:
    """Top and bottom in lowest terms: the bottom is a prime that does not divide the top."""
    bottom = rng.choice([7, 11, 13, 17, 19, 23, 97])
    top, bottom = _changed(rng, key, lambda: (rng.choice([1, -1]) * rng.randint(1, 6), bottom))
    return (top, bottom) if bottom > 1 and top and all(top % p or bottom % p for p in range(2, 100)) else key or (1, 7)


def _root(rng: random.Random, key: Key | None) -> Key:
    """`a sqrt(b)` with a square-free b."""
    a, b = _changed(rng, key, lambda: (rng.randint(2, 99), rng.choice([2, 3, 5, 6, 7, 10, 35])))
    return (a, b) if a and b > 1 and all(b % (p * p) for p in range(2, 40)) else key or (2, 3)


def _line(rng: random.Random, key: Key | None) -> Key:
    """`a x^n + b`."""
    a, n, b = _changed(rng, key, lambda: (rng.randint(2, 40), rng.randint(2, 12), rng.randint(1, 90)))
    return (a, n, b) if a and n > 1 and b else key or (2, 3, 4)


def _point(rng: random.Random, key: Key | None) -> Key:
    return _changed(rng, key, lambda: tuple(rng.randint(1, 50) for _ in range(rng.randint(2, 4))))


def _interval(rng: random.Random, key: Key | None) -> Key:
    """Two ends, and whether they belong to it."""
    low, high, closed = _changed(rng, key, lambda: (rng.randint(-40, 0), rng.randint(1, 50), rng.randint(0, 3)))
    return (low, high, closed) if low < high and 0 <= closed <= 3 else key or (0, 1, 0)


_SHAPES: dict[str, Callable[[random.Random, Key | None], Key]] = {
    "integer": _integer,
    "fraction": _fraction,
    "root": _root,
    "expression": _line,
    "point": _point,
    "interval": _interval,
}


def _written(kind: str, key: Key) -> list[str]:
    """Every spelling of a value that the fuzzer knows."""
    return {
        "integer": _integer_spellings,
        "fraction": _fraction_spellings,
        "root": _root_spellings,
        "expression": _line_spellings,
        "point": _point_spellings,
        "interval": _interval_spellings,
    }[kind](*key)


def _integer_spellings(value: int) -> list[str]:
    text, grouped = str(value), f"{value:,}"
    signs = [text.replace("-", sign) for sign in "−－"]
    separated = [grouped.replace(",", mark) for mark in ("{,}", r"\,", r",\!", "'", "\u202f", "\u00a0")]
    return [
        text,
        grouped,
        *signs,
        *separated,
        text.translate(_FULLWIDTH),
        text.translate(_ARABIC),
        f"{text}.0",
        f"{{{text}}}",
    ]


def _fraction_spellings(top: int, bottom: int) -> list[str]:
    sign, size = "-" if top < 0 else "", abs(top)
    bars = [rf"{sign}\{name}{{{size}}}{{{bottom}}}" for name in ("frac", "dfrac", "tfrac", "cfrac")]
    return [
        *bars,
        rf"\frac{{{top}}}{{{bottom}}}",
        f"{top}/{bottom}",
        rf"{{{top} \over {bottom}}}",
        f"{3 * top}/{3 * bottom}",
    ]


def _root_spellings(a: int, b: int) -> list[str]:
    return [
        rf"{a}\sqrt{{{b}}}",
        f"{a}√{b}",
        f"{a}*sqrt({b})",
        rf"{a} \cdot {b}^{{1/2}}",
        rf"\sqrt{{{b}}} \cdot {a}" if a > 0 else f"{a}√{b}",
    ]


def _line_spellings(a: int, n: int, b: int) -> list[str]:
    end = f"+ {b}" if b > 0 else f"- {-b}"
    return [
        f"{a}x^{{{n}}} {end}",
        f"{a}*x**{n} {end}",
        f"{b} + {a}x^{{{n}}}" if a > 0 else f"{b} - {-a}x^{{{n}}}",
        rf"{a} \cdot x^{{{n}}}{end}",
    ]


def _point_spellings(*parts: int) -> list[str]:
    inner = ", ".join(map(str, parts))
    column = r" \\ ".join(map(str, parts))
    return [
        f"({inner})",
        rf"\left({inner}\right)",
        rf"\begin{{pmatrix}}{column}\end{{pmatrix}}",
        rf"\bigl({inner}\bigr)",
    ]


def _interval_spellings(low: int, high: int, closed: int) -> list[str]:
    left, right = "(["[closed & 1], ")]"[closed >> 1]
    less, more = (r"<", r"\le")[closed & 1], (r"<", r"\le")[closed >> 1]
    return [
        f"{left}{low}, {high}{right}",
        rf"\left{left}{low},{high}\right{right}",
        rf"{low} {less} x {more} {high}",
        rf"x \in {left}{low},{high}{right}",
    ]


# Questions and answers


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


def _qa(rng: random.Random) -> Iterator[Case]:
    yield from rng.choice([_closed, _named, _counted, _silent])(rng)


def _closed(rng: random.Random) -> Iterator[Case]:
    for gold, right, wrong in (("no", _NO, _YES), ("yes", _YES, _NO)):
        yield Case("qa: yes or no", _problem(gold, "hotpotqa"), rng.choice(right), True)
        yield Case("qa: yes or no", _problem(gold, "hotpotqa"), rng.choice([*wrong, *_NEITHER]), False)


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
    yield Case("qa: names", _problem(gold, "hotpotqa"), rng.choice(spelled), True)
    yield Case("qa: names", _problem(gold, "hotpotqa"), rng.choice(wrong), False)


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
        yield Case("qa: numbers", _problem(str(value), source), rng.choice(spelled), True)
        yield Case("qa: numbers", _problem(str(value), source), rng.choice(wrong), False)


def _silent(rng: random.Random) -> Iterator[Case]:
    yield Case("qa: no answer", _problem("", "squad"), rng.choice(_SILENCE), True)
    yield Case("qa: no answer", _problem("", "squad"), rng.choice([*_NAMES, "The", "?", "It says Oslo"]), False)
    yield Case(
        "qa: gold of marks", _problem(rng.choice(["A", "The The", "$", "+"]), "squad"), rng.choice(_SILENCE), False
    )


# Code: programs that print whole numbers


def _code(rng: random.Random) -> Iterator[Case]:
    value = rng.randrange(10 ** rng.randint(1, 40))
    digits = list(str(value))
    place = rng.randrange(len(digits))
    digits[place] = rng.choice([digit for digit in "123456789" if digit != digits[place]])
    row = {"question": "Print it.", "answer": "", "source": "made", "domain": "code"}
    problem = Problem.from_row({**row, "tests": [{"input": "", "output": f"{value}\n"}]})
    yield Case("code: whole numbers", problem, f"print({value})", True)
    yield Case("code: whole numbers", problem, f"print('{''.join(digits)}')", False)


GENERATORS: dict[str, Generator] = {"math": _math, "qa": _qa, "code": _code}
