r"""Math: is the number or expression in the answer the gold one, or close to it?

Example: gold `18`, answer `She makes 9 * 2 = <answer>$18</answer> every day.`

`math_text.py` says where the answer is looked for, `math_reading.py` how it is read and `math_compare.py` when two
readings are the same: whole numbers exactly, decimals within 1e-6, expressions by their values, and lists, sets,
intervals, vectors and matrices by their parts. What that notation lacks (integrals, sums, limits) is left to
`math-verify` (https://github.com/huggingface/Math-Verify) in the sandbox under a hard time limit. Rows of AIME follow
its rule: the answer is an integer from 0 to 999.
"""

import math
import re
import string
from collections.abc import Iterator, Sequence
from fractions import Fraction

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.graders.math_nodes import Node
from rewards.graders.math_reading import (
    PERCENT_SCALES,
    Reading,
    counts,
    readings_of,
    same_reading,
    same_words,
    units_agree,
    with_choice_apart,
    without_choice,
)
from rewards.graders.math_text import find_answer, find_marked, lists_several, numbers_in
from rewards.graders.math_value import WHOLE_FUNCTIONS, NoValueError, exact, number_of
from rewards.graders.math_verified import needs_verifier, verified
from rewards.tiers import Grade, Tier

_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_MARKS = ("\\boxed", "<answer>", "####")
_NAMED = re.compile(r"(?<![a-zA-Z\\])([a-z])\s*=(?![=>])")
_NAMED_VALUES = re.compile(r"\s*(?:,|;|\band\b|\\text\s*\{\s*and\s*\})\s*")
_TUPLE = re.compile(r"(?:\\left)?\(([^()]+?)(?:\\right)?\)")
_NAMED_TUPLE = re.compile(r"\s*(?:\\left)?\(\s*([a-z](?:\s*,\s*[a-z])+)\s*(?:\\right)?\)\s*=")
# What is asked for in percent, and what never is.
_PERCENT = re.compile(r"(?<![\d.])(?<![\d.}$] )(?:%|\\%|\bper\s?cent)", re.IGNORECASE)
_COUNT = re.compile(
    r"\bhow (?:many|long|far|old|tall)\b|\bnumber of\b|\bhow much (?:money|time|does|do|did|will|would|should)\b", re.I
)
_APPROXIMATION = re.compile(r"(?<=\S)\s*(?:\\approx|≈)")


async def grade_math(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade a numeric or symbolic answer; the best grade over the gold answers counts.

    Args:
        answer (`str`): the workflow's answer, prose and all.
        problem (`Problem`): its `answer` is the gold one, by itself or at the end of a worked solution.
        sandbox (`Sandbox`): where `math-verify` runs, for the few answers that need it.

    Raises:
        SandboxError: `math-verify` could not be run.
    """
    extracted = plain if _PLAIN_NUMBER.fullmatch(plain := answer.strip()) else find_answer(answer)
    if extracted is None:
        return Grade(1, False, None, "no number and no marked answer")
    extracted = _APPROXIMATION.split(extracted)[0]  # "10/3 = 3.33..." claims the exact value
    if extracted in problem.golds and _PLAIN_NUMBER.fullmatch(extracted) and not _of_aime(problem):
        return Grade(5, True, extracted, f"{extracted} against {extracted}")  # most right answers: nothing to read
    words = frozenset(re.findall(r"[a-z]{3,}", problem.question.lower()))
    golds = [form for gold in problem.golds for form in with_choice_apart(gold_answer(gold))]
    extracted = without_choice(extracted, golds)
    golds += [form for gold in golds for form in _by_name(gold, extracted)]
    grade = max((_grade(extracted, gold, answer, problem, words) for gold in golds), key=lambda grade: grade.tier)
    pairs = [(gold, extracted) for gold in golds if needs_verifier(gold, extracted)]
    if grade.tier < 5 and pairs and await verified(pairs, sandbox):
        return Grade(5, True, extracted, f"{extracted[:80]} equals the gold answer, by math-verify")
    return grade


def gold_answer(text: str) -> str:
    """Return the gold answer: what is marked in a worked solution, else the whole text."""
    return find_marked(text) or text.strip()


def _grade(extracted: str, gold: str, answer: str, problem: Problem, words: frozenset[str]) -> Grade:
    answers, golds = readings_of(extracted, words), readings_of(gold, words)
    detail = f"{extracted[:80]} against {gold[:80]}"
    number = next((reading.number for reading in answers if reading.number is not None), None)
    gold_number = next((reading for reading in golds if reading.number is not None), None)
    if _of_aime(problem) and gold_number is not None and not _is_aime(number):
        return Grade(2, False, extracted, f"{detail}; an AIME answer is an integer from 0 to 999")
    if any(is_literal(reading.node) for reading in golds) and any(is_calculation(reading.node) for reading in answers):
        return Grade(2, False, extracted, "a calculation, not its result")
    scales = _scales(problem, gold_number)
    if any(same_reading(one, other, scales=scales) for one in answers for other in golds):
        return Grade(5, True, extracted, detail)
    if same_words(extracted, gold):
        return Grade(5, True, extracted, "the same text")
    if _offers_several(extracted, answers) and not _offers_several(gold, golds):
        return Grade(2, False, extracted, "names several answers")
    if gold_number is not None:
        for reading in answers:
            if reading.number is not None and is_literal(reading.number) and units_agree(reading, gold_number):
                return Grade(_close_tier(reading, gold_number), False, extracted, detail)
    usable = bool(numbers_in(extracted)) or any(mark in answer for mark in _MARKS)
    return Grade(
        2 if usable else 1, False, extracted, f"{extracted[:80]} is not {gold[:80]}", disputable=number is None
    )


def _by_name(gold: str, extracted: str) -> Iterator[str]:
    """Yield a gold tuple as an answer may name its parts, or the other way round: `(2, 3)` is `x = 2, y = 3`.

    The names are neighbouring letters.
    """
    if _TUPLE.search(extracted) and not _out_of_order(extracted) and (values := _values_by_name(gold)):
        yield f"({', '.join(values)})"
    names = sorted(_NAMED.findall(extracted))
    parts = bracketed.group(1).split(",") if (bracketed := _TUPLE.fullmatch(gold.strip(" $"))) else []
    is_one = not re.search(r"\bor\b", extracted)
    if is_one and 1 < len(names) == len(parts) and "".join(names) in string.ascii_lowercase:
        yield ", ".join(f"{name} = {part}" for name, part in zip(names, parts, strict=True))


def _out_of_order(extracted: str) -> bool:
    """Whether a tuple names its parts, and not in the order of the alphabet: `(y, x) = (2, 3)`."""
    names = match.group(1).replace(" ", "").split(",") if (match := _NAMED_TUPLE.match(extracted)) else []
    return names != sorted(names)


def _values_by_name(gold: str) -> list[str]:
    """The values of `x = 2, y = 3` in the order of the names; empty for anything else."""
    parts = [part.partition("=") for part in _NAMED_VALUES.split(gold.strip(" $"))]
    named = sorted((name.strip(), value.strip()) for name, _, value in parts)
    in_order = "".join(name for name, _ in named) in string.ascii_lowercase
    whole = all(len(name) == 1 and value and not set(value) & set("=<>(") for name, value in named)
    return [value for _, value in named] if len(named) > 1 and in_order and whole else []


def _scales(problem: Problem, gold: Reading | None) -> Sequence[Fraction]:
    """What one percent of an answer may be of a gold number without the sign: one, where percents may be meant.

    `12` may be 12 % where nothing is counted, as AIME does; `3/4` hardly ever is 3/4 %; 1200 % is no 12 where percents
    are asked for.
    """
    one, hundredth = PERCENT_SCALES
    value = exact(gold.number) if gold is not None and gold.number is not None else None
    large = value is None or abs(value) >= 1 or value == 0
    if _PERCENT.search(problem.question):
        return (one,) if large else PERCENT_SCALES
    counted = _COUNT.search(problem.question) or _of_aime(problem)
    return PERCENT_SCALES if large and not counted else (hundredth,)


def _of_aime(problem: Problem) -> bool:
    return problem.source.lower().startswith("aime")


def _is_aime(number: Node | None) -> bool:
    value = exact(number) if number is not None else None
    return value is not None and value.denominator == 1 and 0 <= value <= 999


def _offers_several(text: str, readings: Sequence[Reading]) -> bool:
    return min(map(counts, readings)) > 1 if readings else lists_several(text)


def is_literal(node: Node) -> bool:
    """Whether a node is a number as it is written: digits, a fraction, a mixed number, a power of ten, a sign."""
    if node.op == "number":
        return True
    if node.op == "neg":
        return is_literal(node.args[0])
    if node.op == "div":
        return all(
            part.op == "number" or (part == Node("neg", part.args) and part.args[0].op == "number")
            for part in node.args
        )
    return node.text == "mixed" or _is_scientific(node)


def _is_scientific(node: Node) -> bool:
    if node.op != "mul" or node.args[0].op != "number" or node.args[1].op != "pow":
        return False
    base, exponent = node.args[1].args
    return base.op == "number" and base.value == 10 and is_literal(exponent)


def is_calculation(node: Node) -> bool:
    """Whether a node is a sum, difference or product of plain numbers that nobody has worked out: `24 * 68 + 3`."""
    return not is_literal(node) and _of_numbers(node) and _has_operation(node)


def _of_numbers(node: Node) -> bool:
    operation = node.op in ("number", "add", "mul", "neg", "pow", "div") or node.text in WHOLE_FUNCTIONS
    return operation and all(map(_of_numbers, node.args))


def _has_operation(node: Node) -> bool:
    own = (node.op in ("add", "mul") and not is_literal(node)) or node.op == "call"
    return own or any(map(_has_operation, node.args))


def _close_tier(answer: Reading, gold: Reading) -> Tier:
    """The tier of a number that is not equal, by its relative error; a percent sign may mean either."""
    assert answer.number is not None and gold.number is not None
    try:
        value, target = number_of(answer.number), number_of(gold.number)
    except NoValueError:
        return 2
    values = [value]
    if answer.percent != gold.percent:
        values.append(value / 100 if answer.percent else value * 100)
    return max(near_tier(item, target) for item in values)


def near_tier(value: float, gold: float) -> Tier:
    """Return the tier of a number that is not the gold one: within 5 %, within 50 %, or any number."""
    error = abs(value - gold) / abs(gold) if gold else math.inf
    return 4 if error < 0.05 else 3 if error < 0.5 else 2
