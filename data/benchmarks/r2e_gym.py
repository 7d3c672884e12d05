"""R2E-Gym (https://arxiv.org/abs/2504.07164): commits of real repositories, each with an issue and generated tests.

Example row (`R2E-Gym/R2E-Gym-Subset` and the copies of it that were checked):

    {"repo_name": "pandas", "docker_image": "namanjain12/pandas_final:606e0fe5...", "commit_hash": "606e0fe5...",
     "problem_statement": "[ISSUE]\\n**Title:** ...", "parsed_commit_content": "{\\"file_diffs\\": [...], ...}",
     "expected_output_json": "{\\"TestFrame.test_sort\\": \\"PASSED\\", \\"TestFrame.test_old\\": \\"FAILED\\"}",
     "execution_result_content": "{\\"old_commit_res_stdout\\": \\"... FAILED r2e_tests/test_1.py::TestFrame::...\\"}"}

The image has the repository in `/testbed`, `run_tests.sh` in it, and the tests in `/r2e_tests`. Which tests failed
before stands in what pytest said of the old commit; where a row has lost that, only all tests together tell
(`RepositoryTask.all_or_nothing`). The reference change is not kept: its form is the authors' own.
"""

import json
import re
from typing import Any

from data.benchmarks.row import Row, column, shortened, text
from data.repository_tasks import RepositoryTask

_COMMAND = "rm -rf r2e_tests && ln -s /r2e_tests r2e_tests && bash run_tests.sh"
# Of `pytest -rA`'s summary; a test goes by what follows its file, with points.
_SUMMARY = "short test summary info"
_PASSED = re.compile(r"^PASSED +[^\s:]+::(\S.*?)\s*$", re.MULTILINE)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FENCE = re.compile(r"\[ISSUE\]\s*(.*?)\s*(?:\[/ISSUE\])?\s*\Z", re.DOTALL)


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row with a repository.

    Raises:
        ValueError: a column is missing or of another shape, or no test is expected to pass.
    """
    issue = text(row, "problem_statement").strip()
    fenced = _FENCE.match(issue)
    passing = [name for name, verdict in _expected(row).items() if verdict == "PASSED"]
    if not passing:
        raise ValueError("expected_output_json expects no test to pass")
    before = _passed_before(row)
    failing = [name for name in passing if name not in (before or ())]
    task = RepositoryTask(
        issue=fenced[1] if fenced else issue,
        fail_to_pass=tuple(failing or passing),
        pass_to_pass=tuple(name for name in passing if failing and name not in failing),
        image=text(row, "docker_image"),
        test_command=_COMMAND,
        all_or_nothing=before is None or not failing,
    )
    name = f"{text(row, 'repo_name')}-{text(row, 'commit_hash')}"
    return {"id": name, "question": task.issue, "answer": "", "extra": task.extra()}


def _expected(row: Row) -> dict[str, Any]:
    value: Any = column(row, "expected_output_json")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"expected_output_json is no JSON: {shortened(value)}") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected_output_json must be an object, not {shortened(value)}")
    return {_ANSI.sub("", str(name)): verdict for name, verdict in value.items()}


def _passed_before(row: Row) -> frozenset[str] | None:
    """The tests that the old commit passed; `None` when the row does not say."""
    value: Any = row.get("execution_result_content")
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    said = value.get("old_commit_res_stdout") if isinstance(value, dict) else None
    if not isinstance(said, str) or _SUMMARY not in said:
        return None
    summary = _ANSI.sub("", said).rpartition(_SUMMARY)[2]
    return frozenset(name.replace("::", ".") for name in _PASSED.findall(summary))
