"""`WorkflowGRPOTrainer`: TRL's `GRPOTrainer`, rewarded by running the workflows that the policy writes.

What it adds to the base class: the executor, the runtime and the sandbox live on TRL's reward event loop for the whole
run; groups whose rewards are all equal get advantages of `rewards/signal.py`, over all processes; the temperature
follows its schedule; every rollout is written to `rollouts.jsonl` with the advantage it got.
"""

import asyncio
import copy
import math
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from aflow_ops.errors import BudgetExceededError, InfraError, UsageError
from aflow_ops.executor import Executor, ExecutorConfig, ExecutorUsage
from data.problem import Problem
from recipes.backup.backup import Backup
from recipes.run.checkpoints import Checkpoint
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.training.accounts import keep_accounts, process_share, rate_ledger
from recipes.training.ahead import RolloutsAhead
from recipes.training.lifecycle import ResumableGRPOTrainer
from recipes.training.problems import training_dataset
from recipes.training.replay import Policy, open_replay
from recipes.training.replayed_steps import GivenSteps, ReplayedSteps
from recipes.training.trl_internals import SamplingTemperature
from rewards.columns import finite_rows, settle, tie_break_factor
from rewards.diagnostics import Sample, shape_of
from rewards.opening import open_scorer
from rewards.reward_funcs import RewardFunc, load_rewards
from rewards.rollout import Rollout, RolloutScorer
from rewards.signal import LearningSignal
from rewards.wa_grpo import Ending, adjust_groups, zero_signal_groups
from rewards.workflow_reward import WorkflowReward


class WorkflowGRPOTrainer(ResumableGRPOTrainer):
    """GRPO on workflows. Recipes subclass it and may override any stage.

    Args:
        model (`PreTrainedModel` or `str`): the policy.
        args (`WorkflowGRPOConfig`): training values; the trainer keeps a copy of its own.
        recipe (`RecipeArguments`): WA-GRPO weights, prompt style, limits.
        executor (`ExecutorConfig`): the executor that answers inside the operators.
        problems (`Sequence[Problem]`): one epoch of training problems, in order.
        reward_funcs (`Sequence`): the rewards, by name, path or callable (`rewards/reward_funcs.py`); added with
            `args.reward_weights`. Only the workflow reward has ties broken, stops runs and counts as `reward` in
            `rollouts.jsonl`.
        start (`Checkpoint`, *optional*): where the run goes on; `train_policy` takes it again.
        backup (`Backup`, *optional*): of the run, in the main process.
        kwargs: everything else `GRPOTrainer` takes (`processing_class`, `peft_config`, `callbacks`).

    Raises:
        UsageError: fewer problems than a generation takes, or what is to be replayed cannot be (`open_replay`).
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: WorkflowGRPOConfig,
        recipe: RecipeArguments,
        executor: ExecutorConfig,
        problems: Sequence[Problem],
        reward_funcs: Sequence[str | RewardFunc] = ("workflow",),
        start: Checkpoint | None = None,
        backup: Backup | None = None,
        **kwargs: Any,
    ) -> None:
        rewards = load_rewards(reward_funcs, args.reward_weights)
        self.reward = next(reward for reward in rewards if isinstance(reward, WorkflowReward))
        args = copy.copy(args)
        check_enough(len(problems), args)
        args.shuffle_dataset = args.shuffle_dataset and recipe.curriculum == "none"
        super().__init__(
            model=model,
            reward_funcs=rewards,
            args=args,
            train_dataset=training_dataset(problems, recipe.prompt_style),
            collapse_patience=recipe.collapse_patience,
            rollouts_part_mb=recipe.rollouts_part_mb,
            start=start,
            backup=backup,
            **kwargs,
        )
        self.kinds = [problem.source for problem in problems]
        self.recipe = recipe
        self.wa_config = recipe.wa_config
        self.sampling = SamplingTemperature(self)
        self.signal = LearningSignal(
            args.num_generations, args.scale_rewards, recipe.level_weight, recipe.shape_entropy_coef
        )
        tokenizer, name = self.processing_class, str(getattr(model, "name_or_path", model))
        self.policy = Policy(name, tokenizer, self.eos_token_ids, args.max_completion_length)
        self.shaping = recipe.replay_shaping
        replay = open_replay(recipe, problems, self.policy, args.num_generations)
        self.replayed: GivenSteps | None = None
        if replay is not None:
            self.replayed = ReplayedSteps(self, replay, recipe.replay_baseline)
        self.ahead = RolloutsAhead(self, recipe.rollouts_ahead) if recipe.rollouts_ahead else None
        self._added_advantages: list[float] = []  # to TRL's, of all processes' rows of this generation
        self._rollout_rows: list[dict[str, Any]] = []  # of all processes, for `rollouts.jsonl`
        self.run_usage = ExecutorUsage()
        self._resources = AsyncExitStack()
        self.scorer = self.reward.scorer = self.run_async(self._open(executor, rate_ledger(self._resources)))
        self.executor: Executor = self.scorer.runtime.executor
        self.spending = keep_accounts(self.executor, self.run_dir, self._resources, fresh=start is None)

    async def _open(self, config: ExecutorConfig, ledger: Path | None) -> RolloutScorer:
        return await self._resources.enter_async_context(
            open_scorer(
                process_share(config),
                judge=self.recipe.judge_config,
                seed=str(self.args.seed),
                workflow_timeout=self.recipe.workflow_timeout,
                unsafe_subprocess=self.recipe.unsafe_subprocess,
                run_dir=self.run_dir,
                ledger=ledger,
                proven=True,
            )
        )

    def close(self) -> None:
        """Stop the runtime and the executor. The trainer cannot score anything afterwards."""
        if self.ahead is not None:
            self.ahead.stop_runs()
        self.run_async(self._resources.aclose())
        self.rollout_log.close()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as every trainer of ours does, with what the run has paid its executor so far."""
        super().log({**logs, "executor/run_cost_usd": self.run_usage.cost_usd}, start_time)

    # Sampling

    def current_temperature(self) -> float:
        """Temperature of this step: linear from `temperature` to `temperature_final`, then constant."""
        first: float = self.args.temperature
        last: float | None = self.args.temperature_final
        if last is None:
            return first
        passed: float = min(1.0, self.state.global_step / self.args.temperature_steps)
        return first + (last - first) * passed

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.ahead is not None:
            self.ahead.begin(inputs)
        else:
            self.sampling.set(self.current_temperature())
        if self.replayed is not None:
            self.replayed.plan(inputs)
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        advantages = output["advantages"]
        first = self.accelerator.process_index * len(advantages)
        own = self._added_advantages[first : first + len(advantages)]
        output["advantages"] = advantages + advantages.new_tensor(own)
        logged = self._logs["advantages"]  # of TRL's table of completions
        for offset, added in enumerate(reversed(self._added_advantages[-len(logged) :]), start=1):
            logged[-offset] += added
        if self.replayed is not None:
            self.replayed.finish(output, self._rollout_rows)
        if self.ahead is not None:
            self.ahead.finish(output)
        self._write_rollouts(gather_object(output["advantages"].tolist()))
        return output

    def _generate(self, prompts: list[Any]) -> Any:
        sampled = self.ahead.sampled() if self.ahead is not None else None
        return super()._generate(prompts) if sampled is None else sampled

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        known = self.ahead.known_logps() if self.ahead is not None else None
        return super()._get_per_token_logps_and_entropies(*args, **kwargs) if known is None else (known, None, None)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Draw the batches of an optimizer step; with rollouts ahead, such that the next ones can be seen."""
        if self.ahead is None:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        drawn = super().get_batch_samples(self.ahead.drawing(epoch_iterator), num_batches, device)
        self.ahead.drawn(drawn[0])
        return drawn

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as TRL does; no workflow goes on after it."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self.ahead is not None:
                self.ahead.stop_runs()

    # Checkpoints

    def start_from(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint with the next `train()`: what was written after it is forgotten."""
        if checkpoint is not None:  # first: a state that cannot be taken must cost nothing
            try:
                self.signal.load_state_dict(checkpoint.state["signal"])
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(
                    f"{checkpoint.path}: was written by another version of this project ({type(error).__name__}: "
                    f"{error}); go on with that version, or start anew in another --output_dir"
                ) from None
        super().start_from(checkpoint)
        if self.ahead is not None:
            self.ahead.start_from(None if checkpoint is None else checkpoint.path)
        if checkpoint is not None and self.replayed is not None and "replay" in checkpoint.state:
            self.replayed.load_state_dict(checkpoint.state["replay"])

    def _checkpoint_state(self) -> dict[str, Any]:
        replay = {} if self.replayed is None else {"replay": self.replayed.state_dict()}
        return {**super()._checkpoint_state(), "signal": self.signal.state_dict(), **replay}

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.ahead is not None:
            self.ahead.save(Path(output_dir))

    # Rewards

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        """Score the local completions, and work out on whole groups what tied ones add to the advantages.

        Returns:
            `torch.Tensor` of shape (world_size * B, number of rewards): K consecutive rows a group, NaN for what is
            left out of a group (`rewards/columns.py`).
        """
        columns = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        given = finite_rows(columns.tolist(), self.reward_func_names)
        replayed = {} if self.replayed is None else self.replayed.weigh(given, self._workflow_column)
        settled = settle(given, self._workflow_column, self.num_generations)
        rollouts, adjusted = self._break_ties(self.reward.last, settled)
        for index, advantage in replayed.items():
            self._added_advantages[index] = advantage
        rows = [{"prompt": prompt, **rollout.to_row()} for prompt, rollout in zip(prompts, rollouts, strict=True)]
        self._rollout_rows = [
            {**row, "adjusted_reward": reward, **self._named(values)}
            for row, reward, values in zip(gather_object(rows), adjusted, given, strict=True)
        ]
        return columns.new_tensor([[math.nan if value is None else value for value in row] for row in settled])

    @property
    def _workflow_column(self) -> int:
        column: int = self.reward_funcs.index(self.reward)
        return column

    def _named(self, values: Sequence[float | None]) -> dict[str, Any]:
        """What `rollouts.jsonl` has of several rewards, as they were given; nothing for the workflow's alone."""
        return {"rewards": dict(zip(self.reward_func_names, values, strict=True))} if len(values) > 1 else {}

    def _break_ties(
        self, rollouts: Sequence[Rollout], settled: Sequence[Sequence[float | None]]
    ) -> tuple[Sequence[Rollout], list[float | None]]:
        """Work out, from the workflow rewards alone, what tied groups add to the advantages; log it.

        Args:
            rollouts (`Sequence[Rollout]`): this process's.
            settled (`Sequence`): rewards of all processes' rollouts, from `settle`.

        Returns:
            `tuple`: this process's rollouts with their revise gain; the workflow rewards of all with their tie-breaks.
        """
        rewards = [row[self._workflow_column] for row in settled]
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
        progress = min(1.0, self.state.global_step / self.state.max_steps) if self.state.max_steps else 0.0
        step = self.signal.step(samples, adjusted.rewards, progress)
        weights = self.reward_weights.tolist()
        factor = tie_break_factor(settled, weights, self._workflow_column, self.args.scale_rewards)
        self._added_advantages = [factor * value for value in step.advantages]
        for name, value in {**{f"wa_grpo/{n}": v for n, v in adjusted.metrics.items()}, **step.metrics}.items():
            self._log_metric(name, value)
        for warning in step.warnings if self.accelerator.is_main_process else ():
            print(f"warning: step {self.state.global_step + 1}: {warning}", file=sys.stderr)
        return rollouts, adjusted.rewards

    def _stop_if_pointless(self, rewards: Sequence[float | None], rollouts: Sequence[Rollout]) -> None:
        """Have the run stop after this step, on all processes alike, when it cannot get further rewards."""
        failures = [rollout.infra_error for rollout in rollouts if rollout.infra_error is not None]
        state = (self.scorer.spent and str(self.scorer.spent), failures[0] if failures else None, self.executor.usage)
        *errors, usages = zip(*gather_object([state]), strict=True)
        spent, failed = ([item for item in column if item] for column in errors)
        self.run_usage = sum(usages, ExecutorUsage())
        outage = self.outage(blind=all(reward is None for reward in rewards), longest=self.recipe.max_outage_steps)
        if spent:
            self.stop_error = BudgetExceededError(spent[0])
        elif outage:
            self.stop_error = InfraError(f"no rollout of the last {outage} steps could be graded: {failed[0]}")

    def _watch_for_collapse(self, endings: Sequence[Ending]) -> None:
        """Have the run stop after this step when hardly any workflow has been valid for long."""
        judged = [ending != "invalid" for ending in endings if ending != "infra_error"]
        if judged and self.collapse is None:
            written_at = self.state.global_step if self.ahead is None else self.ahead.written_at
            self.collapse = self.watch.seen(written_at, sum(judged) / len(judged))

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
            rows = zip(self._rollout_rows, advantages, strict=True)
            self.rollout_log.write(self.state.global_step, [{**row, "advantage": value} for row, value in rows])


def check_enough(problems: int, args: WorkflowGRPOConfig) -> None:
    """Refuse an epoch without a whole generation: TRL leaves out what is not one, and would train on nothing.

    Raises:
        UsageError: says how many it takes.
    """
    at_once = args.generation_batch_size // args.num_generations
    if problems < at_once:
        raise UsageError(
            f"num_train_problems={problems}: a generation takes {at_once}, and nothing would be trained; give more, or "
            "lower --per_device_train_batch_size or --gradient_accumulation_steps"
        )


def _sample(rollout: Rollout) -> Sample:
    shape = shape_of(rollout.workflow.operators) if rollout.workflow is not None else None
    problem = rollout.problem
    return Sample(problem.domain, f"{problem.source}/{problem.id}", shape, rollout.reward)


async def _unchanged(rollout: Rollout) -> Rollout:
    return rollout
