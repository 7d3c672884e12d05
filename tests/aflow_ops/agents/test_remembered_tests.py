"""Equal edits are tested once, and nobody gets another one's report."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.agents.tools.remembered_tests import RememberedTests
from aflow_ops.agents.tools.repository_tests import TestReport
from aflow_ops.errors import InfraError
from data.repository_tasks import RepositoryTask

TASK = RepositoryTask("", {"a.py": "x = 1\n"}, {"tests/test_a.py": "..."}, fail_to_pass=("tests/test_a.py::test_x",))


class Counting:
    """Stands in for a backend: a test passes when its name is in the code; the first runs may fail to happen."""

    def __init__(self, down: int = 0) -> None:
        self.ran, self.down = list[str](), down

    async def files(self, task: RepositoryTask, paths: Sequence[str]) -> dict[str, str]:
        return {path: task.files[path] for path in paths}

    async def run(
        self, task: RepositoryTask, files: Mapping[str, str], names: Sequence[str], before: Mapping[str, str]
    ) -> TestReport:
        self.ran.append(files["a.py"])
        down, self.down = self.down > 0, self.down - 1
        await asyncio.sleep(0.01)
        if down:
            raise InfraError("no container")
        return TestReport({name: name in files["a.py"] for name in names}, before["a.py"])


async def test_eight_equal_edits_at_once_are_one_run() -> None:
    counting = Counting()
    tests = RememberedTests(counting)
    reports = await asyncio.gather(*(tests.run(TASK, {"a.py": "x = 2\n"}, TASK.tests, TASK.files) for _ in range(8)))
    assert len(counting.ran) == 1 and all(report == reports[0] for report in reports)
    assert await tests.files(TASK, ["a.py"]) == TASK.files


async def test_what_could_not_be_run_is_run_again() -> None:
    counting = Counting(down=2)
    tests = RememberedTests(counting)
    asked = (tests.run(TASK, TASK.files, TASK.tests, TASK.files) for _ in range(4))
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(report, InfraError) for report in ended] == [True, True, False, False]
    assert len(counting.ran) == 3


async def test_who_waits_goes_on_when_the_one_that_ran_them_is_stopped() -> None:
    counting = Counting()
    tests = RememberedTests(counting)
    first, second = (asyncio.create_task(tests.run(TASK, TASK.files, TASK.tests, TASK.files)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).error == "x = 1\n" and len(counting.ran) == 2
    with pytest.raises(asyncio.CancelledError):
        await first


@given(st.lists(st.tuples(*(st.sampled_from("pq") for _ in range(4))), min_size=1, max_size=30), st.integers(1, 5))
def test_a_report_is_that_of_its_own_task_edit_tests_and_files_before(asked: list[tuple[str, ...]], kept: int) -> None:
    async def run() -> None:
        counting = Counting()
        tests = RememberedTests(counting, kept)
        for secret, code, name, before in asked:
            task = replace(TASK, test_files={"tests/test_a.py": secret})
            given = (task, {"a.py": code}, (name,), {"a.py": before})
            assert await tests.run(*given) == TestReport({name: name == code}, before)
        assert len(counting.ran) >= len(set(asked))
        assert kept < len(set(asked)) or len(counting.ran) == len(set(asked))

    asyncio.run(run())
