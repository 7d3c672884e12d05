"""GRPO on math problems.

    accelerate launch recipes/grpo_math.py
    accelerate launch recipes/grpo_math.py --sources my_problems.jsonl --executor_model gpt-4o-mini

Every flag of `trl.GRPOConfig` works, next to the executor's and the recipe's own; flags win over the YAML.
"""

import sys

from recipes.run.command import run_command
from recipes.training.experiment import run_recipe
from recipes.training.trainer import WorkflowGRPOTrainer


class MathGRPOTrainer(WorkflowGRPOTrainer):
    """Math only: answers are numbers or expressions, graded by equality and then by relative error."""

    domains = ("math",)


if __name__ == "__main__":
    sys.exit(run_command(lambda: run_recipe(MathGRPOTrainer, "grpo_math.yaml", __doc__)))
