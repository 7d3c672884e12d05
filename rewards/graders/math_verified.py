r"""`math-verify` for the notation that `math_parse.py` does not read: integrals, sums, products, limits, derivatives.

Example: `\sum_{k=1}^{n} k` against `\sum_{j=1}^{n} j`.

It runs in the sandbox, all gold answers of a problem in one program, in a worker that has imported it already.
"""

import json
import re
from collections.abc import Sequence
from functools import cache

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox import Program, Sandbox

MAX_EXPRESSION_CHARS = 300
# What a comparison may compute, and how long it may take on a busy machine.
VERIFY_CPU_SECONDS, VERIFY_SECONDS = 6.0, 60.0
_ADVANCED = re.compile(r"\\(?:i?int|oint|sum|prod|lim|partial)(?![a-zA-Z])")
# math-verify takes every i for the imaginary unit.
_INDEX_I = re.compile(r"\\(?:sum|prod)\s*(?:\\limits)?\s*_\s*\{?\s*i\s*=")
_COMMAND_OR_I = re.compile(r"\\[a-zA-Z]+|i")
_ENGLISH = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}|\\text")

_PROGRAM = r"""
import json
from math_verify import LatexExtractionConfig, parse, verify
# The whole text as LaTeX or nothing: its other readings take the first number, so that 12 would be 12 pi.
whole = {"extraction_config": [LatexExtractionConfig()], "fallback_mode": "no_fallback", "parsing_timeout": None}
# Six digits, its default, make small numbers equal.
exactly = {"float_rounding": 30, "numeric_precision": 40, "strict": True, "timeout_seconds": None}
def same(pair):
    left, right = (parse(f"${text}$", **whole) for text in pair)
    return bool(left and right and verify(left, right, **exactly))
# What is made on the way, grammars and what sympy remembers, every comparison then starts with.
for text in (
    r"\sum_{k=0}^{\infty} \frac{(-1)^k x^{2k+1}}{(2k+1)!}",
    r"\frac{3}{2} + \sum_{k=1}^{n-1} \left(k^2 - \binom{n}{k}\right)",
    r"\int_{0}^{\pi} \left(\sin(2x) + \sqrt{x}\right) \, dx",
    r"\int e^{-x^2} \cos x \, dx + C",
    r"\prod_{k=1}^{n} (2k-1)^2",
    r"\lim_{n \to \infty} \left(1 + \frac{1}{n}\right)^n",
):
    parse(f"${text}$", **whole)
for pair in (
    (r"\sum_{k=1}^{n} 2k", r"\sum_{j=1}^{n} j \cdot 2"),
    (r"\sum_{k=1}^{n} \frac{1}{k}", r"\sum_{k=0}^{n} k^3"),
    (r"\int_0^1 x^2 dx", r"\int_{0}^{1} t^2 \, dt"),
    (r"\prod_{k=1}^{n} 2k", r"\prod_{j=1}^{n} 2j"),
    (r"\lim_{x \to 0} \frac{x}{2}", r"\lim_{t \to 0} \frac{t}{2}"),
):
    same(pair)
def main():
    print(json.dumps(any(map(same, json.loads(_read(int(_read(8))))))))
"""


def needs_verifier(gold: str, answer: str) -> bool:
    """Whether both are mathematics only, in a notation that is read nowhere else here."""
    return all(
        len(text) <= MAX_EXPRESSION_CHARS and bool(_ADVANCED.search(text)) and not _ENGLISH.search(text)
        for text in (gold, answer)
    )


async def verified(pairs: Sequence[tuple[str, str]], sandbox: Sandbox) -> bool:
    """Return whether `math-verify` finds some pair of gold answer and answer equal; running out of time is a no.

    Raises:
        SandboxError: the sandbox failed, or math-verify is missing.
    """
    given = json.dumps([[_bare(text) for text in pair] for pair in pairs])
    result = await sandbox.run(
        _program(),
        timeout=VERIFY_SECONDS,
        cpu_seconds=VERIFY_CPU_SECONDS,
        stdin=f"{len(given):08d}{given}",
        modules=("math_verify",),
    )
    if result.error is not None and "ModuleNotFoundError" in result.error:
        raise SandboxError(f"math-verify is not installed for {result.error}")
    return result.ok and result.stdout.strip().endswith("true")


def _bare(text: str) -> str:
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text.strip().strip("$"))
    if not _INDEX_I.search(text):
        return text
    letters = re.sub(r"\\[a-zA-Z]+", "", text)
    free = next((letter for letter in "kmpqrstuvwxyz" if letter not in letters), "i")
    return _COMMAND_OR_I.sub(lambda found: free if found.group() == "i" else found.group(), text)


@cache
def _program() -> Program:
    return Program(compile(_PROGRAM, "<verify>", "exec", dont_inherit=True))
