"""Small tasks with right solutions in several styles and the near misses of each.

Example: "sum of cubes" has a generator expression, a loop and a formula; `range(1, n)` for `range(1, n + 1)` is a miss.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """A function to write.

    Args:
        name (`str`): for the table of cases.
        args (`str`): its parameters, as they stand in the signature.
        bodies (`tuple[str, ...]`): right ones, each another way to do it.
        misses (`tuple[tuple[str, str], ...]`): what becomes what in the first body, to make it wrong.
        draw (`Callable`): makes the arguments of one test.
    """

    name: str
    args: str
    bodies: tuple[str, ...]
    misses: tuple[tuple[str, str], ...]
    draw: Callable[[random.Random], list[Any]]


def _numbers(rng: random.Random, low: int = -50, high: int = 50) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(2, 9))]


def _word(rng: random.Random, letters: str = "aabbc") -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 12)))


TASKS = (
    Task(
        "sum of cubes",
        "n",
        (
            "return sum(i**3 for i in range(1, n + 1))",
            "total = 0\nfor i in range(1, n + 1):\n    total += i * i * i\nreturn total",
            "return (n * (n + 1) // 2) ** 2",
        ),
        (("n + 1", "n"), ("i**3", "i**2"), ("range(1,", "range(2,"), ("return sum", "return 1 + sum")),
        lambda rng: [rng.randint(2, 10**4)],
    ),
    Task(
        "power modulo",
        "a, n",
        (
            "return pow(a, n, 1000000007)",
            "result, m = 1, 10**9 + 7\nwhile n:\n    if n & 1:\n        result = result * a % m\n"
            "    a = a * a % m\n    n >>= 1\nreturn result",
        ),
        (("1000000007", "1000000006"), ("a, n,", "n, a,"), (", 1000000007)", ") % 998244353"), ("return", "return -")),
        lambda rng: [rng.randint(2, 10**6), rng.randint(2, 500)],
    ),
    Task(
        "factorial",
        "n",
        (
            "result = 1\nfor i in range(2, n + 1):\n    result *= i\nreturn result",
            "import math\nreturn math.factorial(n)",
            "return 1 if n < 2 else n * {f}(n - 1)",
        ),
        (
            ("n + 1", "n"),
            ("result = 1", "result = 1.0"),
            ("range(2", "range(3"),
            ("return result", "return result + 1"),
        ),
        lambda rng: [rng.randint(25, 60)],
    ),
    Task(
        "sorted by distance",
        "values, k",
        (
            "return sorted(values, key=lambda v: (abs(v - k), v))",
            "pairs = [(abs(v - k), v) for v in values]\npairs.sort()\nreturn [v for _, v in pairs]",
        ),
        (
            ("abs(v - k)", "v - k"),
            (", v))", ", -v))"),
            ("sorted(", "list(reversed(sorted("),
            ("sorted(values", "sorted(set(values)"),
            ("return sorted(values", "return sorted(values[1:]"),
        ),
        lambda rng: [[5, -5, *_numbers(rng)], 0],
    ),
    Task(
        "running maximum",
        "values",
        (
            "from itertools import accumulate\nreturn list(accumulate(values, max))",
            "best, out = values[0], []\nfor v in values:\n    best = max(best, v)\n    out.append(best)\nreturn out",
        ),
        (("max", "min"), ("return list", "return list(reversed(list"), ("values, max))", "values, max))[:-1]")),
        lambda rng: [[*_numbers(rng), 60]],
    ),
    Task(
        "run lengths",
        "text",
        (
            "from itertools import groupby\nreturn ''.join(f'{c}{len(list(g))}' for c, g in groupby(text))",
            "out, i = '', 0\nwhile i < len(text):\n    j = i\n    while j < len(text) and text[j] == text[i]:\n"
            "        j += 1\n    out += text[i] + str(j - i)\n    i = j\nreturn out",
        ),
        (
            ("{c}{len", "{len"),
            ("groupby(text)", "groupby(text[1:])"),
            ("''.join", "' '.join"),
            ("(text))", "(text + 'z'))"),
        ),
        lambda rng: [_word(rng)],
    ),
    Task(
        "is a palindrome",
        "text",
        (
            "return text == text[::-1]",
            "return all(text[i] == text[-1 - i] for i in range(len(text)))",
        ),
        (
            ("==", "!="),
            ("return text", "return True or text"),
            ("return text", "return False and text"),
            ("::-1]", "::-1] + 'a'"),
        ),
        lambda rng: [rng.choice(["aba", "abba", "ab", "aab", _word(rng)])],
    ),
    Task(
        "least and most",
        "values",
        ("return min(values), max(values)", "values = sorted(values)\nreturn values[0], values[-1]"),
        (
            ("min(values), max", "max(values), max"),
            ("min(values), max(values)", "max(values), min(values)"),
            ("max(values)", "max(values) + 1"),
            (", max(values)", ""),
        ),
        lambda rng: [[-60, *_numbers(rng), 60]],
    ),
    Task(
        "transposed",
        "rows",
        (
            "return [list(column) for column in zip(*rows)]",
            "return [[row[i] for row in rows] for i in range(len(rows[0]))]",
        ),
        (("zip(*rows)", "rows"), ("list(column)", "list(column)[::-1]"), ("zip(*rows)]", "zip(*rows)][1:]")),
        lambda rng: [[[rng.randint(0, 9) for _ in range(3)] + [10] for _ in range(2)]],
    ),
    Task(
        "mean",
        "values",
        ("return sum(values) / len(values)", "import statistics\nreturn statistics.fmean(values)"),
        (
            ("len(values)", "(len(values) + 1)"),
            ("/ len", "// len"),
            ("return sum(values) / len(values)", "return sum(values) / len(values) + 0.001"),
            ("return", "return -"),
        ),
        lambda rng: [[rng.randint(1, 99) for _ in range(rng.choice([3, 7, 9]))] + [100]],
    ),
    Task(
        "evens first",
        "values",
        (
            "return [v for v in values if v % 2 == 0] + [v for v in values if v % 2]",
            "return sorted(values, key=lambda v: v % 2)",
        ),
        (("v % 2 == 0", "v % 2"), ("== 0] +", "== 0] and"), ("v % 2]", "v % 2 and v != 7]")),
        lambda rng: [[8, *_numbers(rng), 7, 4, 3]],
    ),
    Task(
        "how often",
        "text",
        (
            "from collections import Counter\nreturn dict(Counter(text))",
            "found = {}\nfor c in text:\n    found[c] = found.get(c, 0) + 1\nreturn found",
        ),
        (
            ("Counter(text)", "Counter(text[1:])"),
            ("Counter(text)", "Counter(text + 'a')"),
            ("Counter(text)", "enumerate(text)"),
        ),
        lambda rng: [_word(rng)],
    ),
)
