"""GRPO on programming problems.

    accelerate launch recipes/grpo_code.py
    accelerate launch recipes/grpo_code.py --sources my_problems.jsonl --executor_model gpt-4o-mini

Every flag of `trl.GRPOConfig` works, next to the executor's and the recipe's own; flags win over the YAML.
"""

import sys

from recipes.run.command import run_command
from recipes.training.experiment import run_recipe
from recipes.training.trainer import WorkflowGRPOTrainer


class CodeGRPOTrainer(WorkflowGRPOTrainer):
    """Code only: answers are functions, graded by the share of hidden tests that they pass."""

    domains = ("code",)


if __name__ == "__main__":
    sys.exit(run_command(lambda: run_recipe(CodeGRPOTrainer, "grpo_code.yaml", __doc__)))
