r"""Math: is the number or expression in the answer the gold one, or close to it?

Example: gold `18`, answer `She makes 9 * 2 = <answer>$18</answer> every day.`

Where the answer is looked for, in this order: the last `<answer>` tag, the last `\boxed{}`, the last `#### n` (GSM8K's
own mark), the last "the answer is ...", a last line `A: n`, a number after the last `=`, the last number.
Equality is decided by numbers first (thousands separators, currency, percent signs, units, fractions, mixed numbers),
then by text, then by `math-verify`
(https://github.com/huggingface/Math-Verify) in the sandbox, for short expressions only.
"""

import json
import math
import re
from fractions import Fraction

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.tiers import Grade, Tier

RELATIVE_TOLERANCE = 1e-6
# An answer is read from its end: this many characters are plenty.
MAX_TEXT_CHARS = 20_000
MAX_EXPRESSION_CHARS = 300
VERIFY_SECONDS = 15.0

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_MARK = re.compile(r"####[^\S\n]*(\S[^\n]*)")
_SENTENCE = re.compile(r"answer\s+is\s*:?\s*([^\n]+)", re.IGNORECASE)
_LABEL = re.compile(r"^\s*(?:A|answer)\s*:\s*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?<=[\d])")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(-?\d+)\s*\}")
_FRACTION = re.compile(r"([-+]?)(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)")

_VERIFY = """
import json
gold, answer = json.loads(_read(int(_read(8))))
from math_verify import parse, verify
equal = False
for form in ("{}", "${}$"):
    left, right = (parse(form.replace("{}", text), parsing_timeout=None) for text in (gold, answer))
    equal = equal or bool(left and right and verify(left, right, timeout_seconds=None))
print(json.dumps(equal))
"""


async def grade_math(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade a numeric or symbolic answer.

    Args:
        answer (`str`): the workflow's answer, prose and all.
        problem (`Problem`): its `answer` is the gold one.
        sandbox (`Sandbox`): where symbolic comparison runs, under a hard time limit.

    Raises:
        SandboxError: the symbolic comparison could not be run.
    """
    extracted = extract_answer(answer)
    if extracted is None:
        return Grade(1, False, None, "no number and no marked answer")
    gold = extract_answer(problem.answer) or problem.answer
    value, gold_value = to_number(extracted), to_number(gold)
    if value is not None and gold_value is not None:
        tier = numeric_tier(value, gold_value)
        return Grade(tier, tier == 5, extracted, f"{extracted} against {gold}")
    if _plain(extracted) == _plain(gold):
        return Grade(5, True, extracted, "the same text")
    if (
        max(len(extracted), len(gold)) <= MAX_EXPRESSION_CHARS
        and _may_be_equal(extracted, gold)
        and await _verified(gold, extracted, sandbox)
    ):
        return Grade(5, True, extracted, f"{extracted} equals {gold}")
    usable = bool(_numbers(extracted)) or any(mark in answer for mark in ("\\boxed", "<answer>", "####"))
    return Grade(2 if usable else 1, False, extracted, f"{extracted[:80]} is not {gold[:80]}")


def numeric_tier(value: float, gold: float) -> Tier:
    """Return the tier of a number: equal within 1e-6 relative, within 5 %, within 50 %, or any number."""
    if math.isclose(value, gold, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-9):
        return 5
    error = abs(value - gold) / abs(gold) if gold else math.inf
    return 4 if error < 0.05 else 3 if error < 0.5 else 2


def extract_answer(text: str) -> str | None:
    """Find the final answer in a text, in the order that the module documents.

    Returns:
        `str` or `None` when the text has neither a mark nor a number. Never raises.
    """
    text = text[-MAX_TEXT_CHARS:]
    if tags := _TAG.findall(text):
        inner = tags[-1].strip()
        return _boxed(inner) or inner or None
    if (boxed := _boxed(text)) is not None:
        return boxed.strip() or None
    for pattern in (_MARK, _SENTENCE, _LABEL):
        if found := pattern.findall(text):
            answer = found[-1].strip().rstrip(".").strip("*").strip()
            return _number_in(answer) or answer or None
    stripped = text.strip()
    if to_number(stripped) is not None:
        return stripped
    result = stripped.rpartition("=")[2].strip()
    if result != stripped and to_number(result) is not None:
        return result
    if 0 < len(stripped) <= 60 and "\n" not in stripped and _looks_symbolic(stripped):
        return stripped
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _looks_symbolic(text: str) -> bool:
    return bool(re.search(r"[\\^=\[\](){}]|\d\s*/\s*\d|\b[xyn]\b", text)) and len(text.split()) <= 8


def _number_in(text: str) -> str | None:
    """The number of a short phrase such as `$18 per day`, unless the phrase is an expression."""
    if to_number(text) is not None or _looks_symbolic(text):
        return None
    numbers = _numbers(text)
    return numbers[0] if numbers else None


def _numbers(text: str) -> list[str]:
    return [match.group() for match in _NUMBER.finditer(text) if any(c.isdigit() for c in match.group())]


def _boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, nested braces included."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 7 : position]
    return None


def to_number(text: str) -> float | None:
    """Return the number that a text is, or `None`: `1,234`, `$5.00`, `50%`, `3/4`, `1 1/2`, `\\frac{1}{2}`, `7 apples`.

    A percent sign and a unit after the number are dropped, as GSM8K's and MATH's own checkers do.
    """
    text = text.strip().strip("$").replace("−", "-").replace("\\$", "").replace("\\%", "%").replace("\\!", "")
    if len(text) > 80:
        return None
    text = _LATEX_FRACTION.sub(r"\1/\2", text).rstrip(".").strip()
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text).replace("{,}", ",").strip()
    text = re.sub(r"^(-?)[$€£]\s*", r"\1", text)
    if match := re.fullmatch(r"([-+]?)(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)\s*%?", text):
        sign, whole, top, bottom = match.groups()
        if int(bottom) == 0:
            return None
        fraction = Fraction(int(whole or 0)) + Fraction(int(top), int(bottom))
        return float(-fraction if sign == "-" else fraction)
    match = re.fullmatch(r"(" + _NUMBER.pattern + r")\s*(?:%|°|[a-zA-Z]+(?:[ ./^][a-zA-Z\d]+){0,3}\.?)?", text)
    if match is None or not any(character.isdigit() for character in match.group(1)):
        return None
    try:
        value = float(match.group(1).replace(",", ""))
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _plain(text: str) -> str:
    return re.sub(r"\s+|\\left|\\right|\\,|\$|\\text\{|[{}]", "", text).strip(".").lower()


def _may_be_equal(answer: str, gold: str) -> bool:
    """Whether both look like mathematics, so that asking `math-verify` is worth its start-up."""
    return all(re.search(r"\d|\\|[a-z]\b", text) for text in (answer, gold)) and len(answer.split()) <= 12


async def _verified(gold: str, answer: str, sandbox: Sandbox) -> bool:
    pair = json.dumps([gold, answer])
    result = await sandbox.run(_VERIFY, timeout=VERIFY_SECONDS, stdin=f"{len(pair):08d}{pair}")
    if result.error is not None and "ModuleNotFoundError" in result.error:
        raise SandboxError(f"math-verify is not installed for {result.error}")
    return result.ok and result.stdout.strip().endswith("true")
