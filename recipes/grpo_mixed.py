"""GRPO on math, question answering and code together.

    accelerate launch recipes/grpo_mixed.py                                          # Qwen2.5-7B-Instruct, gpt-4o-mini
    accelerate launch recipes/grpo_mixed.py --config recipes/configs/quickstart.yaml  # no GPU, no key, minutes

Every flag of `trl.GRPOConfig` works, next to the executor's and the recipe's own; flags win over the YAML.
"""

import sys

from recipes.run.command import run_command
from recipes.training.experiment import run_recipe
from recipes.training.trainer import WorkflowGRPOTrainer


class MixedGRPOTrainer(WorkflowGRPOTrainer):
    """One policy for all domains: it must tell from the problem which operators help."""


if __name__ == "__main__":
    sys.exit(run_command(lambda: run_recipe(MixedGRPOTrainer, "grpo_mixed.yaml", __doc__)))
