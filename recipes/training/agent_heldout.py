"""The held-out evaluation of a team: episodes on problems that nobody trained on."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object

from aflow_ops.agents.episode import Episode
from aflow_ops.agents.team import Team
from data.problem import Problem
from recipes.run.bars import Bar
from recipes.training.agent_play import continued
from recipes.training.agents import AgentGRPOTrainer
from recipes.training.heldout import policy_for_generation


def evaluate_agents(
    trainer: AgentGRPOTrainer,
    problems: Sequence[Problem],
    label: str = "held-out",
    *,
    visible: bool = True,
    team: Team | None = None,
) -> list[dict[str, Any]]:
    """Play `eval_samples` episodes for every problem. Each process takes its share of the problems.

    Args:
        trainer (`AgentGRPOTrainer`): whose policy plays.
        problems (`Sequence[Problem]`): held-out ones.
        label (`str`): of the progress bar.
        visible (`bool`): show it.
        team (`Team`, *optional*): plays instead of the trainer's.

    Returns:
        `list[dict]`: rows of all processes, see `heldout_row`.
    """
    samples = [(problem, number) for problem in problems for number in range(trainer.recipe.eval_samples)]
    processes, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    mine, size = samples[rank::processes], max(32, trainer.args.per_device_train_batch_size)
    episodes: list[Episode] = []
    with (
        Bar(label, len(mine), visible=visible and trainer.accelerator.is_main_process) as bar,
        policy_for_generation(trainer) as model,
        torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []),
    ):
        torch.manual_seed(trainer.args.seed + rank)
        for start in range(0, -(-len(samples) // processes), size):  # as many batches in every process
            batch = mine[start : start + size]
            episodes += trainer.player.play(
                batch, lambda roles, prompts: _written(trainer, model, roles, prompts), team
            )
            bar.update(len(episodes))
    outcomes = list(trainer.team.settle(gather_object([episode.outcome for episode in episodes])))
    rows = gather_object([heldout_row(episode) for episode in episodes])
    return [{**row, "verdicts": dict(outcome.verdicts)} for row, outcome in zip(rows, outcomes, strict=True)]


def evaluate_alone(
    trainer: AgentGRPOTrainer, problems: Sequence[Problem], rows: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Play the control of a team: a single agent that writes as many tokens as the team did in a mean episode.

    Args:
        trainer (`AgentGRPOTrainer`): whose policy plays.
        problems (`Sequence[Problem]`): held-out ones.
        rows (`Sequence[dict]`): the team's episodes on them.

    Returns:
        `dict`: rows by the control's name; empty where the team has none.
    """
    single = single_agent(trainer.team, rows)
    return {} if single is None else {"single_agent": evaluate_agents(trainer, problems, "single agent", team=single)}


def single_agent(team: Team, rows: Sequence[dict[str, Any]]) -> Team | None:
    """Return a team's control, as a team of one; `None` where it has none.

    Args:
        team (`Team`): the recipe's.
        rows (`Sequence[dict]`): its episodes, of which the control writes as many tokens as the mean one.
    """
    if team.alone is None or not rows:
        return None
    tokens = fmean(sum(row["tokens"].values()) for row in rows)
    # As many turns as its tokens last: attempts may be short.
    limits = replace(team.limits, turns=1_000, tokens=1_000_000)
    return replace(team, run=partial(team.alone, tokens=tokens), limits=limits)


def _written(
    trainer: AgentGRPOTrainer, model: Any, roles: list[str], prompts: list[list[int]]
) -> tuple[list[list[int]], None]:
    """Sample as the held-out evaluation does: with its own temperature, without vLLM."""
    training, tokenizer = trainer.args, trainer.processing_class
    if not prompts:  # others sample: with weights that are spread over all, every process has to take part
        roles, prompts = trainer.team.names[:1], [[tokenizer.eos_token_id]]

    def sample(batch: list[list[int]]) -> tuple[list[list[int]], None]:
        ids = continued(
            model,
            batch,
            pad=tokenizer.pad_token_id,
            ends=trainer.eos_token_ids,
            max_new_tokens=training.max_completion_length,
            temperature=trainer.recipe.eval_temperature,
            top_p=training.top_p,
            top_k=training.top_k,
        )
        return ids, None

    ids, _ = trainer.adapters.by_adapter(roles, prompts, sample)
    return ids, None


def heldout_row(episode: Episode) -> dict[str, Any]:
    """Return what `heldout.jsonl` has of an episode; `workflow` is the answer, `None` where there was none."""
    outcome = episode.outcome
    return {
        "id": episode.task.id,
        "source": episode.task.source,
        "domain": episode.task.domain,
        "question": episode.task.view.text,
        "workflow": outcome.answer or None,
        "answer": outcome.answer,
        "reward": outcome.team,
        "correct": outcome.correct,
        "outcome": episode.ending,
        "infra_error": episode.error if outcome.team is None else None,
        "turns": {name: talk.turns for name, talk in episode.conversations.items()},
        # Of the agents' own turns; a control talks in asides only.
        "tokens": {name: talk.tokens for name, talk in episode.conversations.items()} or {"aside": episode.tokens},
        "metrics": dict(outcome.metrics),
        "dialogue": [[turn.agent, turn.heard, turn.said] for turn in episode.turns],
    }
