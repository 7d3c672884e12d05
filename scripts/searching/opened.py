"""What searches need open while they go on."""

import argparse
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aflow_ops.concurrency import collecting_seldom
from aflow_ops.executor import ExecutorConfig
from recipes.run.spending import count_on
from rewards.opening import open_scorer
from rewards.rollout import RolloutScorer
from scripts.searching.bars import Bars


@dataclass(frozen=True)
class Opened:
    """What a search needs open; searches that go on side by side share it.

    Args:
        scorer (`RolloutScorer`): runs and grades, with the executor behind it.
        bars (`Bars`): show how far they are.
    """

    scorer: RolloutScorer
    bars: Bars


async def open_search(
    stack: AsyncExitStack, arguments: argparse.Namespace, config: ExecutorConfig, folder: Path
) -> Opened:
    """Open what searches need, until the stack closes. What earlier starts paid counts against the budget.

    Args:
        stack (`AsyncExitStack`): closes it.
        arguments (`argparse.Namespace`): the command line.
        config (`ExecutorConfig`): the executor's flags.
        folder (`Path`): gets the log of the embedded executor, and the record of what is paid.

    Raises:
        UsageError: no key, a missing package, or a kernel that cannot confine code.
        ExecutorError: the embedded executor did not start.
    """
    opening = open_scorer(
        config,
        workflow_timeout=arguments.workflow_timeout,
        unsafe_subprocess=arguments.unsafe_subprocess,
        run_dir=folder,
        proven=True,
    )
    scorer = await stack.enter_async_context(opening)
    count_on(scorer.runtime.executor, folder / ".spent-executor.json", stack, fresh=False)
    stack.enter_context(collecting_seldom())
    return Opened(scorer, stack.enter_context(Bars()))
