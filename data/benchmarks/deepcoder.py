"""DeepCoder's training problems (https://huggingface.co/datasets/agentica-org/DeepCoder-Preview-Dataset).

Example row (configurations `primeintellect`, `taco`, `lcbv5`; `tests` is JSON text in all of them):

    {"problem": "Solve the following coding problem ...", "solutions": ["..."],
     "tests": "[{\\"type\\": \\"stdin_stdout\\", \\"input\\": \\"2\\\\n\\", \\"output\\": \\"4\\\\n\\"}]"}

Tests of a function say `"type": "function_call"` and have `fn_name`, a list of arguments and the result in a list.
TACO's tests are one object, `{"inputs": [...], "outputs": [...], "fn_name": ...}`; LiveCodeBench's say
`"testtype": "functional"` and give the function's name in `metadata.func_name`, one argument a line as JSON.
"""

import json
from typing import Any

from data.benchmarks.row import Row, column, shortened, text

_FUNCTIONAL = ("functional", "function_call")


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row.

    Raises:
        ValueError: a column is missing, or the tests have none of these forms.
    """
    tests = column(row, "tests")
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except ValueError:
            raise ValueError(f"tests is no JSON: {shortened(tests)}") from None
    entry_point, tests = _functional(tests, row.get("metadata"))
    problem, starter = text(row, "problem").strip(), str(row.get("starter_code") or "").strip()
    solutions = row.get("solutions")
    return {
        "question": f"{problem}\n\n{starter}".strip(),
        "answer": str(solutions[0]) if isinstance(solutions, list) and solutions else "",
        "entry_point": entry_point,
        "tests": tests,
    }


def _functional(tests: Any, metadata: Any) -> tuple[str | None, Any]:
    """The function's name and tests that `data/code_tests.py` reads."""
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            metadata = None
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if isinstance(tests, dict):
        return tests.get("fn_name") or name, tests
    if not isinstance(tests, list) or not all(
        isinstance(test, dict) and {"input", "output"} <= set(test) for test in tests
    ):
        raise ValueError(f"tests must be a list of objects with input and output, not {shortened(tests)}")
    functional = [test.get("testtype", test.get("type")) in _FUNCTIONAL for test in tests]
    if not any(functional):
        return None, tests
    if not name:
        name = next((test["fn_name"] for test in tests if test.get("fn_name")), None)
    if not name or not all(functional):
        raise ValueError("functional tests need the function's name, and must not stand beside programs' tests")
    return str(name), {
        "fn_name": str(name),
        "inputs": [_arguments(test["input"]) for test in tests],
        "outputs": [_value(test["output"]) for test in tests],
    }


def _arguments(text: Any) -> list[Any]:
    """Arguments of a call: a list, or one JSON value a line."""
    if isinstance(text, list):
        return text
    return [_value(line) for line in str(text).splitlines() if line.strip()]


def _value(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text
