"""How far a repository was mended: tests that fail before and pass after, and none that passes no longer."""

from aflow_ops.agents.tools.repository_tests import TestReport
from data.repository_tasks import RepositoryTask


def mended(report: TestReport, task: RepositoryTask) -> float:
    """Return the score of an edited repository, 0 to 1; 1 only when every hidden test passes.

    The share of the tests to mend that pass, times the share of the others that still do: whoever mends one thing by
    breaking another has earned little, and whoever changes nothing, nothing.

    Args:
        report (`TestReport`): of all hidden tests.
        task (`RepositoryTask`): which tests are which.
    """
    return report.share(task.fail_to_pass) * report.share(task.pass_to_pass)
