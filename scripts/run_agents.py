"""Play one episode of a multi-agent recipe and show it as a dialogue.

    python scripts/run_agents.py recipes/math_tool.py --question "What is 12 * 7 + 5?" --answer 89 --model MODEL
    python scripts/run_agents.py recipes/math_tool.py --question "..." --adapter outputs/RUN
    python scripts/run_agents.py recipes/deepresearch.py --question "..." --adapter outputs/RUN --corpus my_notes/
    python scripts/run_agents.py recipes/math_tool.py --question "..." --executor local

Without `--model` and `--adapter` the executor plays all roles. Without `--answer` (or, for code, `--tests`) nothing can
be graded, and only the dialogue means something.
"""

import argparse
import asyncio
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from aflow_ops.agents.episode import Episode, Speaker, play_episode
from aflow_ops.agents.speakers import EXECUTOR, ExecutorSpeaker
from aflow_ops.agents.team import Team
from aflow_ops.agents.tools.corpus import Corpus
from aflow_ops.errors import UsageError
from aflow_ops.executor import check_key, executor_argument_group, executor_config_from, open_executor
from aflow_ops.named import named_object
from aflow_ops.sandbox import open_sandbox
from aflow_ops.terminal import printable
from data.problem import Problem
from recipes.run.command import CommandParser, run_command
from recipes.settings.corpus import corpus_argument_group, corpus_from
from scripts.evaluating.candidates import base_model


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("recipe", type=Path, help="recipes/math_tool.py, recipes/deepcoder.py, or one of your own")
    parser.add_argument("--question", help="what the agents are asked")
    parser.add_argument("--problem", type=Path, help="JSONL file whose first row is the problem, instead of --question")
    parser.add_argument("--answer", default="unknown", help="gold answer; no agent sees it")
    parser.add_argument("--tests", nargs="*", default=[], help="for code: hidden tests, such as 'assert f(1) == 2'")
    parser.add_argument("--entry_point", help="for code: name of the function")
    parser.add_argument("--model", help="policy that plays the roles: folder or Hub name [the adapter's]")
    parser.add_argument("--adapter", help="its adapter, as a run leaves it: folder or Hub name; roles have their own")
    parser.add_argument("--max_new_tokens", type=int, default=512, help="longest turn [512]")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the policy; 0 is greedy [0.7]")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling [0]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run code with resource limits only")
    parser.add_argument("--json", action="store_true", help="print one object instead of the dialogue")
    team_argument(parser)
    corpus_argument_group(parser)
    executor_argument_group(parser)
    args = parser.parse_args(argv)
    if args.max_new_tokens < 1 or not 0 <= args.temperature < math.inf:
        parser.error(f"--max_new_tokens {args.max_new_tokens} must be at least 1, --temperature {args.temperature} 0")
    return args


def team_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--agent_models` and `--team_settings`."""
    parser.add_argument(
        "--agent_models",
        nargs="*",
        metavar="ROLE=executor",
        help="a team's roles that the executor plays, such as refiner=executor [those of its adapter's training]",
    )
    parser.add_argument(
        "--team_settings",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="a team's own flags, such as max_attempts=2 swe_backend=docker [what its adapter was trained with]",
    )


def load_recipe(path: Path) -> Any:
    """Import a recipe's file.

    Raises:
        UsageError: there is no such file, or it has no team.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such recipe; recipes/math_tool.py is one")
    if path.suffix != ".py":
        raise UsageError(f"{path}: not a Python file")
    return named_object(str(path))


def team_of(module: Any, sandbox: Any, corpus: Corpus | None = None, settings: Mapping[str, Any] | None = None) -> Team:
    """Return the team that a recipe's `*_team` function makes.

    Args:
        module (`module`): the recipe.
        sandbox (`Sandbox`): runs code.
        corpus (`Corpus`, *optional*): what the agents search instead of each problem's own passages.
        settings (`Mapping[str, Any]`, *optional*): of `team_settings`.

    Raises:
        UsageError: it has none, or its agents search nothing.
    """
    maker, recipe = _maker(module), _name(module)
    if corpus is None:
        return maker(sandbox, **(settings or {}))  # type: ignore[no-any-return]
    if "corpus" not in inspect.signature(maker).parameters:
        raise UsageError(f"--corpus, --retriever_url: the agents of {recipe} search nothing; leave it out")
    return maker(sandbox, corpus=corpus, **(settings or {}))  # type: ignore[no-any-return]


def _name(module: Any) -> str:
    return str(module.__name__.rpartition(".")[2])


def _maker(module: Any) -> Callable[..., Any]:
    makers: list[Callable[..., Any]] = [
        value for name, value in vars(module).items() if name.endswith("_team") and callable(value)
    ]
    if not makers:
        raise UsageError(f"{_name(module)} has no function whose name ends in _team: it is no multi-agent recipe")
    return makers[0]


def team_settings(module: Any, given: Sequence[str], trained: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe's team is made with: what is asked for, else what its adapter was trained with.

    Args:
        module (`module`): the recipe.
        given (`Sequence[str]`): `name=value` words.
        trained (`Mapping[str, Any]`): every setting of the adapter's run; those of the team are taken.

    Raises:
        UsageError: the team has no such setting, or the recipe refuses the value.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(_maker(module)).parameters.items()
        if isinstance(parameter.default, (int, float, str))
    }
    found = {name: value for name, value in trained.items() if name in defaults}
    for word in given:
        name, is_setting, value = word.partition("=")
        if not is_setting or name not in defaults:
            raise UsageError(f"--team_settings {word}: {_name(module)} takes {', '.join(defaults)}, each as name=value")
        try:
            found[name] = type(defaults[name])(value)
        except ValueError:
            raise UsageError(f"--team_settings {word}: like {name}={defaults[name]!r}") from None
    for cls in (value for value in vars(module).values() if isinstance(value, type) and is_dataclass(value)):
        if cls.__module__ == module.__name__ and set(found) <= {setting.name for setting in fields(cls)}:
            try:
                cls(**found)  # the recipe's flags know what they may be
            except ValueError as error:
                raise UsageError(f"--team_settings: {error}") from None
            except TypeError:
                continue  # another kind of class
    return found


def problem_of(args: argparse.Namespace, domain: str) -> Problem:
    """Return the problem that was asked.

    Raises:
        UsageError: there is none, or two.
    """
    if (args.question is None) == (args.problem is None):
        raise UsageError("give --question TEXT or --problem FILE, one of them")
    try:
        if args.problem is not None:
            with args.problem.open(encoding="utf-8") as file:
                found = json.loads(file.readline())
            if not isinstance(found, dict):
                raise ValueError(f"{args.problem}: its first line must be an object, not {str(found)[:60]!r}")
            return Problem.from_row({"source": "asked", "domain": domain, **found})
        row = {"question": args.question, "answer": args.answer, "source": "asked", "domain": domain}
        return Problem.from_row({**row, "tests": args.tests, "entry_point": args.entry_point})
    except (OSError, ValueError) as error:
        raise UsageError(f"the problem cannot be read: {error}") from None


def executor_roles(team: Team, given: Sequence[str] | None, trained: Mapping[str, Any]) -> list[str]:
    """Return the roles that the executor plays: those that are asked for, else those of the adapter's training.

    Args:
        team (`Team`): the recipe's.
        given (`Sequence[str]`, *optional*): `role=executor` words.
        trained (`Mapping[str, Any]`): every setting of the adapter's run.

    Raises:
        UsageError: another word, or a role that there is not.
    """
    words = trained.get("agent_models", []) if given is None else given
    roles = [part.partition("=") for word in words for part in str(word).split(",")]
    for role, _, model in roles:
        if model != EXECUTOR or role not in team.names:
            raise UsageError(f"--agent_models {role}={model}: ROLE={EXECUTOR}, with one of {', '.join(team.names)}")
    return [role for role, _, _ in roles]


def check_domains(module: Any, problems: Sequence[Problem]) -> None:
    """Refuse problems that a recipe is not for: its agents would be paid for something else.

    Raises:
        UsageError: names one.
    """
    domains = getattr(module, "DOMAINS", ())
    other = next((problem for problem in problems if domains and problem.domain not in domains), None)
    if other is not None:
        raise UsageError(
            f"problem {other.id} of {other.source!r} is {other.domain}; {_name(module)} is for {', '.join(domains)}"
        )


def settings_beside(place: str | None) -> dict[str, Any]:
    """Return what the run of an adapter or a model was told."""
    if place is None:
        return {}
    from recipes.policy.loading import trained_settings  # torch is only needed here

    return trained_settings(place)


class PolicySpeaker:
    """A policy in every role, one turn at a time."""

    def __init__(self, args: argparse.Namespace) -> None:
        from recipes.policy.loading import load_policy, trained_template_kwargs  # torch is only needed here
        from recipes.settings.libraries import quiet_libraries
        from recipes.training.agent_adapters import use_role_adapters

        quiet_libraries()
        self.model, self.tokenizer = load_policy(args.model, args.adapter)
        self.use = use_role_adapters(self.model, args.adapter)
        self.told = trained_template_kwargs(args.adapter or args.model)
        self.args, self.turn = args, 0

    async def reply(self, conversation: Any) -> Any:
        """Return the policy's next turn."""
        from aflow_ops.agents.episode import Utterance
        from recipes.policy.generation import generate_completions

        self.turn += 1
        with self.use(conversation.role.name):
            (text,) = generate_completions(
                self.model,
                self.tokenizer,
                [conversation.messages],
                max_new_tokens=self.args.max_new_tokens,
                temperature=self.args.temperature,
                seed=self.args.seed + self.turn,
                chat_template_kwargs=self.told,
            )
        return Utterance(text, len(self.tokenizer.encode(text, add_special_tokens=False)))


async def play(args: argparse.Namespace, team: Team, task: Problem, of_executor: Sequence[str]) -> Episode:
    """Play the episode with whoever has the roles."""
    speakers: dict[str, Speaker] = {}
    async with AsyncExitStack() as stack:
        if of_executor:
            executor = await stack.enter_async_context(open_executor(executor_config_from(args)))
            speakers |= dict.fromkeys(of_executor, ExecutorSpeaker(executor, args.max_new_tokens))
        if len(speakers) < len(team.names):
            policy = PolicySpeaker(args)
            speakers |= {name: policy for name in team.names if name not in speakers}
        return await play_episode(team, task, speakers)


def print_dialogue(episode: Episode) -> None:
    """Print who was told what and replied what, and what came of it."""
    for turn in episode.turns:
        print(f"--- {turn.agent} is told\n{printable(turn.heard)}\n")
        print(f"=== {turn.agent}\n{printable(turn.said)}\n")
    outcome = episode.outcome
    print(f"ending: {episode.ending}" + (f" ({printable(episode.error)})" if episode.error else ""))
    print(f"answer: {printable(outcome.answer)}")
    print(f"correct: {outcome.correct}; team reward {outcome.team}; own rewards {dict(outcome.local)}")


def main() -> None:
    """Play and show."""
    args = parse_arguments()
    module = load_recipe(args.recipe)
    args.model = base_model(args.model, args.adapter)
    corpus = corpus_from(args)
    trained = settings_beside(args.adapter or args.model)
    settings = team_settings(module, args.team_settings, trained)
    with closing(open_sandbox(unsafe_subprocess=args.unsafe_subprocess)) as sandbox:
        team = team_of(module, sandbox, corpus, settings)
        of_executor = team.names if args.model is None else executor_roles(team, args.agent_models, trained)
        if of_executor:
            check_key(executor_config_from(args))
        task = problem_of(args, getattr(module, "DOMAINS", ("math",))[0])
        check_domains(module, [task])
        episode = asyncio.run(play(args, team, task, of_executor))
    if args.json:
        turns = [{"agent": turn.agent, "heard": turn.heard, "said": turn.said} for turn in episode.turns]
        outcome = episode.outcome
        found = {"answer": outcome.answer, "correct": outcome.correct, "team": outcome.team}
        shown = {"ending": episode.ending, "error": episode.error, **found, "local": dict(outcome.local)}
        print(json.dumps({**shown, "turns": turns}, ensure_ascii=False))
    else:
        print_dialogue(episode)


if __name__ == "__main__":
    sys.exit(run_command(main))
