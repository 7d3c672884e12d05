"""GRPO on question answering.

    accelerate launch recipes/grpo_qa.py
    accelerate launch recipes/grpo_qa.py --sources my_problems.jsonl --executor_model gpt-4o-mini

Every flag of `trl.GRPOConfig` works, next to the executor's and the recipe's own; flags win over the YAML.
"""

import sys

from recipes.run.command import run_command
from recipes.training.experiment import run_recipe
from recipes.training.trainer import WorkflowGRPOTrainer


class QAGRPOTrainer(WorkflowGRPOTrainer):
    """Question answering only: answers are short spans, graded by exact match and then by token F1."""

    domains = ("qa",)


if __name__ == "__main__":
    sys.exit(run_command(lambda: run_recipe(QAGRPOTrainer, "grpo_qa.yaml", __doc__)))
