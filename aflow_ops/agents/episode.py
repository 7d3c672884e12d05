"""An episode: agents that talk, use tools and come to an answer. It is a plain coroutine of the recipe.

    async def run(task, agents):
        plan = await agents.analyzer.say(task.view.text)
        code = await agents.executor.say(f"{task.view.text}\n\nPlan: {plan}")
        return Outcome(team=1.0 if await agents.tools.passes(code) else 0.0, answer=code)

Each agent has a conversation of its own: its role's system message, what it was told, what it replied. An agent that
was never spoken to has none, and no part in the training.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aflow_ops.agents.team import Limits, Outcome, Role, Team
from aflow_ops.errors import FatalExecutorError, InfraError
from aflow_ops.executor.types import Message
from data.problem import Problem

Ending = Literal["ok", "limit", "timeout", "infra_error"]
# Between the samples of an episode's asides: more than a problem has episodes.
ASIDES_APART = 1 << 20


class EpisodeLimitError(Exception):
    """An episode wants more turns, tokens or context than it has."""


@dataclass(frozen=True)
class Utterance:
    """What a model said in one turn.

    Args:
        text (`str`): it.
        tokens (`int`): how many it is.
    """

    text: str
    tokens: int


@dataclass
class Conversation:
    """One agent's side of an episode.

    Args:
        role (`Role`): whose.
        episode (`int`): the episode's number among those that are played together.
        messages (`list[Message]`): system message, then what it was told and what it replied in turn.
        turns (`int`): replies.
        tokens (`int`): of the replies.
        record (`Any`): what the speaker keeps of it, such as its tokens.
        sample (`int`): two conversations of equal words are the same one for a cache only with equal numbers.
    """

    role: Role
    episode: int
    messages: list[Message] = field(default_factory=list)
    turns: int = 0
    tokens: int = 0
    record: Any = None
    sample: int = 0

    def __post_init__(self) -> None:
        if not self.messages:
            self.messages.append({"role": "system", "content": self.role.prompt})


class Speaker(Protocol):
    """A model that plays roles."""

    async def reply(self, conversation: Conversation) -> Utterance:
        """Return the next turn of a conversation whose last message is not its own.

        Raises:
            EpisodeLimitError: the conversation is longer than it reads.
            InfraError: it cannot be reached.
        """
        ...


@dataclass(frozen=True)
class Turn:
    """What happened in one turn, for people: who was told what, and replied what."""

    agent: str
    heard: str
    said: str


@dataclass
class Episode:
    """An episode that was played.

    Args:
        task (`Problem`): what it was about.
        number (`int`): among the episodes of its problem.
        ending (`str`): `"ok"`; `"limit"` when turns, tokens or context ran out; `"timeout"` when its tools took too
            long; `"infra_error"` when one of them failed.
        outcome (`Outcome`): with `team` None when the ending was no agent's fault.
        error (`str`, *optional*): why it did not end well.
        conversations (`Mapping[str, Conversation]`): by role, of the agents that were spoken to.
        turns (`list[Turn]`): in order.
        tokens (`int`): that models wrote, asides too.
    """

    task: Problem
    number: int
    ending: Ending
    outcome: Outcome
    error: str | None
    conversations: Mapping[str, Conversation]
    turns: list[Turn]
    tokens: int


class Agent:
    """One role in one episode."""

    def __init__(self, role: Role, stage: "Stage") -> None:
        self.role, self._stage = role, stage

    async def say(self, text: str) -> str:
        """Tell the agent something and return its reply: one turn of its conversation.

        Raises:
            EpisodeLimitError: the episode has no turn, token or context left. Nobody has to catch it.
            InfraError: the model cannot be reached; likewise.
        """
        return await self._stage.turn(self.role, text, aside=False)

    async def aside(self, text: str) -> str:
        """Ask the role something in a conversation of its own, of which nothing is kept or trained.

        This is how an episode finds out what would have been: what the role does without another agent's words.
        """
        return await self._stage.turn(self.role, text, aside=True)


class Agents:
    """The roles of one episode by name, `agents.refiner`, and what they use.

    Args:
        stage (`Stage`): the episode.
        tools (`Any`): what the recipe opened for it.
        number (`int`): of the episode among those of its problem, from 0.
    """

    def __init__(self, stage: "Stage", tools: Any, number: int) -> None:
        self._agents = {role.name: Agent(role, stage) for role in stage.team.roles}
        self._stage = stage
        self.tools, self.number = tools, number

    @property
    def tokens(self) -> int:
        """Tokens that models have written in this episode, asides too."""
        return self._stage.used_tokens

    def __getattr__(self, name: str) -> Agent:
        try:
            return self.__dict__["_agents"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"no role {name!r}; there are {', '.join(self.__dict__['_agents'])}") from None

    def chosen(self, share: float) -> bool:
        """Whether this episode is one of a share of its problem's, spread evenly over their numbers."""
        return int((self.number + 1) * share + 1e-9) > int(self.number * share + 1e-9)


class Stage:
    """Where one episode is played: it counts what is used and keeps what was said.

    Args:
        team (`Team`): the recipe's.
        speakers (`Mapping[str, Speaker]`): who plays each role.
        index (`int`): of the episode among all that are played together.
        number (`int`): of the episode among those of its problem.
    """

    def __init__(self, team: Team, speakers: Mapping[str, Speaker], index: int, number: int) -> None:
        self.team, self.index, self.number = team, index, number
        self.conversations: dict[str, Conversation] = {}
        self.turns: list[Turn] = []
        self.clock: asyncio.Timeout | None = None
        self._speakers = speakers
        self.used_tokens = self._own_tokens = self._used_turns = self._speaking = 0
        self._seconds_left = team.limits.seconds

    async def turn(self, role: Role, text: str, *, aside: bool) -> str:
        """Let a role's model take one turn."""
        limits = self.team.limits
        if self._used_turns >= limits.turns:
            raise EpisodeLimitError(f"all {limits.turns} turns are used")
        if self._own_tokens >= limits.tokens:
            raise EpisodeLimitError(f"all {limits.tokens} tokens are used")
        self._used_turns += 1
        heard = _shortened(text, limits)
        apart = ASIDES_APART * self._used_turns if aside else 0  # the same question again is another sample
        fresh = Conversation(role, self.index, sample=self.number + apart)
        conversation = fresh if aside else self.conversations.setdefault(role.name, fresh)
        conversation.messages.append({"role": "user", "content": heard})
        self._pause()
        try:
            said = await self._speakers[role.name].reply(conversation)
        finally:
            self._go_on()
        self.used_tokens += said.tokens
        self._own_tokens += 0 if aside else said.tokens
        conversation.messages.append({"role": "assistant", "content": said.text})
        conversation.turns += 1
        conversation.tokens += said.tokens
        self.turns.append(Turn(f"{role.name} (aside)" if aside else role.name, heard, said.text))
        return said.text

    def _pause(self) -> None:
        """Stop the episode's clock while a model speaks: models are waited for together."""
        self._speaking += 1
        if self._speaking == 1 and self.clock is not None and (when := self.clock.when()) is not None:
            self._seconds_left = when - asyncio.get_running_loop().time()
            self.clock.reschedule(None)

    def _go_on(self) -> None:
        self._speaking -= 1
        if self._speaking == 0 and self.clock is not None and not self.clock.expired():
            self.clock.reschedule(asyncio.get_running_loop().time() + self._seconds_left)


async def play_episode(
    team: Team, task: Problem, speakers: Mapping[str, Speaker], *, number: int = 0, index: int = 0
) -> Episode:
    """Play one episode to its end, whatever that is.

    Args:
        team (`Team`): the recipe's.
        task (`Problem`): what it is about.
        speakers (`Mapping[str, Speaker]`): who plays each role.
        number (`int`): of the episode among those of its problem.
        index (`int`): of the episode among all that are played together.

    Raises:
        FatalExecutorError: a model refuses every call, so that no other episode would end better.
    """
    stage = Stage(team, speakers, index, number)
    ending: Ending = "ok"
    outcome, error = Outcome(None), None
    try:
        async with asyncio.timeout(team.limits.seconds) as stage.clock, team.tools(task) as tools:
            outcome = await team.run(task, Agents(stage, tools, number))
    except EpisodeLimitError as limit:
        ending, error, outcome = "limit", str(limit), Outcome(0.0, correct=False, metrics=team.failed)
    except TimeoutError:
        ending, error = "timeout", f"its tools took longer than {team.limits.seconds:g} s"
    except FatalExecutorError:
        raise
    except (InfraError, OSError) as failure:  # no process, no file, no network left
        ending, error = "infra_error", str(failure)
    return Episode(task, number, ending, outcome, error, stage.conversations, stage.turns, stage.used_tokens)


def _shortened(text: str, limits: Limits) -> str:
    if len(text) <= limits.heard_chars:
        return text
    half = limits.heard_chars // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
