"""Hidden tests of code problems, from the forms in which benchmarks write them to one: a list of Python snippets.

    HumanEval   "test": "def check(candidate):\\n    assert candidate(2) == 4\\n    ..."
    MBPP        "test_list": ["assert square(2) == 4", ...], "test_setup_code": "import math"
    plain       "tests": ["assert square(2) == 4", ...], or all of them in one text
    programs    "tests": [{"input": "2\\n", "output": "4\\n"}, ...], or {"inputs": [...], "outputs": [...]} (APPS)

A snippet fails when it raises. It is run with `candidate` bound to the entry point, with `check_output(stdin,
expected)` for a program, and with `check_result(arguments, accepted)` for a function whose results are given as JSON.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Names that the grader gives to the entry point and to its own helpers.
_STAND_INS = frozenset({"candidate", "check_output", "check_result"})


def tests_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hidden tests of a row, whatever form they have.

    Raises:
        ValueError: they have none of the forms above; names the value.
    """
    for key in ("tests", "test", "test_list"):
        value = row.get(key)
        if value not in (None, "", [], ()):
            break
    else:
        return ()
    if isinstance(value, str):
        tests = split_tests(value)
    elif isinstance(value, Mapping):
        tests = _paired(value, str(row.get("question", "")))
    elif isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        tests = [_called(item) for item in value]
    elif isinstance(value, Sequence) and all(isinstance(item, Mapping) for item in value):
        pairs = [(item.get("input"), item.get("output")) for item in value]
        tests = _output_tests(pairs, row.get("entry_point"), str(row.get("question", "")))
    else:
        raise ValueError(f"{key} must be Python snippets or input/output pairs, not {str(value)[:80]!r}")
    setup = row.get("test_setup_code")
    if isinstance(setup, str) and setup.strip():
        tests = [f"{setup.strip()}\n{test}" for test in tests]
    return tuple(tests)


def split_tests(source: str) -> list[str]:
    """Split a script of tests, or a `check(candidate)`, into snippets: each assert with the statements before it.

    What is no plain list of asserts and assignments stays one test. Asserts that say nothing (`assert True`) go.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"tests are not Python: {source[:80]!r}") from None
    check = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"), None)
    before = [node for node in tree.body if not _is_metadata(node)]
    if check is None:
        return _split(before, []) or [source]
    before = [node for node in before if node is not check and not _is_call_of_check(node)]
    if len(check.args.args) != 1:
        raise ValueError("tests: check() must take one argument, the candidate")
    split = _split(check.body, before) if check.args.args[0].arg == "candidate" else []
    return split or ["\n".join(map(ast.unparse, [*before, check])) + "\ncheck(candidate)"]


def entry_point_of(tests: Iterable[str]) -> str | None:
    """Return the name of the function that all tests call, or `None` when that is not plain (MBPP does not say it).

    Tests that call `candidate` do not tell its name.
    """
    common: list[str] | None = None
    for test in tests:
        try:
            tree = ast.parse(test)
        except SyntaxError:
            return None
        calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
        names = [function.id for function in calls if isinstance(function, ast.Name)]
        made = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if _STAND_INS & set(names) or made & set(names) & {"check"}:
            return None
        common = names if common is None else [name for name in common if name in names]
    # MBPP asks for a `sum` too: then every test calls that, and nothing else.
    return next((name for name in common or () if not hasattr(builtins, name)), common[0] if common else None)


def _split(statements: Sequence[ast.stmt], before: Sequence[ast.stmt]) -> list[str]:
    """One snippet for each assert; empty when there is anything but asserts, assignments, imports and definitions."""
    plain = (ast.Assert, ast.Assign, ast.Import, ast.ImportFrom, ast.FunctionDef)
    if not all(isinstance(node, plain) or _is_docstring(node) for node in statements):
        return []
    setup: list[ast.stmt] = list(before)
    tests = []
    for node in statements:
        if not isinstance(node, ast.Assert):
            setup.append(node)
        elif not isinstance(node.test, ast.Constant):
            tests.append("\n".join(map(ast.unparse, [*setup, node])))
    return tests


def _called(test: str) -> str:
    """A snippet that only defines `check` must also call it."""
    if "def check(" not in test:
        return test
    try:
        body = ast.parse(test).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return test
    return test if any(_is_call_of_check(node) for node in body) else test + "\ncheck(candidate)"


def _paired(value: Mapping[str, Any], question: str) -> list[str]:
    inputs, outputs = value.get("inputs"), value.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("tests must have as many inputs as outputs")
    return _output_tests(list(zip(inputs, outputs, strict=True)), value.get("fn_name"), question)


def _output_tests(pairs: Sequence[tuple[Any, Any]], function: Any, question: str) -> list[str]:
    """Tests of a program, or of a function when there is one to call and its arguments are a list (APPS)."""
    wrapped = bool(function) and _are_wrapped([wanted for _, wanted in pairs], str(function), question)
    return [
        _result_test(given, wanted, wrapped) if function and isinstance(given, list) else _output_test(given, wanted)
        for given, wanted in pairs
    ]


def _are_wrapped(outputs: Sequence[Any], function: str, question: str) -> bool:
    """Whether each result may stand in a list of its own, as some of APPS's rows have it.

    Not where one of them is no list of one, nor where the question says that a list is returned.
    """
    says_list = rf"def\s+{re.escape(function)}\s*\([^()]*\)\s*->\s*[\"']?(?:typing\.)?[Ll]ist\b"
    return all(isinstance(wanted, list) and len(wanted) == 1 for wanted in outputs) and not re.search(
        says_list, question
    )


def _result_test(given: list[Any], wanted: Any, wrapped: bool) -> str:
    return f"check_result({given!r}, {[wanted, wanted[0]] if wrapped else [wanted]!r})"


def _output_test(given: Any, wanted: Any) -> str:
    if isinstance(given, list) and all(isinstance(line, str) for line in given):
        given = "\n".join(given)
    if isinstance(wanted, list) and all(isinstance(line, str) for line in wanted):
        wanted = "\n".join(wanted)
    if not isinstance(given, str) or not isinstance(wanted, str):
        raise ValueError(f"a test's input and output must be text, not {str(given)[:40]!r} and {str(wanted)[:40]!r}")
    return f"check_output({given!r}, {wanted!r})"


def _is_metadata(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "METADATA" for target in node.targets)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_call_of_check(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    return isinstance(node.value.func, ast.Name) and node.value.func.id == "check"
