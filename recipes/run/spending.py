"""What a run has paid its executor, over all its starts: a kill must not give the budget back."""

import json
import os
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from pathlib import Path

from aflow_ops.executor import Executor, ExecutorUsage

# A record is rewritten in place, always as long: one small write, which a kill does not tear apart.
RECORD_BYTES = 256


class Spending:
    """The totals of one process of a run, on disk after every payment.

    Args:
        path (`Path`): its record.
        fresh (`bool`): start at nothing, whatever the record says.

    Attributes:
        usage (`ExecutorUsage`): the totals.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.usage = ExecutorUsage()
        if not fresh and path.is_file():
            with suppress(ValueError, TypeError):  # nothing was ever written
                self.usage = ExecutorUsage(**json.loads(path.read_text(encoding="utf-8")))
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._write()

    def add(self, key: str | None, usage: ExecutorUsage) -> None:
        """Count one payment; one for the same key is another one."""
        self.usage += usage
        self._write()

    def close(self) -> None:
        """Close the record."""
        os.close(self._file)

    def _write(self) -> None:
        os.pwrite(self._file, json.dumps(asdict(self.usage)).ljust(RECORD_BYTES).encode(), 0)


def count_on(executor: Executor, record: Path, resources: AsyncExitStack, *, fresh: bool) -> Spending:
    """Have an executor count on from what earlier starts paid, and write down what it pays.

    Requests that are under way at a kill are not in the record: nobody knows whether they are billed.

    Args:
        executor (`Executor`): just opened.
        record (`Path`): where it is written down.
        resources (`AsyncExitStack`): closes the record.
        fresh (`bool`): begin at nothing.
    """
    spending = Spending(record, fresh=fresh)
    resources.callback(spending.close)
    executor.restore(spending.usage)
    executor.on_paid = spending.add
    return spending
