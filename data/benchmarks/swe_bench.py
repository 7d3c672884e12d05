"""SWE-bench (https://arxiv.org/abs/2310.06770): an issue of a real repository, and the tests that its mending passed.

Example row (`princeton-nlp/SWE-bench_Verified`; the other sets of SWE-bench have the same columns):

    {"repo": "astropy/astropy", "instance_id": "astropy__astropy-12907", "base_commit": "d16bfe05...", "version": "4.3",
     "problem_statement": "Modeling's `separability_matrix` does not ...", "hints_text": "",
     "patch": "diff --git a/astropy/...", "test_patch": "diff --git a/astropy/modeling/tests/...",
     "FAIL_TO_PASS": "[\\"astropy/modeling/tests/test_separable.py::test_separable[...]\\"]", "PASS_TO_PASS": "[...]"}

The lists are JSON text, in some copies lists. Images are SWE-bench's own on Docker Hub, with the repository in
`/testbed` at `base_commit`; the runners of Django and SymPy, and that all others are pytest's, are from its harness
(https://github.com/SWE-bench/SWE-bench, `swebench/harness/constants`).
"""

import json
import re
from typing import Any

from data.benchmarks.row import Row, column, shortened, text
from data.repository_tasks import RepositoryTask, checked_path

_ACTIVATE = "source /opt/miniconda3/bin/activate && conda activate testbed &&"
_RUNNERS = {
    "django/django": "./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1",
    "sympy/sympy": "PYTHONWARNINGS=ignore bin/test -C --verbose",
}
_PYTEST = "pytest -rA"
_CHANGED = re.compile(r"^diff --git a/\S+ b/(\S+)$", re.MULTILINE)


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row with a repository.

    Raises:
        ValueError: a column is missing or of another shape.
    """
    name, repo, test_patch = text(row, "instance_id"), text(row, "repo"), text(row, "test_patch")
    task = RepositoryTask(
        issue=text(row, "problem_statement").strip(),
        fail_to_pass=tuple(_tests(row, "FAIL_TO_PASS")),
        pass_to_pass=tuple(_tests(row, "PASS_TO_PASS")),
        # Docker Hub takes no two underscores in a row.
        image=f"swebench/sweb.eval.x86_64.{name.lower().replace('__', '_1776_')}:latest",
        test_patch=test_patch,
        test_command=f"{_ACTIVATE} {_runner(repo, test_patch)}",
    )
    if not task.fail_to_pass:
        raise ValueError("FAIL_TO_PASS names no test")
    return {"id": name, "question": task.issue, "answer": text(row, "patch"), "extra": task.extra()}


def _tests(row: Row, name: str) -> list[str]:
    value: Any = column(row, name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"{name} is no JSON: {shortened(value)}") from None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of tests, not {shortened(value)}")
    return value


def _runner(repo: str, test_patch: str) -> str:
    """The command with the test files that the patch changes, which go into a shell: paths, and nothing else."""
    files = [path for path in _CHANGED.findall(test_patch) if path.endswith(".py")]
    if not files:
        raise ValueError("test_patch changes no Python file")
    if not all(re.fullmatch(r"[\w./-]+", checked_path(path)) for path in files):
        raise ValueError(f"test_patch changes {shortened(files)}")
    if repo == "django/django":  # by module, from the folder of the tests
        files = [path.removeprefix("tests/").removesuffix(".py").replace("/", ".") for path in files]
    return " ".join([_RUNNERS.get(repo, _PYTEST), *files])
