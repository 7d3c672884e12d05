"""What training will cost, before it begins."""

import sys
from collections.abc import Sequence
from typing import Any

from recipes.settings.parse import Arguments


def print_forecast(args: Arguments, processes: int, rows: Sequence[dict[str, Any]]) -> None:
    """Say what training will cost at most, from what the evaluation before it cost without the cache's help."""
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    price = args.executor.price_per_token
    if price is None or not traces:
        return
    training = args.training
    steps = training.max_steps
    if steps < 0:
        steps = int(training.num_train_epochs * args.recipe.num_train_problems * training.num_generations)
        steps //= training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    rollouts = steps * training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    cost = sum(t["prompt_tokens"] * price[0] + t["completion_tokens"] * price[1] for t in traces) / len(rows)
    calls = sum(len(trace["calls"]) for trace in traces) / len(rows)
    if cost > 0:
        budget = args.executor.executor_budget_usd
        print(
            f"forecast: {rollouts:,} rollouts in {steps:,} steps, about {calls * rollouts:,.0f} operator calls and "
            f"${cost * rollouts:,.2f} for {args.executor.executor_model}, less what the cache saves"
            + (f"; budget ${budget:g}" if budget else "; no budget (--executor_budget_usd)"),
            file=sys.stderr,
        )
