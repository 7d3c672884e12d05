"""The held-out evaluation: the policy's own workflows, and the fixed ones, on the same problems."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models import unwrap_model_for_generation

from aflow_ops.errors import BudgetExceededError
from aflow_ops.policy_prompt import policy_messages
from data.problem import Problem
from recipes.policy.generation import generate_completions
from recipes.run.bars import Bar
from recipes.training.lifecycle import ResumableGRPOTrainer
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.baselines import FIXED_BASELINES
from rewards.workflow_reward import score_all


@contextmanager
def policy_for_generation(trainer: ResumableGRPOTrainer) -> Iterator[Any]:
    """Yield the policy with whole parameters, in evaluation mode, before as well as after `trainer.train()`."""
    was_training = trainer.model.training
    prepared = trainer.model_wrapped is not trainer.model
    if prepared:
        context = unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,  # it is enabled anew afterwards
        )
    elif is_deepspeed_zero3_enabled():
        import deepspeed  # slow to import, and only needed here

        parameters = deepspeed.zero.GatheredParameters(list(trainer.model.parameters()))
        context = _entered(parameters, trainer.model)
    else:
        if trainer.is_deepspeed_enabled and trainer.model.device != trainer.accelerator.device:
            trainer.model.to(trainer.accelerator.device)  # DeepSpeed does so when training begins
        context = nullcontext(trainer.model)
    with torch.no_grad(), context as model:
        model.eval()
        yield model
    trainer.model.train(was_training)


@contextmanager
def _entered(context: Any, value: Any) -> Iterator[Any]:
    with context:
        yield value


def evaluate_policy(
    trainer: WorkflowGRPOTrainer, problems: Sequence[Problem], label: str, *, visible: bool = True
) -> list[dict[str, Any]]:
    """Let the policy write `eval_samples` workflows for every problem, run and grade them.

    Each process takes its share of the problems. Progress is shown as `label` unless not `visible`.

    Returns:
        `list[dict]`: rows of all processes, as `Rollout.to_row()` gives them.
    """
    recipe, training = trainer.recipe, trainer.args
    samples = [problem for problem in problems for _ in range(recipe.eval_samples)]
    mine = samples[trainer.accelerator.process_index :: trainer.accelerator.num_processes]
    with policy_for_generation(trainer) as model:
        completions = generate_completions(
            model,
            trainer.processing_class,
            [policy_messages(problem.view, style=recipe.prompt_style) for problem in mine],
            max_new_tokens=training.max_completion_length,
            temperature=recipe.eval_temperature,
            top_p=training.top_p,
            top_k=training.top_k,
            repetition_penalty=training.repetition_penalty,
            batch_size=max(32, training.per_device_train_batch_size),
            seed=training.seed + trainer.accelerator.process_index,
            chat_template_kwargs=trainer.chat_template_kwargs,
        )
    return _score(trainer, list(zip(mine, completions, strict=True)), label, visible=visible)


def evaluate_baselines(trainer: WorkflowGRPOTrainer, problems: Sequence[Problem]) -> dict[str, list[dict[str, Any]]]:
    """Run every fixed workflow on the same problems; rows by baseline name."""
    mine = problems[trainer.accelerator.process_index :: trainer.accelerator.num_processes]
    names = [name for name in FIXED_BASELINES for _ in mine]
    pairs = [(problem, FIXED_BASELINES[name]) for name in FIXED_BASELINES for problem in mine]
    rows = _score(trainer, pairs, "fixed baselines", names)
    return {name: [row for row in rows if row["baseline"] == name] for name in FIXED_BASELINES}


def _score(
    trainer: WorkflowGRPOTrainer,
    pairs: list[tuple[Problem, str]],
    label: str,
    names: list[str] | None = None,
    *,
    visible: bool = True,
) -> list[dict[str, Any]]:
    with Bar(label, len(pairs), visible=visible and trainer.accelerator.is_main_process) as bar:
        rollouts = trainer.run_async(score_all(trainer.scorer, pairs, on_result=lambda rollout: bar.update()))
    spent = [error for error in gather_object([trainer.scorer.spent and str(trainer.scorer.spent)]) if error]
    if spent:
        raise BudgetExceededError(spent[0])
    rows = [rollout.to_row() for rollout in rollouts]
    if names is not None:
        rows = [{"baseline": name, **row} for name, row in zip(names, rows, strict=True)]
    return list(gather_object(rows))
