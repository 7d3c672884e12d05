"""What training will cost, before it begins."""

import sys
from collections.abc import Sequence
from typing import Any

from accelerate import PartialState

from aflow_ops.executor import ExecutorConfig
from recipes.settings.arguments import WorkflowGRPOConfig


def print_forecast(
    rows: Sequence[dict[str, Any]],
    training: WorkflowGRPOConfig,
    executor: ExecutorConfig,
    num_problems: int,
    processes: int,
) -> None:
    """Say what training will cost at most; once, and nothing where there is no price.

    Args:
        rows (`Sequence[dict]`): graded rows of an evaluation, which cost what it would have cost without the cache.
        training (`WorkflowGRPOConfig`): steps and batch sizes.
        executor (`ExecutorConfig`): price and budget.
        num_problems (`int`): training problems in one epoch.
        processes (`int`): processes that train; the first one says it.
    """
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    price = executor.price_per_token
    if price is None or not traces or not PartialState().is_main_process:
        return
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    steps = training.max_steps
    if steps < 0:
        rows_of_an_epoch = num_problems * training.num_generations * training.num_iterations
        steps = int(training.num_train_epochs * rows_of_an_epoch) // batch
    rollouts = steps * batch // training.num_iterations  # a generation is trained on so often
    cost = sum(t["prompt_tokens"] * price[0] + t["completion_tokens"] * price[1] for t in traces) / len(rows)
    calls = sum(len(trace["calls"]) for trace in traces) / len(rows)
    if cost > 0:
        budget = executor.executor_budget_usd
        print(
            f"forecast: {rollouts:,} rollouts in {steps:,} steps, about {calls * rollouts:,.0f} operator calls and "
            f"${cost * rollouts:,.2f} for {executor.executor_model}, less what the cache saves"
            + (f"; budget ${budget:g}" if budget else "; no budget (--executor_budget_usd)"),
            file=sys.stderr,
        )
