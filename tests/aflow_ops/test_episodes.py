"""Episodes, speakers and verdicts: plain coroutines, without a model."""

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from aflow_ops.agents.episode import Agents, Conversation, EpisodeLimitError, Utterance, play_episode
from aflow_ops.agents.speakers import BatchedTurns, ExecutorSpeaker
from aflow_ops.agents.team import Limits, Outcome, Role, Team
from aflow_ops.agents.tools.python_session import python_session
from aflow_ops.agents.verdicts import read_verdict, settle_verdicts, verdict_metrics
from aflow_ops.errors import InfraError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from tests.patience import PATIENCE
from tests.stub_endpoint import StubEndpoint

TASK = Problem("What is 6 * 7?", "42", "arithmetic", "math", "0")


class Echo:
    """Says how many messages it has seen."""

    async def reply(self, conversation: Conversation) -> Utterance:
        return Utterance(f"{conversation.role.name} {len(conversation.messages)}", 3)


def a_team(run: Any, **more: Any) -> Team:
    return Team((Role("first", "You are first."), Role("second", "You are second.")), run, **more)


async def play(team: Team, speaker: Any = None) -> Any:
    return await play_episode(team, TASK, dict.fromkeys(team.names, speaker or Echo()))


async def test_each_agent_has_a_conversation_of_its_own_and_a_silent_one_has_none() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        one = await agents.first.say(task.question)
        two = await agents.first.say(f"{one}?")
        await agents.first.aside("what if?")
        return Outcome(1.0, answer=two)

    episode = await play(a_team(run))
    assert episode.ending == "ok" and episode.outcome.answer == "first 4"
    assert list(episode.conversations) == ["first"]
    told = [message["content"] for message in episode.conversations["first"].messages]
    assert told == ["You are first.", "What is 6 * 7?", "first 2", "first 2?", "first 4"]
    assert [turn.agent for turn in episode.turns] == ["first", "first", "first (aside)"]


async def test_an_unknown_role_is_named() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        await agents.third.say("hello")
        return Outcome(1.0)

    with pytest.raises(AttributeError, match="no role 'third'; there are first, second"):
        await play(a_team(run))


@pytest.mark.parametrize("limits", [Limits(turns=3), Limits(tokens=9)])
async def test_an_episode_out_of_turns_or_tokens_failed(limits: Limits) -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        while True:
            await agents.first.say("again")

    episode = await play(a_team(run, limits=limits))
    assert (episode.ending, episode.outcome.team) == ("limit", 0.0)
    assert episode.conversations["first"].turns == 3


async def test_what_would_have_been_costs_an_episode_no_tokens() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        await agents.first.say("a")
        for _ in range(5):
            await agents.first.aside("b")
        await agents.second.say("c")
        return Outcome(1.0)

    episode = await play(a_team(run, limits=Limits(tokens=4)))
    assert (episode.ending, episode.tokens) == ("ok", 21)


async def test_a_tool_that_hangs_costs_its_episode_alone_and_is_nobodys_fault() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        text = await agents.first.say("hello")
        if agents.number == 1:
            await asyncio.Event().wait()
        return Outcome(1.0, answer=await agents.second.say(text))

    team = a_team(run, limits=Limits(seconds=0.2))
    turns = BatchedTurns()
    speakers = dict.fromkeys(team.names, turns)
    turns.start([play_episode(team, TASK, speakers, number=i, index=i) for i in range(3)])
    batches = []
    async with asyncio.timeout(PATIENCE):
        while waiting := await turns.waiting():
            batches.append([conversation.episode for conversation in waiting])
            await asyncio.sleep(0.3)  # a model may take longer than tools may
            turns.answer([Utterance("text", 1)] * len(waiting))
        episodes = await turns.results()
    assert batches == [[0, 1, 2], [0, 2]]
    assert [(e.ending, e.outcome.team) for e in episodes] == [("ok", 1.0), ("timeout", None), ("ok", 1.0)]


@pytest.mark.parametrize("error", [InfraError("the index is gone"), OSError("the index is gone")])
async def test_what_fails_through_no_fault_of_the_agents_has_no_reward(error: Exception) -> None:
    @asynccontextmanager
    async def tools(task: Problem) -> Any:
        raise error
        yield

    async def run(task: Problem, agents: Agents) -> Outcome:
        return Outcome(1.0)

    episode = await play(a_team(run, tools=tools))
    assert (episode.ending, episode.outcome.team, episode.error) == ("infra_error", None, "the index is gone")


async def test_two_turns_at_once_are_in_one_batch_and_an_episodes_error_ends_all() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        await asyncio.gather(agents.first.say("a"), agents.second.say("b"))
        raise ZeroDivisionError

    team, turns = a_team(run), BatchedTurns()
    turns.start([play_episode(team, TASK, dict.fromkeys(team.names, turns), index=i) for i in range(2)])
    waiting = await turns.waiting()
    assert [(c.episode, c.role.name) for c in waiting] == [(0, "first"), (0, "second"), (1, "first"), (1, "second")]
    turns.answer([Utterance("x", 1)] * 4)
    with pytest.raises(ZeroDivisionError):
        await turns.waiting()


async def test_a_speaker_may_have_no_room_left() -> None:
    class Full:
        async def reply(self, conversation: Conversation) -> Utterance:
            raise EpisodeLimitError("too long")

    async def run(task: Problem, agents: Agents) -> Outcome:
        return Outcome(1.0, answer=await agents.first.say("hello"))

    episode = await play(a_team(run), Full())
    assert (episode.ending, episode.outcome.team, episode.conversations["first"].turns) == ("limit", 0.0, 0)


async def test_what_an_agent_is_told_has_a_bound() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        await agents.first.say("x" * 1_000_000)
        return Outcome(1.0)

    episode = await play(a_team(run))
    assert len(episode.conversations["first"].messages[1]["content"]) < 17_000


async def test_the_executor_plays_a_role(stub: StubEndpoint, config: ExecutorConfig) -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        return Outcome(1.0, answer=await agents.first.say("hello"))

    async with open_executor(config) as executor:
        episode = await play(a_team(run), ExecutorSpeaker(executor, 16))
    assert episode.ending == "ok" and episode.outcome.answer
    assert stub.requests[-1]["messages"][0] == {"role": "system", "content": "You are first."}


async def test_the_executor_is_asked_anew_in_every_episode_and_aside(
    stub: StubEndpoint, config: ExecutorConfig
) -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        await agents.first.say("hello")
        for _ in range(3):
            await agents.second.aside("hello")
        return Outcome(1.0)

    async with open_executor(replace(config, executor_temperature=0.7)) as executor:
        speakers = dict.fromkeys(("first", "second"), ExecutorSpeaker(executor, 16))
        for number in (0, 1, 0):  # the last is the first one again
            await play_episode(a_team(run), TASK, speakers, number=number, index=7)
    assert len(stub.requests) == 2 * 4


def test_roles_have_names_that_an_episode_can_use() -> None:
    async def run(task: Problem, agents: Agents) -> Outcome:
        return Outcome(1.0)

    for names in (["a", "a"], ["not a name"], ["tools"], []):
        with pytest.raises(ValueError, match="role"):
            Team(tuple(Role(name, "") for name in names), run)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("It is fine.\nVERDICT: right", True),
        ("**Verdict:** wrong", False),
        ("VERDICT: right\nVERDICT: wrong", None),
        ("It is right.", None),
        ("", None),
        ("VERDICT: rightly so", None),
        ("VERDICT: right or wrong", None),
        ("VERDICT: wrong/right", None),
        ("VERDICT: right, wrong", None),
        ("VERDICT: wrong. The right answer is 4.", False),
        ("VERDICT: right\nWrong is only the comment.", True),
    ],
)
def test_a_verdict_is_one_word_and_both_are_none(text: str, verdict: bool | None) -> None:
    assert read_verdict(text) == verdict


def verdicts(*pairs: tuple[bool, bool]) -> Outcome:
    return Outcome(1.0, verdicts={"judge": pairs})


def earned(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.local["judge"] or 0.0 for outcome in settle_verdicts(outcomes, "judge")]


def test_verdicts_earn_balanced_accuracy() -> None:
    lenient = [verdicts((True, True)), verdicts((True, True)), verdicts((True, True)), verdicts((True, False))]
    just = [verdicts((True, True))] * 3 + [verdicts((False, False))]
    assert sum(earned(lenient)) / 4 == pytest.approx(0.5)
    assert sum(earned(just)) / 4 == pytest.approx(1.0)
    assert verdict_metrics(lenient, "judge") == {
        "false_negatives": 0.0,
        "false_positives": 1.0,
        "balanced_accuracy": 0.5,
    }
    silent = replace(verdicts(), local={})
    assert settle_verdicts([silent], "judge") == [silent]


async def test_python_keeps_its_variables_and_survives_what_agents_write(sandbox: Sandbox) -> None:
    async with python_session(sandbox, seconds=5.0) as python:
        assert (await python.run("x = 6 * 7")).text == ""
        shown = await python.run("print(x)\nx / 2")
        assert (shown.text, shown.last_line, shown.ok) == ("42\n21.0", "21.0", True)
        failed = await python.run("1 / 0")
        assert (failed.text, failed.ok, failed.last_line) == ("ZeroDivisionError: division by zero", False, "")
        assert "SyntaxError" in (await python.run("print(")).text
        assert not (await python.run("while True: pass")).ok
        assert "NameError" in (await python.run("x")).text
        assert "ended" in (await python.run("import os\nos._exit(0)")).text
        assert (await python.run("print(1)")).text == "1"
        assert len((await python.run("print('y' * 500_000)")).text) <= 4_000
