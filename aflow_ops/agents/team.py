"""What a multi-agent recipe is made of: roles, how an episode goes, and what came of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from data.problem import Problem


@dataclass(frozen=True)
class Role:
    """One agent's part.

    Args:
        name (`str`): an identifier, such as `"test_runner"`: `agents.test_runner` in an episode.
        prompt (`str`): its system message.
    """

    name: str
    prompt: str


@dataclass(frozen=True)
class Limits:
    """What one episode may use. An episode that has used up its turns or tokens failed; it is graded as such.

    Args:
        turns (`int`): of all agents together, asides too.
        tokens (`int`): that all agents write together. Not those of asides: an episode that also finds out what would
            have been must not be the shorter for it.
        seconds (`float`): wall time outside of the models' turns: tools, graders. An episode that needs longer has no
            reward, for a tool that hangs is no agent's fault.
        heard_chars (`int`): longest text that an agent is told at once; the middle of a longer one is left out.
    """

    turns: int = 24
    tokens: int = 8192
    seconds: float = 120.0
    heard_chars: int = 16_000


@dataclass(frozen=True)
class Outcome:
    """What an episode came to.

    Args:
        team (`float`, *optional*): reward of all agents, 0 to 1; `None` when nobody can tell, through no fault of
            theirs: the episode has no part in the training then.
        local (`Mapping[str, float | None]`): what an agent earned itself, by role; 0 when it is not named. `None` is no
            verdict: that agent's part of the episode is left out.
        answer (`str`): the team's answer.
        correct (`bool`, *optional*): whether it is right; for people and held-out results.
        metrics (`Mapping[str, float]`): numbers to log; each is averaged over the episodes that have it.
        verdicts (`Mapping[str, Sequence[tuple[bool, bool]]]`): by role, the verdicts it gave: what it said, and what
            was true. For rewards that are settled over all episodes of a step (`Team.settle`).
    """

    team: float | None
    local: Mapping[str, float | None] = field(default_factory=dict)
    answer: str = ""
    correct: bool | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    verdicts: Mapping[str, Sequence[tuple[bool, bool]]] = field(default_factory=dict)


class Control(Protocol):
    """A single agent in the place of a team: it writes about as many tokens."""

    def __call__(self, task: Problem, agents: Any, tokens: float) -> Awaitable[Outcome]:
        """Play an episode."""


def nothing_more(outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """Measure nothing beyond each episode's own metrics."""
    return {}


def as_they_are(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Settle nothing: each episode's rewards are its own."""
    return outcomes


@dataclass(frozen=True)
class Team:
    """A multi-agent recipe's own part.

    Args:
        roles (`tuple[Role, ...]`): the agents, in the order in which they are shown.
        run (`Callable`): an episode, `async def run(task: Problem, agents: Agents) -> Outcome` (`episode.py`).
        tools (`Callable`): opens what one episode's agents use, `agents.tools`, from the problem.
        settle (`Callable`): given the outcomes of all episodes of a step, those of all processes, returns them with
            the rewards that only all of them together decide.
        measure (`Callable`): given the same, returns numbers to log that are no averages over episodes.
        alone (`Callable`, *optional*): the control, `async def alone(task, agents, tokens) -> Outcome`: a single agent
            that may write about as many tokens as the team did.
        limits (`Limits`): of one episode.
        failed (`Mapping[str, float]`): metrics of an episode that ran out of turns, tokens or context: its rates of
            success would else be means over the others.

    Raises:
        ValueError: two roles of one name, or a name that cannot be an attribute.
    """

    roles: tuple[Role, ...]
    run: Callable[[Problem, Any], Awaitable[Outcome]]
    tools: Callable[[Problem], AbstractAsyncContextManager[Any]] = lambda task: nullcontext()
    settle: Callable[[Sequence[Outcome]], Sequence[Outcome]] = as_they_are
    measure: Callable[[Sequence[Outcome]], Mapping[str, float]] = nothing_more
    alone: Control | None = None
    limits: Limits = field(default_factory=Limits)
    failed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            if not name.isidentifier() or name.startswith("_") or name in ("tools", "number", "chosen", "tokens"):
                raise ValueError(f"role {name!r}: a role's name must be an identifier that agents do not have already")
        if len(set(self.names)) != len(self.roles) or not self.roles:
            raise ValueError(f"roles {', '.join(self.names)}: at least one, and each name once")

    @property
    def names(self) -> list[str]:
        """The roles' names, in order."""
        return [role.name for role in self.roles]
