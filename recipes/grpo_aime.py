"""GRPO on competition mathematics: MATH and 24 problems of AIME 2024; a part of MATH and six of AIME are held out.

    python scripts/download_datasets.py math math500 aime24 && python scripts/process_datasets.py math math500 aime24
    accelerate launch recipes/grpo_aime.py

Evaluate with `scripts/evaluate.py --data aime24 math500`. Every flag of `trl.GRPOConfig` works, next to the executor's
and the recipe's own; flags win over the YAML.
"""

import sys

from recipes.run.command import run_command
from recipes.training.experiment import run_recipe
from recipes.training.trainer import WorkflowGRPOTrainer


class AimeGRPOTrainer(WorkflowGRPOTrainer):
    """Math only: answers are integers or expressions, graded by equality and then by relative error."""

    domains = ("math",)


if __name__ == "__main__":
    sys.exit(run_command(lambda: run_recipe(AimeGRPOTrainer, "grpo_aime.yaml", __doc__)))
