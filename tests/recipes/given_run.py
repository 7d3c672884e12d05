"""A recipe whose policy's completions are given instead of sampled, for what can only be seen from outside a process.

python tests/recipes/given_run.py --config CONFIG [flags of recipes/grpo_mixed.py]
"""

import sys
from typing import Any

from recipes import grpo_mixed
from recipes.run.command import run_command
from recipes.training.trainer import WorkflowGRPOTrainer
from tests.recipes.tiny_run import ASK, given_completions


class GivenTrainer(WorkflowGRPOTrainer):
    """Asks the executor in every workflow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._generate_single_turn = given_completions(self, [ASK, ASK.replace("problem)", "problem + '!')", 1)])


if __name__ == "__main__":
    grpo_mixed.WorkflowGRPOTrainer = GivenTrainer  # type: ignore[misc]
    sys.exit(run_command(grpo_mixed.main))
