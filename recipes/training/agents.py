"""`AgentGRPOTrainer`: TRL's `GRPOTrainer` on episodes in which the policy plays several agents.

How it sits on TRL: a step's problems are played first, K episodes each. TRL then gets a row for every episode and
trained role (`rollout_func` hands over its tokens), with foreign tokens masked as TRL masks a tool's (`env_mask`). A
role that was not spoken to still has its row, of one masked token, so that TRL's batches keep their size. What TRL
returns gains the advantages of `rewards/agent_advantages.py` and the number of each row's agent. The loss is a mean of
tokens within a row, then a mean of rows: an episode of many turns weighs as much as one of few. With `agent_rows: turn`
a row is one turn instead, its gradient weighs one part of as many as the agent had turns in that episode, and rows of
one masked token fill up what TRL divides.
"""

import json
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedModel

from aflow_ops.agents.episode import Episode
from aflow_ops.agents.speakers import ExecutorSpeaker
from aflow_ops.agents.team import Outcome, Team
from aflow_ops.errors import InfraError, UsageError
from aflow_ops.executor import Executor, ExecutorConfig, ExecutorUsage, open_executor
from data.problem import Problem
from recipes.backup.backup import Backup
from recipes.run.checkpoints import Checkpoint
from recipes.run.role_adapters import NAMES_FILE, read_role_adapters, write_role_adapters
from recipes.settings.agents import ROW_LOSSES, AgentArguments
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.training.accounts import keep_accounts, process_share, rate_ledger
from recipes.training.agent_adapters import AgentAdapters
from recipes.training.agent_play import ChatTokens, EpisodePlayer, TokenRow, Turns, room_of
from recipes.training.agent_rows import TrainingRow, episode_rows, row_reward, step_metrics, training_rows
from recipes.training.by_length import score_by_length
from recipes.training.lifecycle import ResumableGRPOTrainer
from recipes.training.trl_internals import train_in_float32
from rewards.agent_advantages import AgentRow, agent_advantages, zero_signal


async def agent_reward(**_: Any) -> list[float | None]:
    """Stand among TRL's reward functions, which it wants at least one of; rewards come from the episodes."""
    raise RuntimeError("AgentGRPOTrainer asks no reward function")


class AgentGRPOTrainer(ResumableGRPOTrainer):
    """GRPO for a team of agents.

    Args:
        model (`PreTrainedModel` or `str`): the policy, which plays every role that is not given away.
        args (`WorkflowGRPOConfig`): training values; `num_generations` is the number of episodes a problem,
            `max_completion_length` the longest turn, and a batch counts episodes.
        recipe (`AgentArguments`): alpha, adapters, who trains.
        team (`Team`): the recipe's roles, episode and tools.
        problems (`Sequence[Problem]`): one epoch of training problems, in order.
        executor (`ExecutorConfig`, *optional*): plays the roles of `recipe.agent_models`.
        start (`Checkpoint`, *optional*): where the run goes on.
        backup (`Backup`, *optional*): of the run, in the main process.
        kwargs: everything else `GRPOTrainer` takes (`processing_class`, `peft_config`, `callbacks`).

    Raises:
        UsageError: a flag names a role that there is not.
        ValueError: a loss in which long episodes weigh more.
    """

    _last_loaded_step: int  # TRL's

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: WorkflowGRPOConfig,
        recipe: AgentArguments,
        team: Team,
        problems: Sequence[Problem],
        executor: ExecutorConfig | None = None,
        start: Checkpoint | None = None,
        backup: Backup | None = None,
        **kwargs: Any,
    ) -> None:
        if args.loss_type not in ROW_LOSSES:
            raise ValueError(f"loss_type={args.loss_type!r} weighs long episodes more; use {' or '.join(ROW_LOSSES)}")
        self.recipe, self.team = recipe, with_limits(team, recipe)
        self.trained = recipe.trained(team.names)
        super().__init__(
            model=model,
            reward_funcs=[agent_reward],
            args=args,
            train_dataset=episode_dataset(problems),
            collapse_patience=0,
            rollouts_part_mb=recipe.rollouts_part_mb,
            start=start,
            backup=backup,
            **kwargs,
        )
        self.rollout_func = self._hand_over  # given to TRL at its start, it would warn that the seam is young
        self.kinds = [problem.source for problem in problems]
        frozen = [name for name in team.names if name not in (*self.trained, *recipe.given_away)]
        self.adapters = AgentAdapters(self, recipe.adapters, self.trained, frozen)
        if args.fp16:  # those of single roles too
            train_in_float32(self.model)
        self.executor: Executor | None = None
        self._resources = AsyncExitStack()
        others = self._opened_others(executor, fresh=start is None)
        room = room_of(self.model, args.max_completion_length, args.vllm_max_model_length if args.use_vllm else None)
        chat = ChatTokens(self._tokenizer, self.eos_token_ids, self.chat_template_kwargs)
        together = self.accelerator.num_processes > 1
        self.player = EpisodePlayer(self.team, chat, room, self.run_async, others, together=together)
        self._rows: list[TokenRow] = []
        self._rewards: list[float | None] = []
        self._learning: Sequence[str] = self.trained  # from the generation that is trained on

    def _opened_others(self, config: ExecutorConfig | None, *, fresh: bool) -> dict[str, ExecutorSpeaker]:
        """Open the executor and give it its roles; nothing is opened when it has none."""
        roles = self.recipe.given_away
        if not roles:
            return {}
        if config is None:
            raise ValueError(f"agent_models={self.recipe.agent_models} needs an executor")
        ledger = rate_ledger(self._resources)
        opening = open_executor(process_share(config), run_dir=self.run_dir, ledger=ledger, proven=True)
        self.executor = self.run_async(self._resources.enter_async_context(opening))
        keep_accounts(self.executor, self.run_dir, self._resources, fresh=fresh)
        speaker = ExecutorSpeaker(self.executor, self.args.max_completion_length)
        return dict.fromkeys(roles, speaker)

    def close(self) -> None:
        """Stop the executor. The trainer cannot play anything afterwards."""
        self.run_async(self._resources.aclose())
        self.rollout_log.close()

    @property
    def usage(self) -> ExecutorUsage:
        """What this process's executor has used; nothing without one."""
        return ExecutorUsage() if self.executor is None else self.executor.usage

    def training_now(self) -> list[str]:
        """Return the roles that train in this step: with `alternate` one of them, else all."""
        if not self.recipe.alternate:
            return self.trained
        turn = self.state.global_step // self.recipe.alternate
        return [self.trained[turn % len(self.trained)]]

    # A step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Play the episodes of this process's problems, and have TRL score their rows."""
        self._sync_sampler()
        first = self.accelerator.process_index * len(inputs)
        problems = [Problem.from_row(json.loads(row["problem"])) for row in inputs]
        tasks = [(problem, (first + at) % self.num_generations) for at, problem in enumerate(problems)]
        episodes = self.player.play(tasks, self._write)
        outcomes = self._settled(episodes)
        rows = [
            AgentRow((first + at) // self.num_generations, name, row_reward(episode, name, self.recipe.alpha))
            for at, episode in enumerate(episodes)
            for name in self.team.names
        ]
        everyone: list[AgentRow] = gather_object(rows)
        advantages = agent_advantages(everyone, self.args.scale_rewards)
        mine = advantages[self.accelerator.process_index * len(rows) :][: len(rows)]
        self._log_step(episodes, outcomes, everyone)
        output = self._scored(inputs, episodes, rows, mine)
        self._write_rollouts(episodes, first, rows, mine)
        return output

    def _sync_sampler(self) -> None:
        """Bring vLLM's weights up to date before the first turn."""
        if self.use_vllm and self.state.global_step != self._last_loaded_step:
            self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step

    def _write(self, roles: list[str], prompts: list[list[int]]) -> Turns:
        """Sample the next turns, in step with the other processes.

        A process with fewer conversations than others samples for stand-ins too: with weights that are spread over all
        it has to take part, and vLLM's server deals out as many to each.
        """
        count = len(prompts)
        if self.accelerator.num_processes > 1:
            lacking = max(gather_object([count]) if self.use_vllm else [count, 1]) - count
            roles = roles + self.trained[:1] * lacking
            prompts = prompts + [[self._tokenizer.eos_token_id]] * lacking
        if not prompts:
            return [], None
        ids, logprobs = self.adapters.written(roles, prompts)
        return ids[:count], None if logprobs is None else logprobs[:count]

    def _settled(self, episodes: Sequence[Episode]) -> list[Outcome]:
        """Have the recipe settle the outcomes of all processes; give this one's episodes theirs and return all."""
        outcomes = list(self.team.settle(gather_object([episode.outcome for episode in episodes])))
        own = islice(outcomes, self.accelerator.process_index * len(episodes), None)
        for episode, outcome in zip(episodes, own, strict=False):
            episode.outcome = outcome
        self._stop_if_pointless(outcomes, gather_object([episode.error for episode in episodes]))
        return outcomes

    def _stop_if_pointless(self, outcomes: Sequence[Outcome], errors: Sequence[str | None]) -> None:
        """Have the run stop after this step when for some steps nothing could be rewarded."""
        blind = all(outcome.team is None for outcome in outcomes)
        if outage := self.outage(blind=blind, longest=self.recipe.max_outage_steps):
            why = next((error for error in errors if error), "no episode was rewarded")
            self.stop_error = InfraError(f"no episode of the last {outage} steps counts: {why}")

    def _scored(
        self,
        inputs: list[dict[str, Any]],
        episodes: Sequence[Episode],
        rows: Sequence[AgentRow],
        advantages: Sequence[float | None],
    ) -> dict[str, Any]:
        """Hand the rows to TRL, one for each episode and trained role, and complete what it returns."""
        agents = [name for _ in episodes for name in self.team.names]
        kept = [at for at, name in enumerate(agents) if name in self.trained]
        tokens = [_tokens(episode, name) for episode in episodes for name in self.team.names]
        laid = self._laid_out([tokens[at] for at in kept])
        places = [kept[row.part] for row in laid]
        self._rows = [row.tokens for row in laid]
        self._rewards = [rows[at].reward if row.first else None for row, at in zip(laid, places, strict=True)]
        row_inputs = [{"prompt": inputs[at // len(self.team.names)]["prompt"], "agent": agents[at]} for at in places]
        whose = torch.tensor([self.trained.index(agents[at]) for at in places], device=self.accelerator.device)
        with self.adapters.scoring({"agent": whose}):
            output: dict[str, Any] = super()._generate_and_score_completions(row_inputs)
        self._learning = now = self.training_now()
        values = [
            advantages[at] if agents[at] in now and row.share else None for row, at in zip(laid, places, strict=True)
        ]
        output["advantages"] = output["advantages"].new_tensor([value or 0.0 for value in values])
        has_part = torch.tensor([value is not None for value in values], device=output["tool_mask"].device)
        output["tool_mask"] = output["tool_mask"] * has_part.unsqueeze(1).to(output["tool_mask"])
        output["agent"] = whose
        if self.recipe.agent_rows == "turn":  # TRL takes the mean over rows; meant is that over parts
            weights = [row.share * len(laid) / len(kept) for row in laid]
            output["row_weight"] = output["advantages"].new_tensor(weights)
        return output

    def _laid_out(self, parts: Sequence[TokenRow | None]) -> list[TrainingRow]:
        """Return the rows of these parts; as many in every process, and as TRL can divide into groups and steps."""
        end = self._tokenizer.eos_token_id
        absent = TokenRow([end], [end], [0], [0.0])
        laid = training_rows(parts, absent, by_turn=self.recipe.agent_rows == "turn")
        if self.recipe.agent_rows == "turn":
            group = self.num_generations // math.gcd(self.num_generations, self.accelerator.num_processes)
            multiple = math.lcm(group, self.args.steps_per_generation)
            count = -(-max(1, *gather_object([len(laid)])) // multiple) * multiple
            laid += [TrainingRow(0, absent, share=0.0, first=False)] * (count - len(laid))
        return laid

    def _hand_over(self, prompts: list[Any], _: Any) -> dict[str, Any]:
        """TRL's seam for rows of one's own."""
        return {
            "prompt_ids": [row.prompt for row in self._rows],
            "completion_ids": [row.completion for row in self._rows],
            "logprobs": [row.logprobs for row in self._rows] if self.use_vllm else None,
            "env_mask": [row.mask for row in self._rows],
        }

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *_: Any) -> torch.Tensor:
        """Return the rows' rewards of all processes, NaN for those without one; TRL logs them."""
        own = [math.nan if reward is None else reward for reward in self._rewards]
        return self.accelerator.gather(torch.tensor(own, device=self.accelerator.device)).unsqueeze(1)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        with self.adapters.scoring(inputs):
            return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        score = partial(score_by_length, super()._get_per_token_logps_and_entropies)
        logps, entropies, aux_loss = self.adapters.scored(score, model, input_ids, *args, **kwargs)
        self.adapters.log_entropy(entropies)
        return self.adapters.weighted(logps), entropies, aux_loss

    # What is written

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as every trainer of ours does, with what the executor has cost so far."""
        if self.executor is not None:
            logs = {**logs, "executor/run_cost_usd": self.usage.cost_usd}
        super().log(logs, start_time)

    def _log_step(self, episodes: Sequence[Episode], outcomes: Sequence[Outcome], rows: Sequence[AgentRow]) -> None:
        """Log the step's metrics, of all processes."""
        sizes = [{name: (c.turns, c.tokens) for name, c in episode.conversations.items()} for episode in episodes]
        endings = gather_object([episode.ending for episode in episodes])
        metrics = step_metrics(outcomes, endings, gather_object(sizes), rows)
        for name, share in zero_signal(rows).items():
            metrics[f"agents/{name}/zero_signal"] = share
        for name, value in {**metrics, **self.team.measure(outcomes)}.items():
            self._log_metric(name, value)
        teams = [outcome.team for outcome in outcomes if outcome.team is not None]
        if teams:
            self._log_metric("agents/team_reward", fmean(teams))

    def _write_rollouts(
        self, episodes: Sequence[Episode], first: int, rows: Sequence[AgentRow], advantages: Sequence[float | None]
    ) -> None:
        values = {(at, name): index for index, (at, name) in enumerate(_places(episodes, self.team.names))}
        written = [
            {**row, "reward": rows[at].reward, "advantage": advantages[at]}
            for number, episode in enumerate(episodes)
            for row in episode_rows(episode, first + number)
            for at in [values[number, row["agent"]]]
        ]
        everyone = gather_object(written)
        if self.accelerator.is_main_process:
            self.rollout_log.write(self.state.global_step, everyone)

    # Adapters in checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_role_adapters(Path(output_dir or self.run_dir), self.adapters.table)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        kept = read_role_adapters(Path(resume_from_checkpoint) / NAMES_FILE)
        if kept != self.adapters.table:
            raise UsageError(
                f"{resume_from_checkpoint} has the adapters {kept}, this run {dict(self.adapters.table)}: go on with "
                "the --adapters and --train_agents that it was started with"
            )
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        self.adapters.enable()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Train on one batch; the gradient of a whole step is finished before the optimizer sees it."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            self.adapters.finish_gradients(self._learning)
        return loss


def _places(episodes: Sequence[Episode], names: Sequence[str]) -> list[tuple[int, str]]:
    return [(at, name) for at in range(len(episodes)) for name in names]


def _tokens(episode: Episode, name: str) -> TokenRow | None:
    """The tokens of a role the policy played; `None` when it did not speak."""
    conversation = episode.conversations.get(name)
    return conversation.record if conversation is not None and conversation.turns else None


def with_limits(team: Team, recipe: AgentArguments) -> Team:
    """Return the team with the limits that the flags set."""
    own = team.limits
    limits = replace(
        own,
        turns=recipe.episode_turns or own.turns,
        tokens=recipe.episode_tokens or own.tokens,
        seconds=recipe.episode_seconds or own.seconds,
    )
    return replace(team, limits=limits)


def episode_dataset(problems: Sequence[Problem]) -> Dataset:
    """Return the dataset TRL draws from: `prompt`, which only names the question, and `problem`, the row as JSON."""
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": problem.view.text}] for problem in problems],
            "problem": [json.dumps(problem.to_row()) for problem in problems],
        }
    )
