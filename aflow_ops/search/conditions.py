"""What a workflow can tell problems apart by: typed conditions on the text that it receives, learned from problems.

| text | expression in the workflow |
|---|---|
| `starts 'Calculate'` | `problem.startswith('Calculate')` |
| `has 'Context'` | `'Context' in problem` |
| `words > 40` | `len(problem.split()) > 40` |
| `numbers > 2` | `len(re.findall(r"\\d+", problem)) > 2` |
| `lines > 1` | `len(problem.splitlines()) > 1` |

Nothing here knows a domain: words and bounds are taken from the problems of the search.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# A condition of a search must hold for at least so many of its problems, and fail for as many; a split rests on more,
# and on an eighth of them where they are many.
LEAST_PROBLEMS, LEAST_TO_SPLIT = 2, 3
MAX_CONDITIONS = 120
_BOUNDS = 6
_WORD = re.compile(r"[A-Za-z]{2,20}")
_COUNTS: dict[str, tuple[str, Callable[[str], int]]] = {
    "words": ("len(problem.split())", lambda text: len(text.split())),
    "numbers": (r'len(re.findall(r"\d+", problem))', lambda text: len(re.findall(r"\d+", text))),
    "lines": ("len(problem.splitlines())", lambda text: len(text.splitlines())),
}
_TEXTS = {"starts": "problem.startswith({!r})", "has": "{!r} in problem"}
_COUNTED = re.compile(r"(words|numbers|lines) > (\d{1,6})")


@dataclass(frozen=True)
class Condition:
    """One condition.

    Args:
        feature (`str`): `"starts"`, `"has"`, or a count: `"words"`, `"numbers"`, `"lines"`.
        value (`str` or `int`): the word, or what the count must exceed.
    """

    feature: str
    value: str | int

    def __str__(self) -> str:
        return f"{self.feature} {self.value!r}" if self.feature in _TEXTS else f"{self.feature} > {self.value}"

    @property
    def expression(self) -> str:
        """The condition in Python, over `problem`."""
        if self.feature in _TEXTS:
            return _TEXTS[self.feature].format(self.value)
        return f"{_COUNTS[self.feature][0]} > {self.value}"

    def holds(self, text: str) -> bool:
        """Tell whether it holds for a problem, given as the workflow receives it."""
        if self.feature == "starts":
            return text.startswith(str(self.value))
        if self.feature == "has":
            return str(self.value) in text
        return _COUNTS[self.feature][1](text) > int(self.value)


def read_condition(text: str) -> Condition | None:
    """Return the condition that a text says; `None` when it says none."""
    if (counted := _COUNTED.fullmatch(text)) is not None:
        return Condition(counted[1], int(counted[2]))
    feature, _, value = text.partition(" ")
    try:
        word = ast.literal_eval(value) if feature in _TEXTS else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    condition = Condition(feature, word) if isinstance(word, str) and word else None
    return condition if condition is not None and str(condition) == text else None


def conditions_of(texts: Iterable[str]) -> list[Condition]:
    """Return conditions that tell some of the problems from the others, no two of them alike on all.

    Args:
        texts (`Iterable[str]`): of the problems, as workflows receive them.

    Returns:
        `list[Condition]`: first words before other words, words before counts; of conditions that hold for the same
        problems the first is kept.
    """
    known = list(dict.fromkeys(texts))
    found: dict[tuple[bool, ...], Condition] = {}
    for condition in _candidates(known):
        holds = tuple(map(condition.holds, known))
        if min(sum(holds), len(known) - sum(holds)) >= LEAST_PROBLEMS:
            found.setdefault(holds, condition)
    return list(found.values())[:MAX_CONDITIONS]


def _candidates(texts: list[str]) -> Iterable[Condition]:
    firsts = [match[0] for text in texts if (match := _WORD.match(text)) is not None]
    for word in sorted(set(firsts), key=lambda word: (-firsts.count(word), word)):
        yield Condition("starts", word)
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(_WORD.findall(text)):
            counts[word] = counts.get(word, 0) + 1
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        yield Condition("has", word)
    for feature, (_, count) in _COUNTS.items():
        values = sorted({count(text) for text in texts})
        for index in range(1, _BOUNDS + 1):
            if values:
                yield Condition(feature, values[index * (len(values) - 1) // (_BOUNDS + 1)])


@dataclass(frozen=True)
class Split:
    """A condition under which another workflow does better.

    Args:
        condition (`Condition`): which problems are the other's.
        gain (`float`): what the rewards of the shared problems add up to more.
    """

    condition: Condition
    gain: float


def splits(
    held: Mapping[Condition, frozenset[str]],
    mine: Mapping[str, float],
    other: Mapping[str, float],
    significant: Callable[[list[float]], bool],
) -> list[Split]:
    """Return the conditions under which the other workflow does better, best first.

    Args:
        held (`Mapping[Condition, frozenset[str]]`): for which problems each condition holds.
        mine (`Mapping[str, float]`): mean rewards of the workflow to improve, by problem.
        other (`Mapping[str, float]`): of the other one.
        significant (`Callable[[list[float]], bool]`): whether gains on some problems are more than their spread.
    """
    gains = {key: other[key] - reward for key, reward in mine.items() if key in other}
    found, least = [], max(LEAST_TO_SPLIT, len(mine) // 8)
    for condition, problems in held.items():
        inside = [gain for key, gain in gains.items() if key in problems]
        if least <= len(inside) < len(gains) and significant(inside):
            found.append(Split(condition, sum(inside)))
    return sorted(found, key=lambda split: -split.gain)
