"""Supervised warm start of a team: teach a base model every role from scripted episodes, mistakes and all.

    accelerate launch recipes/agents_warmstart.py --config recipes/configs/math_tool_warmstart.yaml

The episodes are the recipe's own, with its real tools; a script speaks for every role. It errs at random and on
purpose, so that the model learns to do each thing, right or wrong, and GRPO has something to choose from. Each turn is
an example.
"""

import asyncio
import random
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from accelerate import PartialState
from datasets import Dataset
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from aflow_ops.agents.episode import Conversation, Utterance, play_episode
from aflow_ops.agents.team import Team
from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import UsageError
from aflow_ops.executor.types import Message
from aflow_ops.named import named_object
from aflow_ops.sandbox import open_sandbox
from data.mixing import parse_mix
from data.problem import Problem
from recipes.policy.loading import with_model_settings
from recipes.policy.tiny import untie_embeddings
from recipes.run.command import run_command
from recipes.run.config import write_config
from recipes.run.progress import progress_of
from recipes.run.replacing import check_replaceable, in_place_of
from recipes.settings.arguments import BackupArguments
from recipes.settings.chosen import ALWAYS, effective_config
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import parse_with_config
from recipes.sft_warmstart import base_policy
from recipes.training.problems import mixed_problems

# Episodes played at once.
AT_ONCE = 64


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
class AgentWarmStartArguments(BackupArguments):
    """What the warm start of a team needs beside TRL's flags.

    Args:
        team (`str`): path of what makes the team from a sandbox, e.g. `recipes.math_tool:math_team`.
        script (`str`): path of the class of the script.
        sources (`list[str]`): problem sources.
        domain_mix (`str`): share of each domain.
        num_episodes (`int`): scripted episodes.
    """

    team: str = field(default="recipes.math_tool:math_team", metadata={"help": "package.module:function of the team."})
    script: str = field(
        default="recipes.policy.math_tool_script:MathToolScript",
        metadata={"help": "Its package.module:Class."},
    )
    sources: list[str] = field(default_factory=lambda: ["word_problems"], metadata={"help": "Problem sources."})
    domain_mix: str = field(default="math=1", metadata={"help": "Share of each domain."})
    num_episodes: int = field(default=500, metadata={"help": "Scripted episodes to learn from."})
    from_scratch: bool = field(default=False, metadata={"help": "Build the tiny policy instead of loading a model."})
    from_embedded: bool = field(default=False, metadata={"help": "Start from SmolLM2-135M-Instruct."})
    vocab_size: int = field(default=1024, metadata={"help": "Vocabulary of the tiny policy."})
    hidden_size: int = field(default=128, metadata={"help": "Width of the tiny policy."})
    num_layers: int = field(default=3, metadata={"help": "Layers of the tiny policy."})
    initializer_range: float = field(default=0.02, metadata={"help": "Spread of the tiny policy's first weights."})
    untie_embeddings: bool = field(
        default=False, metadata={"help": "Save the policy with an output layer of its own, which an adapter may train."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check flags and paths, and stop."})

    def __post_init__(self) -> None:
        parse_mix(self.domain_mix)
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes={self.num_episodes} must be at least 1")
        if self.untie_embeddings and not (self.from_scratch or self.from_embedded):
            raise ValueError("untie_embeddings is for a policy that is built here: from_scratch or from_embedded")


class ScriptedSpeaker:
    """A script in every role of one episode; keeps what it was told and said, asides too."""

    def __init__(self, script: Script, rng: random.Random) -> None:
        self.script, self.rng = script, rng
        self.turns: list[tuple[list[Message], str]] = []

    async def reply(self, conversation: Conversation) -> Utterance:
        """Return the script's next turn."""
        messages = list(conversation.messages)
        text = self.script.reply(conversation.role.name, messages, self.rng)
        self.turns.append((messages, text))
        return Utterance(text, 0)


async def scripted_turns(
    team: Team, script: Script, problems: Sequence[Problem], seed: int
) -> list[tuple[list[Message], str]]:
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


def turn_dataset(turns: Sequence[tuple[list[Message], str]]) -> Dataset:
    """Return turns as TRL's conversational prompt-completion rows."""
    completions = [[{"role": "assistant", "content": text}] for _, text in turns]
    return Dataset.from_dict({"prompt": [messages for messages, _ in turns], "completion": completions})


def main() -> None:
    """Play, train and save; the output folder appears only when it is complete."""
    quiet_libraries()
    args, training, model_args = parse_with_config(
        (AgentWarmStartArguments, SFTConfig, ModelConfig), "math_tool_warmstart.yaml", __doc__
    )
    output = Path(training.output_dir)
    check_replaceable(output)
    if args.untie_embeddings and model_args.use_peft:
        raise UsageError("--untie_embeddings with --use_peft: an adapter is saved then, and no output layer")
    config = effective_config(args, training, model_args, always=ALWAYS)
    make_team, script = named_object(args.team), named_object(args.script)()
    problems = mixed_problems(args.sources, parse_mix(args.domain_mix), args.num_episodes, "train", training.seed)
    if args.dry_run:
        print(f"dry run: {len(problems)} scripted episodes for {output}; nothing was started")
        return
    with closing(open_sandbox()) as sandbox:
        turns = asyncio.run(scripted_turns(make_team(sandbox), script, problems, training.seed))
    dataset = turn_dataset(turns)
    headers = [f"{role}\n" for role in ("system", "user", "assistant")]  # of every turn: a token each
    model, tokenizer = base_policy(args, model_args, dataset, training, headers * len(turns))
    with in_place_of(output, training) as beside:
        trainer = SFTTrainer(
            model=model,
            args=with_model_settings(beside, model_args) if isinstance(model, str) else beside,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=get_peft_config(model_args),
        )
        with progress_of(trainer, "warm start", {"loss": "loss {:.3f}"}):
            trainer.train()
        if args.untie_embeddings:
            untie_embeddings(trainer.accelerator.unwrap_model(trainer.model))
        trainer.save_model()
        if PartialState().is_main_process:
            write_config(Path(beside.output_dir), __file__, config)
    if PartialState().is_main_process:
        print(f"warm-started team in {output}: {len(turns)} turns of {len(problems)} scripted episodes")


if __name__ == "__main__":
    sys.exit(run_command(main))
