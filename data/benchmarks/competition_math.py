r"""MATH (https://arxiv.org/abs/2103.03874), its 500-problem test set MATH-500, and DeepScaleR's training problems.

Example row of the Hub's `EleutherAI/hendrycks_math` (`HuggingFaceH4/MATH-500` has `answer` and `unique_id` too):

    {"problem": "If $\\frac{5}{x} = 1$, what is $x$?", "level": "Level 2", "type": "Algebra",
     "solution": "We have $x = \\boxed{5}$."}

and of `agentica-org/DeepScaleR-Preview-Dataset`, whose solutions may be empty:

    {"problem": "The roots of ... Find $x$.", "answer": "-\\frac{2}{3}", "solution": "..."}

The gold answer is `answer` where a row has it, else the content of the solution's last `\boxed{}`, as MATH's own
`last_boxed_only_string` finds it.
"""

import re

from data.benchmarks.row import Row, text

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is a sign, and opens nothing


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row.

    Raises:
        ValueError: a column is missing, or the solution boxes no answer.
    """
    problem = text(row, "problem", "question").strip()
    answer = text(row, "answer") if row.get("answer") else last_boxed(text(row, "solution"))
    if not answer or not answer.strip():
        raise ValueError(f"the solution boxes no answer: {str(row.get('solution'))[-60:]!r}")
    made = {"question": problem, "answer": answer.strip()}
    return {**made, "id": row["unique_id"]} if row.get("unique_id") else made


def last_boxed(solution: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` or `\fbox{...}` with its nested braces, or of `\boxed x`."""
    start = max(solution.rfind("\\boxed"), solution.rfind("\\fbox"))
    if start < 0:
        return None
    rest = solution[start:].split("boxed" if solution.startswith("\\boxed", start) else "fbox", 1)[1]
    if not rest.startswith("{"):
        return rest.strip().split("$")[0].strip() or None
    depth = 0
    for brace in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return rest[1 : brace.start()].strip()
    return None
