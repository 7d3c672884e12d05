"""How far a repository was mended: tests that fail before and pass after, and none that passes no longer."""

from aflow_ops.agents.tools.repository_tests import TestReport
from data.repository_tasks import RepositoryTask


def mended(report: TestReport, task: RepositoryTask) -> float:
    """Return the score of an edited repository, 0 to 1; 1 only when every hidden test passes.

    The share of the tests to mend that pass, times the share of the others that still do: whoever mends one thing by
    breaking another has earned little, and whoever changes nothing, nothing. Of a task that does not say which tests
    failed before, a part is no merit: most of them may have passed already.

    Args:
        report (`TestReport`): of all hidden tests.
        task (`RepositoryTask`): which tests are which.
    """
    if task.all_or_nothing:
        return float(report.solves(task))
    return report.share(task.fail_to_pass) * report.share(task.pass_to_pass)
