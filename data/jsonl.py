"""Problems that users bring, one JSON object a line.

Example row:

    {"question": "What is 12 + 30 * 2?", "answer": "72", "source": "gsm8k"}

Optional keys: `id`, `domain` (`math`, `code`, `qa`, ...; told from the source if absent), `context`, `entry_point`,
`public_tests` and `tests` (`data/code_tests.py` has their forms). A code row needs `tests`, and
`entry_point` unless its tests call one function only or run a program. An `answer` may be a list of answers that are
all right.
"""

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

from data.domains import domain_row
from data.files import unreadable
from data.problem import DataError, Problem


def read_problems(path: Path) -> list[Problem]:
    """Read every row of a file.

    Args:
        path (`Path`): a UTF-8 JSONL file; empty lines are skipped.

    Raises:
        DataError: the file is missing or empty, a row is malformed, or different rows have one id; names the file, the
            line and the reason.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    problems = []
    texts: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        problem = _problem(path, number, line)
        problems.append(problem)
        first, known = texts.setdefault((problem.source, problem.id), (number, problem.view.text))
        if known != problem.view.text:
            raise DataError(
                f"{path}, line {number}: id {problem.id!r} is that of line {first}, another problem of the source "
                f"{problem.source}; give each its own, or leave id out"
            )
    if not problems:
        raise DataError(f"{path}: no rows")
    return problems


def shuffled_problems(path: Path, rng: random.Random | None) -> Iterator[Problem]:
    """Yield the rows of a file in random order; only those that are asked for are parsed and held.

    Args:
        path (`Path`): a UTF-8 JSONL file; empty lines are skipped.
        rng (`random.Random`, *optional*): decides the order; the file's own without one.

    Raises:
        DataError: the file cannot be read, or a row that is asked for is malformed; names the line and the reason.
    """
    try:
        with path.open("rb") as file:
            ends = list(accumulate(map(len, file)))
            lines = list(enumerate([0, *ends[:-1]], start=1))
            if rng is not None:
                rng.shuffle(lines)
            for number, start in lines:
                file.seek(start)
                if line := file.readline().strip():
                    yield _problem(path, number, line)
    except OSError as error:
        raise unreadable(path, error) from None


def _problem(path: Path, number: int, line: str | bytes) -> Problem:
    try:
        return gradable(Problem.from_row(read_row(line)))
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}") from None


def read_row(line: str | bytes) -> dict[str, Any]:
    """Return the JSON object of one line.

    Raises:
        ValueError: it is none, or has text that could not be written again.
    """
    try:
        row = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"must be an object, not {type(row).__name__}: one JSON object a line")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair, {error.object[error.start]!r}, is no text") from None
    return row


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def gradable(problem: Problem) -> Problem:
    """Return the problem if its answers can be graded.

    Raises:
        ValueError: a problem that a program solves has no tests, or no name for the function that they call.
    """
    if not domain_row(problem.domain).has_tests:
        return problem
    if not problem.tests:
        raise ValueError(f"a {problem.domain} row needs tests: without them no solution can be graded")
    if problem.entry_point is None and not all("check_output(" in test for test in problem.tests):
        raise ValueError(f"a {problem.domain} row needs entry_point, the name of the function that its tests call")
    return problem
