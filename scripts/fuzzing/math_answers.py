"""Generated math answers: each is written from a key, and two are equal when their keys are.

Example: the key (-7, 12) is written `-7/12`, `\\frac{-7}{12}`, `-21/36`; (7, 12) and (-7, 13) are near misses.
"""

import random
from collections.abc import Callable, Iterator

from scripts.fuzzing.case import Case, problem_of

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


_ENDS = (
    "So she has {a} + {b} = {c} {things} left.",
    "Altogether there are {d} - {b} = {c} {things} in the box.",
    "<answer>There are {c} {things} in the class.</answer>",
    "In the end {c} {things} are left, because {a} + {b} = {c}",
    "The total is ${c}$. I hope it is correct.",
    "Hence the remainder is {c}.",
    "B) {c}",
    r"\boxed{{\text{{There are }} {c} \text{{ {things} left.}}}}",
    r"Then ${a} + {b} = \boxed{{{c}}}$ {things} are left.",
    "So there are **{c} {things}** left in the box.",
)
# Each says something else than {c}, or leaves it open.
_OTHER_ENDS = (
    "So she has {a} + {b} = {c} {things} or {d}.",
    "It is not {a} + {b} = {c} {things}.",
    "That is more than {a} + {b} = {c} {things}.",
    "She has {a} + {b} = {c} times as many {things}.",
    "If {a} + {b} = {c} {things} are red, the others are green.",
    "She has {a} + {b} = {c} dozen {things}.",
    "<answer>There are {c} {things} in each class.</answer>",
    "<answer>{c}% of {d}</answer>",
    "This fails for n = {c}.",
    "See Theorem {c}.",
    "A) {d} B) {c}",
    r"$10^{{\boxed{{{c}}}}}$",
    r"$\boxed{{{c}}} + {a}$",
    r"The remainder of $\log \boxed{{{c}}}$",
    r"\boxed{{\text{{She has }} {a} \text{{ of }} {c} \text{{ {things}}}}}",
    "The minimum is {d} for x = {c}.",
)


def math_cases(rng: random.Random) -> Iterator[Case]:
    """One gold answer with equal and other answers."""
    if rng.random() < 0.1:
        yield from _sentences(rng)
        return
    kind, make = rng.choice(list(_SHAPES.items()))
    key = make(rng, None)
    gold = rng.choice(spellings(kind, key))
    for _ in range(3):
        dress = rng.choice(_DRESSES)
        yield Case(
            f"math: {kind}", problem_of(gold, "math"), dress.replace("@", rng.choice(spellings(kind, key))), True
        )
        other = make(rng, key)
        if other != key:
            answer = dress.replace("@", rng.choice(spellings(kind, other)))
            yield Case(f"math: {kind}", problem_of(gold, "math"), answer, False)


def _sentences(rng: random.Random) -> Iterator[Case]:
    """A number at the end of a sentence, worked out there or not."""
    a, b = rng.randint(2, 400), rng.randint(2, 400)
    words = {"a": a, "b": b, "c": a + b, "d": a + 2 * b, "things": rng.choice(["apples", "students", "dollars"])}
    for ends, right in ((_ENDS, True), (_OTHER_ENDS, False)):
        answer = rng.choice(ends).format(**words)
        yield Case("math: sentence", problem_of(str(a + b), "math"), answer, right)


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


def spellings(kind: str, key: Key) -> list[str]:
    """Return every spelling of a value that the fuzzer knows.

    Args:
        kind (`str`): `integer`, `fraction`, `root`, `expression`, `point` or `interval`.
        key (`tuple[int, ...]`): the value's numbers.
    """
    written: dict[str, Callable[..., list[str]]] = {
        "integer": _integer_spellings,
        "fraction": _fraction_spellings,
        "root": _root_spellings,
        "expression": _line_spellings,
        "point": _point_spellings,
        "interval": _interval_spellings,
    }
    return written[kind](*key)


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
