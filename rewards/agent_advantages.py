"""Advantages of a multi-agent step: each agent is compared with itself, over the episodes of one problem.

A group is (problem, agent). Who took no part in an episode is in no baseline, and nothing of one agent reaches another:
not its rewards, and not their spread, for they are normalised per agent, as Dr. MAS does.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

Scale = Literal["group", "batch", "none"]
_TIE, _EPSILON = 1e-6, 1e-4


@dataclass(frozen=True)
class AgentRow:
    """One agent's part of one episode.

    Args:
        problem (`Hashable`): which of the step's problems.
        agent (`str`): whose part.
        reward (`float`, *optional*): `None` when the agent took no part or nobody can tell.
    """

    problem: Hashable
    agent: str
    reward: float | None


def agent_advantages(rows: Sequence[AgentRow], scale: Scale) -> list[float | None]:
    """Return each row's advantage; `None` for a row without a part in the loss.

    That is a row without a reward, and one of a group in which all rewards are equal.

    Args:
        rows (`Sequence[AgentRow]`): of all processes.
        scale (`str`): rewards are divided by the standard deviation of their `"group"`, of their agent's rows in the
            whole `"batch"`, or by nothing (`"none"`).
    """
    groups: dict[Hashable, list[float]] = {}
    agents: dict[str, list[float]] = {}
    for row in rows:
        if row.reward is not None:
            groups.setdefault((row.problem, row.agent), []).append(row.reward)
            agents.setdefault(row.agent, []).append(row.reward)

    def advantage(row: AgentRow) -> float | None:
        group = groups.get((row.problem, row.agent), [])
        if row.reward is None or is_tied(group):
            return None
        spread = {"group": group, "batch": agents[row.agent], "none": []}[scale]
        return (row.reward - fmean(group)) / (stdev(spread) + _EPSILON if spread else 1.0)

    return [advantage(row) for row in rows]


def zero_signal(rows: Sequence[AgentRow]) -> dict[str, float]:
    """Return, by agent, the share of its groups that teach nothing; an agent without a rewarded row is not there."""
    groups: dict[tuple[str, Hashable], list[float]] = {}
    for row in rows:
        if row.reward is not None:
            groups.setdefault((row.agent, row.problem), []).append(row.reward)
    tied: dict[str, list[bool]] = {}
    for (agent, _), rewards in groups.items():
        tied.setdefault(agent, []).append(is_tied(rewards))
    return {agent: sum(each) / len(each) for agent, each in tied.items()}


def is_tied(rewards: Sequence[float]) -> bool:
    """Whether all rewards are equal."""
    return not rewards or max(rewards) - min(rewards) < _TIE
