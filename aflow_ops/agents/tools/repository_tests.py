"""What running a repository's tests comes to, whoever runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from data.repository_tasks import RepositoryTask


@dataclass(frozen=True)
class TestReport:
    """How tests ended.

    Args:
        passed (`Mapping[str, bool]`): one entry for each test that was asked for.
        error (`str`, *optional*): why the first failing one failed.
    """

    __test__ = False  # not a test of pytest's

    passed: Mapping[str, bool] = field(default_factory=dict)
    error: str | None = None

    def share(self, names: Sequence[str]) -> float:
        """The share of some tests that passed; 1 without any."""
        return sum(self.passed.get(name, False) for name in names) / len(names) if names else 1.0

    def solves(self, task: RepositoryTask) -> bool:
        """Whether every hidden test passed: those to mend, and those that must go on passing."""
        return bool(task.tests) and all(self.passed.get(name, False) for name in task.tests)


class RepositoryTests(Protocol):
    """Runs tests against an edited repository."""

    async def files(self, task: RepositoryTask, paths: Sequence[str]) -> dict[str, str]:
        """Return files of the repository as they were before any edit; those that are not there are left out.

        Raises:
            InfraError: they could not be had.
        """
        ...

    async def run(
        self, task: RepositoryTask, files: Mapping[str, str], names: Sequence[str], before: Mapping[str, str]
    ) -> TestReport:
        """Run hidden tests.

        Args:
            task (`RepositoryTask`): the task.
            files (`Mapping[str, str]`): path to text, after the edits; of a repository in an image those that the
                edits were made on, and those that they made.
            names (`Sequence[str]`): of the task's tests.
            before (`Mapping[str, str]`): the files that the edits were made on.

        Raises:
            InfraError: they could not be run; says nothing about the edits.
        """
        ...
