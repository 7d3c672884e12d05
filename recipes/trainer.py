"""`WorkflowGRPOTrainer`: TRL's `GRPOTrainer`, rewarded by running the workflows that the policy writes.

What it adds to the base class: the executor, the runtime and the sandbox live on TRL's reward event loop for the whole
run; groups whose rewards are all equal get advantages of `rewards/signal.py`, over all processes; the temperature
follows its schedule; every rollout is written to `rollouts.jsonl` with the advantage it got.
"""

import asyncio
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel, TrainerCallback, TrainerControl
from transformers.trainer_utils import rotate_checkpoints
from trl import GRPOTrainer

from aflow_ops.errors import BudgetExceededError, InfraError
from aflow_ops.executor import Executor, ExecutorConfig, ExecutorUsage, open_executor
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from data.problem import DOMAINS, Domain, Problem
from recipes.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.backup import Backup
from recipes.checkpoints import Checkpoint, seal, unseal
from recipes.guard import Collapse, CollapseWatch
from recipes.hub import Publication, publish
from recipes.rollout_log import RolloutLog
from recipes.sampling import EpochSampler
from recipes.spending import Spending
from recipes.tracking import add_policy_metrics
from rewards.diagnostics import Sample, shape_of
from rewards.rollout import Rollout, RolloutScorer
from rewards.signal import LearningSignal
from rewards.wa_grpo import Ending, adjust_groups, zero_signal_groups
from rewards.workflow_reward import WorkflowReward

T = TypeVar("T")
# What torch's file writers say on a full disk: the zip writer for large and for small files, and the stream under it.
_WRITER_FAILED = re.compile(r"inline_container\.cc|PytorchStreamWriter|iostream error")


def training_dataset(problems: Sequence[Problem], prompt_style: str) -> Dataset:
    """Return the dataset TRL trains on.

    Each row has `prompt` (chat messages made from the problem's public part) and `problem` (the whole row as JSON, for
    the reward only).
    """
    return Dataset.from_dict(
        {
            "prompt": [policy_messages(problem.view, style=prompt_style) for problem in problems],
            "problem": [json.dumps(problem.to_row()) for problem in problems],
        }
    )


class WorkflowGRPOTrainer(GRPOTrainer):
    """GRPO on workflows. Recipes subclass it and may override any stage.

    Args:
        model (`PreTrainedModel` or `str`): the policy.
        args (`WorkflowGRPOConfig`): training values.
        recipe (`RecipeArguments`): WA-GRPO weights, prompt style, limits.
        executor (`ExecutorConfig`): the executor that answers inside the operators.
        problems (`Sequence[Problem]`): one epoch of training problems, in order.
        kwargs: everything else `GRPOTrainer` takes (`processing_class`, `peft_config`, `callbacks`).

    Class attributes:
        domains: what the recipe is for; a domain mix with another one is refused.
    """

    domains: ClassVar[tuple[Domain, ...]] = DOMAINS

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: WorkflowGRPOConfig,
        recipe: RecipeArguments,
        executor: ExecutorConfig,
        problems: Sequence[Problem],
        **kwargs: Any,
    ) -> None:
        self.reward = WorkflowReward()
        args.push_to_hub = False  # transformers would push every checkpoint, with what must not leave the machine
        super().__init__(
            model=model,
            reward_funcs=[self.reward],
            args=args,
            train_dataset=training_dataset(problems, recipe.prompt_style),
            **kwargs,
        )
        if args.fp16:
            train_in_float32(self.model)
        logging.getLogger("trl.trainer.grpo_trainer").addFilter(_not_an_unscored_row)
        self.num_completions_to_print = args.num_completions_to_print or 0  # TRL's own default is all, every log
        self.recipe = recipe
        self.wa_config = recipe.wa_config
        self.run_dir = Path(args.output_dir)
        self.rollout_log = RolloutLog(self.run_dir, recipe.rollouts_part_mb * 1e6)
        self.signal = LearningSignal(args.num_generations, args.scale_rewards, recipe.level_weight)
        self._added: list[float] = []
        self._gathered: list[dict[str, Any]] = []
        self._steps_without_reward = 0
        self._start: Checkpoint | None = None
        self.lr_scale = 1.0
        self.backup: Backup | None = None
        self.watch = CollapseWatch(recipe.collapse_patience)
        self.collapse: Collapse | None = None
        self.stop_error: InfraError | None = None
        self.add_callback(_StepEnd(self))
        self.run_usage = ExecutorUsage()
        self._resources = AsyncExitStack()
        processes = self.accelerator.num_processes
        config = executor.shared_by(processes, nodes=max(1, processes // processes_here()))
        self.executor = self.run_async(self._open(config, self._rate_ledger()))
        record = self.run_dir / f".spent-{self.accelerator.process_index}.json"
        self.spending = Spending(record, fresh=args.resume_from_checkpoint is None)
        self._resources.callback(self.spending.close)
        self.executor.restore(self.spending.usage)
        self.executor.on_paid = self.spending.add

    def _rate_ledger(self) -> Path | None:
        """File in which the processes of this machine keep their common rate limits; none for a single process."""
        if processes_here() == 1:
            return None
        (name,) = broadcast_object_list([uuid4().hex])
        ledger = Path(tempfile.gettempdir()) / f"aflow-recipes-{name}.rates"
        self._resources.callback(ledger.unlink, missing_ok=True)
        return ledger

    async def _open(self, config: ExecutorConfig, ledger: Path | None) -> Executor:
        opened = open_executor(config, run_dir=self.run_dir, ledger=ledger)
        executor = await self._resources.enter_async_context(opened)
        sandbox = await self._resources.enter_async_context(
            open_sandbox(unsafe_subprocess=self.recipe.unsafe_subprocess)
        )
        limits = RuntimeLimits(timeout=self.recipe.workflow_timeout, processes=config.workflows_at_once)
        runtime = await self._resources.enter_async_context(WorkflowRuntime(executor, sandbox, limits))
        self.scorer = RolloutScorer(runtime, sandbox, self.recipe.judge_config)
        self.reward.scorer = self.scorer
        return executor

    def close(self) -> None:
        """Stop the runtime and the executor. The trainer cannot score anything afterwards."""
        self.run_async(self._resources.aclose())
        self.rollout_log.close()

    # The Hub

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none beside a checkpoint: the card tells results, and `recipes/hub.py` writes it with them."""

    def push_to_hub(self, *_: Any, **__: Any) -> str | None:
        """Push what the run left to `hub_model_id`, as `--push_to_hub` and `scripts/push_to_hub.py` do.

        Returns:
            `str`, *optional*: address of the model, on the main process.
        """
        self.save_model()
        if not self.accelerator.is_main_process:
            return None
        return publish(self.run_dir, Publication(self.args.hub_model_id or "", private=self.args.hub_private_repo))

    # Checkpoints

    def start_from(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint with the next `train()`: what was written after it is forgotten."""
        self._start = checkpoint
        self.args.resume_from_checkpoint = None if checkpoint is None else str(checkpoint.path)
        self._step, self._buffered_inputs = 0, None
        if checkpoint is None:
            return
        self._steps_without_reward = checkpoint.state["steps_without_reward"]
        self.lr_scale = min(self.lr_scale, checkpoint.state["lr_scale"])
        self.watch.go_on_from(checkpoint.state["watch"])
        self.signal.go_on_from(checkpoint.state["signal"])
        if checkpoint.path.parent.resolve() == self.run_dir.resolve() and self.accelerator.is_main_process:
            self.rollout_log.cut_back(checkpoint.state["rollouts_bytes"])

    def save_checkpoint(self) -> Path:
        """Save adapter, optimizer and scheduler of this step; returns the folder, for `--resume_from_checkpoint`.

        Raises:
            InfraError: the disk did not take it; the checkpoint before it stands.
        """
        self._save_checkpoint(self.model, trial=None)
        return self.run_dir / f"checkpoint-{self.state.global_step}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = self.run_dir / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # older ones go once this one is whole
        try:
            unseal(folder)
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                seal(folder, self._checkpoint_state())
                if self.backup is not None:
                    self.backup.checkpoint(folder)
                rotate_checkpoints(str(self.run_dir), limit, use_mtime=False)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not is_writing_failure(error):
                raise
            raise InfraError(
                f"{folder} could not be written: {error}; free some space and go on from the checkpoint before it with "
                "--resume_from_checkpoint auto"
            ) from error
        finally:
            self.args.save_total_limit = limit

    def _checkpoint_state(self) -> dict[str, Any]:
        return {
            "rollouts_bytes": self.rollout_log.size,
            "steps_without_reward": self._steps_without_reward,
            "lr_scale": self.lr_scale,
            "watch": self.watch.state(),
            "signal": self.signal.state(),
        }

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # transformers looks only after a step that it has trained
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    @property
    def between_generations(self) -> bool:
        """Whether every sampled completion has been trained on: only then is a checkpoint all there is to a run."""
        return bool(self._step % (self.args.steps_per_generation * self.num_iterations) == 0)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> EpochSampler:
        return EpochSampler(super()._get_train_sampler(dataset), lambda: int(self.state.epoch or 0))

    def scale_learning_rate(self) -> None:
        """Bring the learning rate, as a checkpoint restored it, to `lr_scale` times the configured one."""
        restored = 1.0 if self._start is None else self._start.state["lr_scale"]
        factor = self.lr_scale / restored
        if factor == 1.0:
            return
        scheduler = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        scheduler._last_lr = [rate * factor for rate in scheduler.get_last_lr()]
        for group in self.optimizer.param_groups:
            group["lr"] *= factor
            group["initial_lr"] = group.get("initial_lr", self.args.learning_rate) * factor

    def run_async(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the reward event loop and wait for it; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.async_loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log TRL's metrics, the policy's in their own group too, with what the run has paid its executor so far."""
        logs = {**logs, "executor/run_cost_usd": self.run_usage.cost_usd}
        if "loss" in logs:
            add_policy_metrics(logs, self._metrics["train"], self.temperature)
        super().log(logs, start_time)

    # Sampling

    def current_temperature(self) -> float:
        """Temperature of this step: linear from `temperature` to `temperature_final`, then constant."""
        first, last = self.args.temperature, self.args.temperature_final
        if last is None:
            return first
        return first + (last - first) * min(1.0, self.state.global_step / self.args.temperature_steps)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._set_temperature(self.current_temperature())
        output = super()._generate_and_score_completions(inputs)
        advantages = output["advantages"]
        first = self.accelerator.process_index * len(advantages)
        output["advantages"] = advantages + advantages.new_tensor(self._added[first : first + len(advantages)])
        self._write_rollouts(gather_object(output["advantages"].tolist()))
        return output

    def _set_temperature(self, temperature: float) -> None:
        """Sample and score at `temperature` from here on."""
        self.temperature = temperature
        if self.use_vllm:
            self.vllm_generation.temperature = temperature
        else:
            self.generation_config.temperature = temperature
        for cell in self._temperature_cells:
            cell.cell_contents = temperature

    @cached_property
    def _temperature_cells(self) -> list[Any]:
        """Where the fused LM heads of the policy and of the reference keep their temperature; unwrapping takes time."""
        models = [model for model in (self.model, self.ref_model) if model is not None]
        return [scoring_temperature(self.accelerator.unwrap_model(model)) for model in models]

    # Rewards

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        """Score the local completions, and work out on whole groups what tied ones add to the advantages.

        Returns:
            `torch.Tensor` of shape (world_size * B, 1): tier rewards, K consecutive rows a group, NaN for none.
        """
        gathered = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        rewards = [None if value != value else value for value in gathered[:, 0].tolist()]
        rollouts = self.reward.last
        tied = zero_signal_groups(rewards, self.num_generations)
        first = self.accelerator.process_index * len(rollouts)
        rollouts = self.run_async(
            self._with_revise_gain(rollouts, [tied[(first + i) // self.num_generations] for i in range(len(rollouts))])
        )
        self._stop_if_pointless(rewards, rollouts)
        features = gather_object([rollout.features() for rollout in rollouts])
        self._watch_for_collapse([feature.ending for feature in features])
        adjusted = adjust_groups(rewards, features, self.num_generations, self.wa_config)
        samples = gather_object([_sample(rollout) for rollout in rollouts])
        step = self.signal.step(samples, adjusted.rewards)
        self._added = step.advantages
        for name, value in {**{f"wa_grpo/{n}": v for n, v in adjusted.metrics.items()}, **step.metrics}.items():
            self._log_metric(name, value)
        for warning in step.warnings if self.accelerator.is_main_process else ():
            print(f"warning: step {self.state.global_step + 1}: {warning}", file=sys.stderr)
        rows = [{"prompt": prompt, **rollout.to_row()} for prompt, rollout in zip(prompts, rollouts, strict=True)]
        self._gathered = [
            {**row, "adjusted_reward": reward}
            for row, reward in zip(gather_object(rows), adjusted.rewards, strict=True)
        ]
        return gathered

    def _stop_if_pointless(self, rewards: Sequence[float | None], rollouts: Sequence[Rollout]) -> None:
        """Have the run stop after this step, on all processes alike, when it cannot get further rewards."""
        failures = [rollout.infra_error for rollout in rollouts if rollout.infra_error is not None]
        state = (self.scorer.spent and str(self.scorer.spent), failures[0] if failures else None, self.executor.usage)
        *errors, usages = zip(*gather_object([state]), strict=True)
        spent, failed = ([item for item in column if item] for column in errors)
        self.run_usage = sum(usages, ExecutorUsage())
        blind = all(reward is None for reward in rewards)
        self._steps_without_reward = self._steps_without_reward + 1 if blind else 0
        if spent:
            self.stop_error = BudgetExceededError(spent[0])
        elif self._steps_without_reward >= self.recipe.max_outage_steps:
            steps = self._steps_without_reward
            self.stop_error = InfraError(f"no rollout of the last {steps} steps could be graded: {failed[0]}")

    def _watch_for_collapse(self, endings: Sequence[Ending]) -> None:
        """Have the run stop after this step when hardly any workflow has been valid for long."""
        judged = [ending != "invalid" for ending in endings if ending != "infra_error"]
        if judged and self.collapse is None:
            self.collapse = self.watch.seen(self.state.global_step, sum(judged) / len(judged))

    async def _with_revise_gain(self, rollouts: Sequence[Rollout], tied: Sequence[bool]) -> list[Rollout]:
        """Grade drafts before and after Revise/Test, only where a tie-break will look at them."""
        return await asyncio.gather(
            *(
                self.scorer.with_revise_gain(rollout) if is_tied and self.wa_config.enabled else _unchanged(rollout)
                for rollout, is_tied in zip(rollouts, tied, strict=True)
            )
        )

    def _write_rollouts(self, advantages: list[float]) -> None:
        if self.accelerator.is_main_process:
            rows = zip(self._gathered, advantages, strict=True)
            self.rollout_log.write(self.state.global_step, [{**row, "advantage": value} for row, value in rows])


class _StepEnd(TrainerCallback):
    """What the trainer does between steps: saving only when a checkpoint is complete, and stopping with one."""

    def __init__(self, trainer: WorkflowGRPOTrainer) -> None:
        self.trainer = trainer
        self._overdue = False

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """Apply a lowered learning rate; keep the very beginning, so that there is always something to roll back to."""
        self.trainer.scale_learning_rate()
        if state.global_step == 0 and self.trainer.watch.patience and self.trainer._start is None:
            self.trainer.save_checkpoint()

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> TrainerControl:
        """Ask for a checkpoint and the end when there is a reason to stop; put a checkpoint off that would lose
        completions that were sampled but not trained on."""
        if self.trainer.stop_error is not None:
            control.should_save = control.should_training_stop = True
        elif self.trainer.collapse is not None:
            control.should_save, control.should_training_stop = False, True
        elif control.should_save or self._overdue:
            control.should_save = self.trainer.between_generations
            self._overdue = not control.should_save
        return control


def train_in_float32(model: torch.nn.Module) -> None:
    """Hold the parameters that train in float32, as fp16 mixed precision needs them.

    TRL keeps the adapter of a quantized model in bf16, and the gradient scaler unscales neither bf16 on CUDA
    (https://github.com/pytorch/pytorch/issues/127176) nor fp16 gradients.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def is_writing_failure(error: Exception) -> bool:
    """Whether an error while saving is the disk's; torch's writers raise a plain `RuntimeError` for it."""
    return not isinstance(error, RuntimeError) or _WRITER_FAILED.search(str(error)) is not None


def processes_here() -> int:
    """How many processes of this run are on this machine, as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", PartialState().num_processes))


def _sample(rollout: Rollout) -> Sample:
    shape = shape_of(rollout.workflow.operators) if rollout.workflow is not None else None
    return Sample(rollout.problem.domain, shape, rollout.reward)


async def _unchanged(rollout: Rollout) -> Rollout:
    return rollout


def _not_an_unscored_row(record: logging.LogRecord) -> bool:
    """Keep TRL from printing whole rows, gold answers included, for rollouts without a reward: we log their share."""
    return not record.getMessage().startswith("All reward functions returned None")


def scoring_temperature(model: torch.nn.Module) -> Any:
    """Return the cell with the temperature of TRL's fused LM head, which keeps it in a closure (`trl.trainer.utils`).

    Raises:
        RuntimeError: the model has no such head: another version of trl.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    head: Any = base.forward
    while head is not None:
        function = getattr(head, "__func__", head)
        if "temperature" in function.__code__.co_freevars and function.__name__ == "forward":
            return function.__closure__[function.__code__.co_freevars.index("temperature")]
        head = getattr(function, "__wrapped__", None)
    raise RuntimeError("TRL's fused LM head was not found on the policy; this trl version is not supported")
