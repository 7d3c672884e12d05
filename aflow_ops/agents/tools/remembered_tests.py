"""Runs the hidden tests of equal edits once.

Of eight episodes of a problem most end in one of a few edits, and a run of a repository's tests takes a tenth of a
second in the sandbox and minutes in a container. So a report is kept, and who asks for one that is being made waits for
it. What could not be run is not kept: that says nothing about an edit.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

from aflow_ops.agents.tools.repository_tests import RepositoryTests, TestReport
from data.repository_tasks import RepositoryTask

# Reports that are kept: more than a step of 64 episodes with three edits each asks for.
KEPT = 256


class RememberedTests:
    """Runs tests as another `RepositoryTests` does, and equal ones once.

    Args:
        tests (`RepositoryTests`): runs them.
        kept (`int`): reports that are kept, those that were asked for last; at least 1.
    """

    def __init__(self, tests: RepositoryTests, kept: int = KEPT) -> None:
        self._tests, self._kept = tests, kept
        self._reports: OrderedDict[str, TestReport] = OrderedDict()
        self._made: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # gone when nobody waits

    async def files(self, task: RepositoryTask, paths: Sequence[str]) -> dict[str, str]:
        """Return files of the snapshot."""
        return await self._tests.files(task, paths)

    async def run(
        self, task: RepositoryTask, files: Mapping[str, str], names: Sequence[str], before: Mapping[str, str]
    ) -> TestReport:
        """Return the report of such a run, from memory where there was one."""
        asked = json.dumps([task.extra(), dict(files), list(names), dict(before)], sort_keys=True)
        key = hashlib.sha256(asked.encode()).hexdigest()
        making = self._made.setdefault(key, asyncio.Lock())
        async with making:
            if key not in self._reports:
                self._reports[key] = await self._tests.run(task, files, names, before)
            self._reports.move_to_end(key)
            report = self._reports[key]
        while len(self._reports) > self._kept:
            self._reports.popitem(last=False)
        return report
