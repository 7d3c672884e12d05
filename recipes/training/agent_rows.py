"""What a step of episodes is trained on and logged as: rows of tokens, metrics by agent, rows of `rollouts.jsonl`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from aflow_ops.agents.episode import Conversation, Episode
from aflow_ops.agents.team import Outcome
from recipes.training.agent_play import TokenRow
from rewards.agent_advantages import AgentRow


@dataclass(frozen=True)
class TrainingRow:
    """What TRL has as a row.

    Args:
        part (`int`): which of the parts (an agent's in an episode) it is of.
        tokens (`TokenRow`): it.
        share (`float`): of the part's weight; 0 for a row that fills up a batch.
        first (`bool`): it is the part's first row, the one by which the part's reward is logged.
    """

    part: int
    tokens: TokenRow
    share: float = 1.0
    first: bool = True


def training_rows(parts: Sequence[TokenRow | None], absent: TokenRow, *, by_turn: bool) -> list[TrainingRow]:
    """Return the rows of some parts: one each, or one for each turn, whose shares of a part add up to 1.

    Args:
        parts (`Sequence[TokenRow | None]`): conversations; `None` for an agent that was not spoken to.
        absent (`TokenRow`): stands for it where every part has a row.
        by_turn (`bool`): a row for each turn.
    """
    if not by_turn:
        return [TrainingRow(at, part or absent) for at, part in enumerate(parts)]
    turns = [[] if part is None else part.turns() for part in parts]
    return [
        TrainingRow(at, turn, 1 / len(each), number == 0)
        for at, each in enumerate(turns)
        for number, turn in enumerate(each)
    ]


def row_reward(episode: Episode, agent: str, alpha: float) -> float | None:
    """Return what an agent's part of an episode earned, `alpha * team + local`.

    `None` when the agent was not spoken to, when the episode's end was no agent's fault, or when the recipe gave the
    agent no verdict.
    """
    conversation, outcome = episode.conversations.get(agent), episode.outcome
    local = outcome.local.get(agent, 0.0)
    if conversation is None or not conversation.turns or outcome.team is None or local is None:
        return None
    return alpha * outcome.team + local


def step_metrics(
    outcomes: Sequence[Outcome],
    endings: Sequence[str],
    sizes: Sequence[Mapping[str, tuple[int, int]]],
    rows: Sequence[AgentRow],
) -> dict[str, float]:
    """Return means over a step's episodes.

    Args:
        outcomes (`Sequence[Outcome]`): of all episodes.
        endings (`Sequence[str]`): theirs.
        sizes (`Sequence[Mapping]`): turns and tokens of each agent that spoke.
        rows (`Sequence[AgentRow]`): all rows.

    Returns:
        `dict` with `agents/<name>/reward`, `/turns`, `/tokens`, the share of each bad ending, and the recipe's own.
    """
    metrics = {f"agents/{name}": endings.count(name) / len(endings) for name in ("limit", "timeout", "infra_error")}
    by_agent: dict[str, list[float]] = {}
    for row in rows:
        if row.reward is not None:
            by_agent.setdefault(row.agent, []).append(row.reward)
    metrics |= {f"agents/{name}/reward": fmean(values) for name, values in by_agent.items()}
    for name in dict.fromkeys(name for size in sizes for name in size):
        spoke = [size[name] for size in sizes if name in size and size[name][0]]
        if spoke:
            metrics[f"agents/{name}/turns"] = fmean(turns for turns, _ in spoke)
            metrics[f"agents/{name}/tokens"] = fmean(tokens for _, tokens in spoke)
    return metrics | means(outcomes)


def means(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return each of the recipe's own metrics, averaged over the episodes that have it."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.metrics)
    return {name: fmean(o.metrics[name] for o in outcomes if name in o.metrics) for name in names}


def episode_rows(episode: Episode, number: int) -> list[dict[str, Any]]:
    """Return one row for each agent that spoke in an episode.

    Args:
        episode (`Episode`): it.
        number (`int`): of the episode among those of its step.
    """
    task, outcome = episode.task, episode.outcome
    shared = {
        "id": task.id,
        "source": task.source,
        "domain": task.domain,
        "question": task.view.text,
        "episode": number,
        "outcome": episode.ending,
        "infra_error": episode.error if outcome.team is None else None,
        "answer": outcome.answer,
        "correct": outcome.correct,
        "team_reward": outcome.team,
    }
    return [
        {
            **shared,
            "agent": name,
            "turns": conversation.turns,
            "tokens": conversation.tokens,
            "local_reward": outcome.local.get(name, 0.0),
            **_spoken(conversation),
        }
        for name, conversation in episode.conversations.items()
        if conversation.turns
    ]


def _spoken(conversation: Conversation) -> dict[str, Any]:
    """The messages before the first reply, and all that came then; each message beside who wrote it."""
    prompt, rest = conversation.messages[:2], conversation.messages[2:]
    return {"prompt": prompt, "completion": rest[0]["content"], "messages": conversation.messages}
