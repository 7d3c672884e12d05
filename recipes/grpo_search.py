"""Search and GRPO in turns: the policy searches for workflows, learns from what it found, and searches again.

    accelerate launch recipes/grpo_search.py
    accelerate launch recipes/grpo_search.py --config recipes/configs/grpo_search_quickstart.yaml

An epoch is --episodes episodes. In each the policy, as it is then, proposes workflows for --problems_per_episode
problems, and GRPO trains on all that was tried, for --grpo_epochs epochs: on the prompts that asked to modify a
workflow, and on the policy's own prompt for the problem. Every episode ends with a checkpoint that holds what was found
so far, and a run that was stopped goes on with `--resume_from_checkpoint auto`. What a run leaves: recipes/README.md.
"""

import sys
from contextlib import closing
from pathlib import Path

from recipes.policy.loading import loading_policy, policy_settings
from recipes.policy.warm_start import ensure_policy
from recipes.run.command import run_command
from recipes.run.open import open_run
from recipes.run.progress import MetricsFile
from recipes.run.starting import starting_point
from recipes.settings.recipe import recipe_arguments
from recipes.settings.search_loop import SearchLoopArguments, check_loop
from recipes.training.heldout import evaluate_baselines, evaluate_policy
from recipes.training.loop_trainer import SearchLoopTrainer
from recipes.training.phases import train_policy
from recipes.training.problems import dry_run_line, training_and_heldout_problems
from recipes.training.tracking import start_tracking

DOMAINS = ("math", "qa", "code")
# What this recipe searches for; recipes/configs/grpo_search.yaml has these and all other values.
DEFAULTS = {"sources": ["aime24"], "domain_mix": "math=1", "prompt_style": "full"}


def main() -> None:
    """Evaluate the policy on held-out problems, let it search and learn in turns, and evaluate it again."""
    # Whatever can be refused is refused here, before anything is loaded or paid.
    args = recipe_arguments(
        "grpo_search.yaml", __doc__, recipe_class=SearchLoopArguments, defaults=DEFAULTS, domains=DOMAINS
    )
    recipe, training, model, executor = args.parts
    check_loop(training)
    start = starting_point(Path(training.output_dir), training.resume_from_checkpoint)
    train, heldout = training_and_heldout_problems(recipe, training.seed)
    if recipe.dry_run:
        print(dry_run_line(train, heldout))
        return

    with open_run(args.config(__file__), start, training, backup=recipe, executor=executor) as run:
        with run.phase("warm_start"):
            ensure_policy(model.model_name_or_path, recipe.warm_start_config, training.seed, recipe.operators)
        with run.phase("startup"), loading_policy(model.model_name_or_path):
            trainer = SearchLoopTrainer(
                **policy_settings(model, training),  # base model, tokenizer, quantization, LoRA
                recipe=recipe,
                executor=executor,
                problems=train,
                start=start,
                backup=run.backup,
                callbacks=[MetricsFile(run.folder / "metrics.csv")],
            )
        with closing(trainer):
            start_tracking(trainer, *args.parts)
            with run.phase("evaluation_before"):
                before = evaluate_policy(trainer, heldout, "held-out before")
            with run.phase("baselines"):
                baselines = evaluate_baselines(trainer, heldout) if recipe.baselines else {}
            with run.phase("training"):
                train_policy(trainer, start)
            with run.phase("evaluation_after"):
                after = evaluate_policy(trainer, heldout, "held-out after")
            run.finish(trainer, before, after, baselines)
        trainer.end()


if __name__ == "__main__":
    sys.exit(run_command(main))
