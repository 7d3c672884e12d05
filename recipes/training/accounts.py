"""One process's part in the executor of a run: its share of the limits, and what it has paid over all starts."""

import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from aflow_ops.executor import Executor, ExecutorConfig
from recipes.run.spending import Spending, count_on


def processes_here() -> int:
    """How many processes of this run are on this machine, as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", PartialState().num_processes))


def process_share(config: ExecutorConfig) -> ExecutorConfig:
    """Return this process's flags: an equal part of the budget, and its machine's part of the rate limits.

    The processes of a machine keep to its rate limits together, over `rate_ledger`.
    """
    processes = PartialState().num_processes
    return config.shared_by(processes, nodes=max(1, processes // processes_here()))


def rate_ledger(resources: AsyncExitStack) -> Path | None:
    """File in which the processes of this machine keep their common rate limits; none for a single process.

    Every process has to ask for it, at the same point.

    Args:
        resources (`AsyncExitStack`): removes the file when it is closed.
    """
    if processes_here() == 1:
        return None
    (name,) = broadcast_object_list([uuid4().hex])
    ledger = Path(tempfile.gettempdir()) / f"aflow-recipes-{name}.rates"
    resources.callback(ledger.unlink, missing_ok=True)
    return ledger


def keep_accounts(executor: Executor, run_dir: Path, resources: AsyncExitStack, *, fresh: bool) -> Spending:
    """Have an executor count on from what this process paid in earlier starts of the run, and write down what it pays.

    Args:
        executor (`Executor`): just opened.
        run_dir (`Path`): `outputs/<run>`, where the record is.
        resources (`AsyncExitStack`): closes the record.
        fresh (`bool`): begin at nothing.
    """
    return count_on(executor, run_dir / f".spent-{PartialState().process_index}.json", resources, fresh=fresh)
