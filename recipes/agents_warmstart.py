"""Supervised warm start of a team: teach a base model every role from scripted episodes, mistakes and all.

    accelerate launch recipes/agents_warmstart.py --config recipes/configs/math_tool_warmstart.yaml

The episodes are the recipe's own, with its real tools; a script speaks for every role. It errs at random and on
purpose, so that the model learns to do each thing, right or wrong, and GRPO has something to choose from. Each turn is
an example; with `whole_conversations` each agent's conversation of an episode, which is read once instead of once a
turn.
"""

import asyncio
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from inspect import signature
from typing import Protocol

from accelerate import PartialState
from datasets import Dataset
from trl import ModelConfig, SFTConfig

from aflow_ops.agents.episode import Conversation, Utterance, play_episode
from aflow_ops.agents.team import Team
from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import UsageError
from aflow_ops.executor.types import Message
from aflow_ops.named import named_object
from aflow_ops.sandbox import open_sandbox
from data.mixing import parse_mix
from data.problem import Problem
from recipes.run.command import run_command
from recipes.settings.base_policy import BasePolicyArguments
from recipes.settings.chosen import RunConfig
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import parse_with_config
from recipes.training.problems import mixed_problems
from recipes.training.supervised import check_teaching, taught_rows, teach

# Episodes played at once.
AT_ONCE = 64
# A word counts as copied when it was told before in so many of the turns that say it.
COPIED_SHARE = 0.95
_WORD = re.compile(r"\w+")

Turn = tuple[list[Message], str]  # a conversation so far, and what was said then


class Script(Protocol):
    """Speaks for every role of a team on problems that it can solve without a model."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a conversation.

        Args:
            role (`str`): whose.
            messages (`Sequence[Message]`): so far.
            rng (`random.Random`): decides where it errs.
        """
        ...


@dataclass
class AgentWarmStartArguments(BasePolicyArguments):
    """What the warm start of a team needs beside TRL's flags.

    Args:
        team (`str`): path of what makes the team from a sandbox, e.g. `recipes.math_tool:math_team`.
        script (`str`): path of the class of the script.
        sources (`list[str]`): problem sources.
        domain_mix (`str`): share of each domain.
        num_episodes (`int`): scripted episodes.
        topk (`int`): passages that a query finds; 0 for the team's default.
        whole_conversations (`bool`): an example is a conversation; with `assistant_only_loss`.
        copied_words_apart (`bool`): the tiny policy's tokenizer keeps apart what turns copy (`copied_words`).
    """

    team: str = field(default="recipes.math_tool:math_team", metadata={"help": "package.module:function of the team."})
    script: str = field(
        default="recipes.policy.math_tool_script:MathToolScript",
        metadata={"help": "Its package.module:Class."},
    )
    sources: list[str] = field(default_factory=lambda: ["word_problems"], metadata={"help": "Problem sources."})
    domain_mix: str = field(default="math=1", metadata={"help": "Share of each domain."})
    num_episodes: int = field(default=500, metadata={"help": "Scripted episodes to learn from."})
    topk: int = field(default=0, metadata={"help": "Passages that a query finds, of a team that searches."})
    whole_conversations: bool = field(
        default=False, metadata={"help": "Teach a conversation at a time, not a turn; with --assistant_only_loss."}
    )
    copied_words_apart: bool = field(
        default=False, metadata={"help": "Keep words that turns copy from what they were told apart in the tokenizer."}
    )
    hidden_size: int = field(default=128, metadata={"help": "Width of the tiny policy."})
    num_layers: int = field(default=3, metadata={"help": "Layers of the tiny policy."})
    dry_run: bool = field(default=False, metadata={"help": "Check flags and paths, and stop."})

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_mix(self.domain_mix)
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes={self.num_episodes} must be at least 1")
        if self.topk < 0:
            raise ValueError(f"topk={self.topk} must not be negative")


class ScriptedSpeaker:
    """A script in every role of one episode; keeps what it was told and said, asides too."""

    def __init__(self, script: Script, rng: random.Random) -> None:
        self.script, self.rng = script, rng
        self.turns: list[Turn] = []

    async def reply(self, conversation: Conversation) -> Utterance:
        """Return the script's next turn."""
        messages = list(conversation.messages)
        text = self.script.reply(conversation.role.name, messages, self.rng)
        self.turns.append((messages, text))
        return Utterance(text, 0)


async def scripted_turns(team: Team, script: Script, problems: Sequence[Problem], seed: int) -> list[Turn]:
    """Play an episode for each problem by script; returns each turn's messages and what was said.

    Args:
        team (`Team`): the recipe's.
        script (`Script`): speaks for all roles.
        problems (`Sequence[Problem]`): one episode each.
        seed (`int`): of the mistakes.

    Raises:
        UsageError: an episode did not come to an end: the script does not fit the team or the problems.
    """
    speakers = [ScriptedSpeaker(script, random.Random(f"{seed} {index}")) for index in range(len(problems))]

    async def play(index: int) -> None:
        speaker, number = speakers[index], index % 4
        episode = await play_episode(
            team, problems[index], dict.fromkeys(team.names, speaker), number=number, index=index
        )
        if episode.ending != "ok":
            raise UsageError(f"scripted episode {index} ended with {episode.ending}: {episode.error}")

    for start in range(0, len(problems), AT_ONCE):
        await gather_or_cancel(play(index) for index in range(start, min(start + AT_ONCE, len(problems))))
    return [turn for speaker in speakers for turn in speaker.turns]


def last_turns(turns: Sequence[Turn]) -> list[Turn]:
    """Return each conversation's last turn alone, which has all the others before it."""
    gone_on = {repr(messages[:-1]) for messages, _ in turns}
    return [(messages, said) for messages, said in turns if repr([*messages, _reply(said)]) not in gone_on]


def conversation_rows(turns: Sequence[Turn]) -> Dataset:
    """Return conversations as TRL's prompt-completion rows; a completion is all that came after the first prompt."""
    return Dataset.from_dict(
        {
            "prompt": [messages[:2] for messages, _ in turns],
            "completion": [[*messages[2:], _reply(said)] for messages, said in turns],
        }
    )


def copied_words(turns: Sequence[Turn]) -> list[str]:
    """Return the words that are hardly ever said unless they were told before: names, values, ids."""
    said_in, told_too = Counter[str](), Counter[str]()
    for messages, said in turns:
        told = {word for message in messages[1:] for word in _WORD.findall(message["content"])}
        words = set(_WORD.findall(said))
        said_in.update(words)
        told_too.update(words & told)
    return [word for word, count in told_too.items() if count >= COPIED_SHARE * said_in[word]]


def _reply(said: str) -> Message:
    return {"role": "assistant", "content": said}


def main() -> None:
    """Play, train and save; the output folder appears only when it is complete."""
    quiet_libraries()
    args, training, model = parse_with_config(
        (AgentWarmStartArguments, SFTConfig, ModelConfig), "math_tool_warmstart.yaml", __doc__
    )
    check_teaching(args, training, model)
    if args.whole_conversations and not training.assistant_only_loss:
        raise UsageError("--whole_conversations: what agents are told would be taught too; add --assistant_only_loss")
    config = RunConfig.of(__file__, args, training, model)
    make_team, script = named_object(args.team), named_object(args.script)()
    if args.topk and "topk" not in signature(make_team).parameters:
        raise UsageError(f"--topk {args.topk}: {args.team} makes a team that does not search; leave it out")
    problems = mixed_problems(args.sources, parse_mix(args.domain_mix), args.num_episodes, "train", training.seed)
    if args.dry_run:
        print(f"dry run: {len(problems)} scripted episodes for {training.output_dir}; nothing was started")
        return
    with closing(open_sandbox()) as sandbox:
        team = make_team(sandbox, **({"topk": args.topk} if args.topk else {}))
        turns = asyncio.run(scripted_turns(team, script, problems, training.seed))
    if args.whole_conversations:
        dataset = conversation_rows(last_turns(turns))
    else:
        dataset = taught_rows([messages for messages, _ in turns], [said for _, said in turns])
    headers = [f"{role}\n" for role in ("system", "user", "assistant")]  # of every turn: a token each
    words = copied_words(turns) if args.copied_words_apart else []
    teach(dataset, args, training, model, config, more_texts=headers * len(turns), whole_words=words)
    if PartialState().is_main_process:
        print(f"warm-started team in {training.output_dir}: {len(turns)} turns of {len(problems)} scripted episodes")


if __name__ == "__main__":
    sys.exit(run_command(main))
