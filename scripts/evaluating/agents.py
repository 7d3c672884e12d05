"""A team of agents on problems, beside its controls: a single agent with as many tokens, and the untrained roles."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aflow_ops.agents.episode import Episode, Speaker
from aflow_ops.agents.speakers import ExecutorSpeaker
from aflow_ops.agents.team import Team
from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, check_key, executor_config_from, open_executor
from aflow_ops.sandbox import open_sandbox
from data.files import claimed, write_atomically
from data.problem import Problem
from data.registry import SOURCES, load_problems
from recipes.policy.generation import end_tokens
from recipes.policy.loading import load_policy, trained_settings, trained_template_kwargs
from recipes.run.agent_results import team_metrics
from recipes.run.bars import Bar
from recipes.settings.corpus import corpus_from
from recipes.settings.libraries import quiet_libraries
from recipes.training.agent_adapters import use_role_adapters
from recipes.training.agent_heldout import heldout_row, single_agent
from recipes.training.agent_play import ChatTokens, EpisodePlayer, continued, room_of
from rewards.evaluation import DEFAULT_PASS_K, summarize_rows
from scripts.evaluating.candidates import PolicySettings
from scripts.evaluating.problems import read_data, sources_of_policy
from scripts.run_agents import check_domains, executor_roles, load_recipe, team_of, team_settings

Row = dict[str, Any]
# Of a generated source without --limit.
GENERATED = 100
OUTCOMES = {"limit": "policy_error"}


def agent_problems(names: Sequence[str], limit: int | None, seed: int, trained_on: Sequence[str] = ()) -> list[Problem]:
    """Read benchmarks and files; of a source that is generated, or that the policy was trained on, its held-out part.

    Raises:
        DataError: an unknown name or a bad file.
    """
    problems: list[Problem] = []
    for name in names:
        if name in SOURCES:
            problems += load_problems(name, "heldout", limit or GENERATED, seed)
        else:
            problems += read_data([name], limit, trained_on)
    return problems


class TeamPlayer:
    """A policy, its tokenizer and a loop for the tools, ready to play.

    Args:
        policy (`PolicySettings`): the policy; one without an adapter is untrained.
        batch_size (`int`): episodes at once.
        executor (`ExecutorConfig`): plays the roles that the policy does not.
        of_executor (`Sequence[str]`): these.
    """

    def __init__(
        self, policy: PolicySettings, batch_size: int, executor: ExecutorConfig, of_executor: Sequence[str] = ()
    ) -> None:
        self.policy, self.batch_size = policy, batch_size
        self.executor, self.of_executor = executor, list(of_executor)
        self.model, self.tokenizer = load_policy(str(policy.model), policy.adapter)
        self.use = use_role_adapters(self.model, policy.adapter)
        self.ends = end_tokens(self.model, self.tokenizer)

    def play(self, team: Team, samples: Sequence[tuple[Problem, int]], label: str) -> list[Episode]:
        """Play an episode for each sample."""
        loop = asyncio.new_event_loop()
        chat = ChatTokens(self.tokenizer, self.ends, trained_template_kwargs(self.policy.place))
        room = room_of(self.model, self.policy.max_completion_length)
        episodes: list[Episode] = []
        torch.manual_seed(self.policy.seed)
        with closing(loop), ExitStack() as stack, Bar(label, len(samples)) as bar:
            player = EpisodePlayer(team, chat, room, loop.run_until_complete, self._others(loop, stack))
            for start in range(0, len(samples), self.batch_size):
                episodes += player.play(samples[start : start + self.batch_size], self._write)
                bar.update(len(episodes))
        return episodes

    def _others(self, loop: asyncio.AbstractEventLoop, stack: ExitStack) -> dict[str, Speaker]:
        """Open the executor if it has roles; it is closed with the stack."""
        if not self.of_executor:
            return {}
        resources = AsyncExitStack()
        executor = loop.run_until_complete(resources.enter_async_context(open_executor(self.executor)))
        stack.callback(lambda: loop.run_until_complete(resources.aclose()))
        return dict.fromkeys(self.of_executor, ExecutorSpeaker(executor, self.policy.max_completion_length))

    def _write(self, roles: list[str], prompts: list[list[int]]) -> tuple[list[list[int]], None]:
        """Sample the next turns, each role's with its own adapter."""
        ids: list[list[int]] = [[] for _ in prompts]
        for role in dict.fromkeys(roles):
            places = [at for at, name in enumerate(roles) if name == role]
            with self.use(role):
                found = continued(
                    self.model,
                    [prompts[at] for at in places],
                    pad=self.tokenizer.pad_token_id,
                    ends=self.ends,
                    max_new_tokens=self.policy.max_completion_length,
                    temperature=self.policy.temperature,
                )
            for at, row in zip(places, found, strict=True):
                ids[at] = row
        return ids, None


def evaluate_team(arguments: argparse.Namespace) -> None:
    """Play the team and its controls; write `rows.jsonl` and `summary.json` of each, the team's in the folder itself.

    Raises:
        UsageError: no policy, or a file that is no multi-agent recipe.
    """
    policy, size = PolicySettings.of(arguments), arguments.batch_size
    if not policy.is_loaded_here:
        raise UsageError("--agents needs --model, a folder or Hub name that is loaded here")
    quiet_libraries()
    module = load_recipe(arguments.agents)
    corpus = corpus_from(arguments)
    trained, config = trained_settings(policy.place), executor_config_from(arguments)
    settings = team_settings(module, arguments.team_settings, trained)
    trained_on = [] if arguments.all_problems else sources_of_policy(policy)
    problems = agent_problems(arguments.data, arguments.limit, arguments.seed, trained_on)
    check_domains(module, problems)
    samples = [(problem, number) for problem in problems for number in range(arguments.num_samples)]
    with claimed(arguments.output), closing(open_sandbox(unsafe_subprocess=arguments.unsafe_subprocess)) as sandbox:
        team = team_of(module, sandbox, corpus, settings)
        of_executor = executor_roles(team, arguments.agent_models, trained)
        if of_executor:
            check_key(config)

        def rows_by(player: PolicySettings, playing: Team, label: str) -> list[Row]:
            return rows_of(TeamPlayer(player, size, config, of_executor).play(playing, samples, label))

        rows = {"team": rows_by(policy, team, "team")}
        if policy.adapter is not None:
            rows["untrained"] = rows_by(replace(policy, adapter=None), team, "untrained roles")
        if (single := single_agent(team, rows["team"])) is not None:
            rows["single_agent"] = rows_by(policy, single, "single agent")
        write_team(arguments.output, team, rows, arguments.pass_k)


def rows_of(episodes: Sequence[Episode]) -> list[Row]:
    """Return graded rows in the form of every evaluation, with what an episode has more."""
    rows = [{**heldout_row(episode), "verdicts": dict(episode.outcome.verdicts)} for episode in episodes]
    return [
        {**row, "outcome": OUTCOMES.get(row["outcome"], row["outcome"]), "trace": None, "correct": bool(row["correct"])}
        for row in rows
    ]


def write_team(output: Path, team: Team, rows: Mapping[str, Sequence[Row]], pass_k: Sequence[int] | None) -> None:
    """Write what was found and print one line each.

    Args:
        output (`Path`): the evaluation's folder.
        team (`Team`): whose metrics they have.
        rows (`Mapping[str, Sequence[Row]]`): of the team, and of its controls by name.
        pass_k (`Sequence[int]`, *optional*): the k of pass@k.
    """
    summaries = {name: summary_of(team, found, pass_k) for name, found in rows.items()}
    controls = {name: summary for name, summary in summaries.items() if name != "team"}
    for name, found in rows.items():
        folder = output if name == "team" else output / name
        summary = summaries[name] | ({"controls": controls} if name == "team" else {})
        with write_atomically(folder / "rows.jsonl") as file:
            file.writelines(json.dumps(strict(row), ensure_ascii=False) + "\n" for row in found)
        with write_atomically(folder / "summary.json") as file:
            file.write(json.dumps(summary, indent=2) + "\n")
        low, high = summary["reward_ci95"] or (float("nan"),) * 2
        reward = float("nan") if summary["reward"] is None else summary["reward"]
        print(
            f"{name:<14} reward {reward:.3f} [{low:.3f}, {high:.3f}], {summary['episode_tokens']:.0f} tokens an episode"
        )
    print(f"rows and summary in {output}/", file=sys.stderr)


def strict(row: Row) -> Row:
    """Return a row as JSON has it: verdicts, whose metrics are made from them, are in the dialogue already."""
    return {name: value for name, value in row.items() if name != "verdicts"}


def summary_of(team: Team, rows: Sequence[Row], pass_k: Sequence[int] | None) -> dict[str, Any]:
    """Return an evaluation's summary with the recipe's own metrics."""
    plain = [{**row, "metrics": {}} for row in rows]
    own = team_metrics(rows, team.measure)
    tokens = own.pop("tokens", 0.0)
    return {**summarize_rows(plain, pass_k or DEFAULT_PASS_K), "agents": own, "episode_tokens": tokens}
