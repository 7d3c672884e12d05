r"""Math: is the number or expression in the answer the gold one, or close to it?

Example: gold `18`, answer `She makes 9 * 2 = <answer>$18</answer> every day.`

`math_text.py` says where the answer is looked for. Equality is decided by numbers first (thousands separators,
currency, percent signs, units, fractions, mixed numbers), then by text, then by `math-verify`
(https://github.com/huggingface/Math-Verify) in the sandbox under a hard time limit: LaTeX, sets, intervals, tuples,
equations. Rows of AIME follow its rule: the answer is an integer from 0 to 999.
"""

import json
import math
import re
from functools import cache
from types import CodeType

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.graders.math_text import (
    find_answer,
    find_marked,
    is_calculation,
    is_expression,
    is_percent,
    lists_several,
    numbers_in,
    to_number,
)
from rewards.tiers import Grade, Tier

RELATIVE_TOLERANCE = 1e-6
MAX_EXPRESSION_CHARS = 300
VERIFY_SECONDS = 6.0

_VERIFY = """
import json
gold, answer = json.loads(_read(int(_read(8))))
from math_verify import LatexExtractionConfig, parse, verify
# The whole text as LaTeX or nothing: its other readings take the first number, so that 12 would be 12 pi.
whole = {"extraction_config": [LatexExtractionConfig()], "fallback_mode": "no_fallback", "parsing_timeout": None}
left, right = (parse(f"${text}$", **whole) for text in (gold, answer))
print(json.dumps(bool(left and right and verify(left, right, timeout_seconds=None))))
"""


async def grade_math(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade a numeric or symbolic answer.

    Args:
        answer (`str`): the workflow's answer, prose and all.
        problem (`Problem`): its `answer` is the gold one, by itself or at the end of a worked solution.
        sandbox (`Sandbox`): where symbolic comparison runs, under a hard time limit.

    Raises:
        SandboxError: the symbolic comparison could not be run.
    """
    extracted = find_answer(answer)
    if extracted is not None:  # "10/3 = 3.33..." claims the exact value
        extracted = re.split(r"\s*(?:\\approx|≈)", extracted)[0] or extracted
    if extracted is None:
        return Grade(1, False, None, "no number and no marked answer")
    grades = [await _grade(extracted, gold_answer(gold), answer, problem, sandbox) for gold in problem.golds]
    return max(grades, key=lambda grade: grade.tier)


async def _grade(extracted: str, gold: str, answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    value, gold_value = to_number(extracted), to_number(gold)
    if value is not None and gold_value is not None:
        return _numeric_grade(extracted, value, gold, gold_value, aime=problem.source.lower().startswith("aime"))
    if plain_text(extracted) == plain_text(gold) or _unnamed(extracted) == _unnamed(gold):
        return Grade(5, True, extracted, "the same text")
    if gold_value is not None and is_calculation(extracted):
        return Grade(2, False, extracted, "a calculation, not its result")
    if lists_several(extracted) and not lists_several(gold) and "\\pm" not in gold:
        return Grade(2, False, extracted, "names several answers")
    if lists_several(gold):
        extracted = re.sub(r"\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b", ",", extracted)
    if _comparable(extracted, gold) and await _verified(gold, extracted, sandbox):
        return Grade(5, True, extracted, f"{extracted} equals {gold}")
    usable = bool(numbers_in(extracted)) or any(mark in answer for mark in ("\\boxed", "<answer>", "####"))
    return Grade(2 if usable else 1, False, extracted, f"{extracted[:80]} is not {gold[:80]}", disputable=True)


def gold_answer(text: str) -> str:
    """Return the gold answer: what is marked in a worked solution, else the whole text."""
    return find_marked(text) or text.strip()


def numeric_tier(value: float, gold: float) -> Tier:
    """Return the tier of a number: equal within 1e-6 relative, within 5 %, within 50 %, or any number."""
    if math.isclose(value, gold, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-9):
        return 5
    error = abs(value - gold) / abs(gold) if gold else math.inf
    return 4 if error < 0.05 else 3 if error < 0.5 else 2


def _numeric_grade(extracted: str, value: float, gold: str, gold_value: float, *, aime: bool) -> Grade:
    detail = f"{extracted} against {gold}"
    if aime and not (value.is_integer() and 0 <= value <= 999):
        return Grade(2, False, extracted, f"{detail}; an AIME answer is an integer from 0 to 999")
    tier = numeric_tier(value, gold_value)
    if is_percent(extracted) != is_percent(gold):  # 50 % is 50 in one book and 0.5 in another
        scaled = value / 100 if is_percent(extracted) else value * 100
        tier = max(tier, numeric_tier(scaled, gold_value))
    return Grade(tier, tier == 5, extracted, detail)


def plain_text(text: str) -> str:
    """Return a text without space, braces, LaTeX decoration, a choice's parentheses and case."""
    text = re.sub(
        r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*(?=\{)|\\left|\\right|(?<!\\)\\[!,;: ()\[\]]|\\\$|[\s${}]", "", text
    )
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").strip(".*").lower()
    text = re.sub(r"(?<=\d)([ap])\.m$", r"\1m", text)
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else text


def _unnamed(text: str) -> str:
    """A text without a leading `y =` or `f(x) =`, as MATH's own checker compares."""
    return re.sub(r"^[a-z]\w?(?:\([a-z]\))?=", "", plain_text(text))


def _comparable(answer: str, gold: str) -> bool:
    """Whether both are mathematics only: `math-verify` picks what it likes out of a sentence."""
    return max(len(answer), len(gold)) <= MAX_EXPRESSION_CHARS and all(
        is_expression(text) or to_number(text) is not None or bool(re.fullmatch(r"[-\d\s.,/+*^()!]+", text))
        for text in (answer, gold)
    )


async def _verified(gold: str, answer: str, sandbox: Sandbox) -> bool:
    pair = json.dumps([_latex(text) for text in (gold, answer)])
    result = await sandbox.run(_verifier(), timeout=VERIFY_SECONDS, stdin=f"{len(pair):08d}{pair}")
    if result.error is not None and "ModuleNotFoundError" in result.error:
        raise SandboxError(f"math-verify is not installed for {result.error}")
    return result.ok and result.stdout.strip().endswith("true")


def _latex(text: str) -> str:
    """An expression as LaTeX: without what delimits it, and with Python's powers and pi written anew."""
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text.strip().strip("$")).replace("**", "^")
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi", text)
    return re.sub(r"^([A-Za-z])\s*\([A-Za-z]\)\s*=", r"\1 =", text)


@cache
def _verifier() -> CodeType:
    return compile(_VERIFY, "<verify>", "exec")
