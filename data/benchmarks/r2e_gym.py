"""R2E-Gym (https://arxiv.org/abs/2504.07164): commits of real repositories, each with an issue and generated tests.

Example row (`R2E-Gym/R2E-Gym-Subset` and the copies of it that were checked):

    {"repo_name": "pandas", "docker_image": "namanjain12/pandas_final:606e0fe5...", "commit_hash": "606e0fe5...",
     "problem_statement": "[ISSUE]\\n**Title:** ...", "parsed_commit_content": "{\\"file_diffs\\": [...], ...}",
     "expected_output_json": "{\\"TestFrame.test_sort\\": \\"PASSED\\", \\"TestFrame.test_old\\": \\"FAILED\\"}"}

The image has the repository in `/testbed`, `run_tests.sh` in it, and the tests in `/r2e_tests`. A row does not say
which tests failed before: all that must pass stand in `fail_to_pass`. The reference change is not kept: its form is
the authors' own.
"""

import json
import re
from typing import Any

from data.benchmarks.row import Row, column, shortened, text
from data.repository_tasks import RepositoryTask

_COMMAND = "ln -sfn /r2e_tests r2e_tests && bash run_tests.sh"
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
    task = RepositoryTask(
        issue=fenced[1] if fenced else issue,
        fail_to_pass=tuple(passing),
        image=text(row, "docker_image"),
        test_command=_COMMAND,
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
    return value
