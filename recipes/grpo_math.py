"""GRPO on math problems.

    accelerate launch recipes/grpo_math.py
    accelerate launch recipes/grpo_math.py --sources my_problems.jsonl --executor_model gpt-4o-mini

Every flag of `trl.GRPOConfig` works, next to the executor's and the recipe's own; flags win over the YAML. What a run
leaves, and how to copy this file into a recipe of your own: recipes/README.md.
"""

import sys
from contextlib import closing
from pathlib import Path

from recipes.policy.loading import loading_policy, policy_settings
from recipes.policy.warm_start import ensure_policy
from recipes.run.command import run_command
from recipes.run.open import open_run
from recipes.run.progress import MetricsFile, progress_of
from recipes.run.starting import starting_point
from recipes.settings.recipe import recipe_arguments
from recipes.training.best import BestByHeldout
from recipes.training.forecast import print_forecast
from recipes.training.heldout import evaluate_baselines, evaluate_policy
from recipes.training.phases import train_policy
from recipes.training.problems import dry_run_line, training_and_heldout_problems
from recipes.training.tracking import start_tracking
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.reward_funcs import load_rewards

# Answers are numbers or expressions, graded by equality and then by relative error. Other domains are refused.
DOMAINS = ("math",)
# What this recipe trains on; recipes/configs/grpo_math.yaml has these and all other values.
DEFAULTS = {"sources": ["gsm8k", "math"], "domain_mix": "math=1", "prompt_style": "full"}


def main() -> None:
    """Evaluate the policy on held-out problems, train it, evaluate it again, and write what came of it."""
    # Whatever can be refused is refused here, before anything is loaded or paid.
    args = recipe_arguments("grpo_math.yaml", __doc__, defaults=DEFAULTS, domains=DOMAINS)
    recipe, training, model, executor = args.parts
    start = starting_point(Path(training.output_dir), training.resume_from_checkpoint)
    rewards = load_rewards(recipe.reward_funcs, training.reward_weights)
    train, heldout = training_and_heldout_problems(recipe, training.seed)
    if recipe.dry_run:
        print(dry_run_line(train, heldout))
        return

    with open_run(args.config(__file__), start, training, backup=recipe, executor=executor) as run:
        with run.phase("warm_start"):
            ensure_policy(model.model_name_or_path, recipe.warm_start_config, training.seed, recipe.operators)
        with run.phase("startup"), loading_policy(model.model_name_or_path):
            trainer = WorkflowGRPOTrainer(
                **policy_settings(model, training),  # base model, tokenizer, quantization, LoRA
                recipe=recipe,
                executor=executor,
                problems=train,
                reward_funcs=rewards,
                start=start,
                backup=run.backup,
                callbacks=[MetricsFile(run.folder / "metrics.csv")],
            )
        with closing(trainer):
            start_tracking(trainer, *args.parts)
            with run.phase("evaluation_before"):
                before = evaluate_policy(trainer, heldout, "held-out before")
            print_forecast(before, training, executor, len(train), trainer.accelerator.num_processes)
            with run.phase("baselines"):
                baselines = evaluate_baselines(trainer, heldout) if recipe.baselines else {}
            trainer.add_callback(BestByHeldout(trainer, recipe.heldout_every, heldout))
            with run.phase("training"), progress_of(trainer, "GRPO"):
                train_policy(trainer, start)
            with run.phase("evaluation_after"):
                after = evaluate_policy(trainer, heldout, "held-out after")
            run.finish(trainer, before, after, baselines)
        trainer.end()


if __name__ == "__main__":
    sys.exit(run_command(main))
