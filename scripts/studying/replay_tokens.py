"""Executor tokens of the replay study: counted from what ran, and what there is once a number of them is spent.

A token counts whether the executor or its cache answered. Nobody gets more than online GRPO alone: of a search the
rounds count that fit, of a training the last checkpoint that fits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from data.files import write_atomically
from recipes.run.checkpoints import checkpoint_folders
from recipes.run.rollout_log import open_part, rollout_files

# Steps of the moving average that reaches the level of the best fixed workflows.
WINDOW = 5


@dataclass(frozen=True)
class Step:
    """Sampled rollouts of one optimizer step.

    Args:
        number (`int`): of steps before it.
        tokens (`int`): that their workflows took.
        reward (`float`): their mean.
    """

    number: int
    tokens: int
    reward: float


def steps_of(run: Path) -> list[Step]:
    """Return the steps of a run, in order, from its `rollouts.jsonl`."""
    found: dict[int, tuple[int, list[float]]] = {}
    for path in rollout_files(run / "rollouts.jsonl"):
        with open_part(path) as file:
            for row in map(json.loads, file):
                tokens, rewards = found.get(row["step"], (0, []))
                trace = row.get("trace") or {}
                used = int(trace.get("prompt_tokens", 0)) + int(trace.get("completion_tokens", 0))
                given = row["reward"] is None or row.get("replay")
                found[row["step"]] = (tokens + used, rewards if given else [*rewards, row["reward"]])
    return [Step(number, tokens, fmean(rewards or [0.0])) for number, (tokens, rewards) in sorted(found.items())]


def tokens_of(folder: Path) -> int:
    """Return the tokens of a search, of the searches of a loop, or of a run's sampled rollouts."""
    if (folder / "nodes.jsonl").is_file():
        return sum(int(node["tokens"]["executor"]) for node in _rows(folder / "nodes.jsonl"))
    if searches := sorted(folder.glob("*/nodes.jsonl")):
        return sum(tokens_of(path.parent) for path in searches)
    return sum(step.tokens for step in steps_of(folder))


def tokens_to(run: Path, level: float, spent: int) -> int | None:
    """Return the tokens, `spent` ones before the run included, until its training reward was at a level."""
    rewards: list[float] = []
    for step in steps_of(run):
        spent += step.tokens
        rewards.append(step.reward)
        if len(rewards) >= WINDOW and fmean(rewards[-WINDOW:]) >= level:
            return spent
    return None


def cut_search(search: Path, budget: int, target: Path) -> None:
    """Write what a search had found while it had not taken more than a budget: nodes and trajectories.

    Args:
        search (`Path`): its folder.
        budget (`int`): tokens; where the first workflows of all problems take more, they stay.
        target (`Path`): folder that it is written to.
    """
    nodes = _rows(search / "nodes.jsonl")
    rounds = sorted({node["round"] for node in nodes})
    spent = accumulate(sum(node["tokens"]["executor"] for node in nodes if node["round"] == each) for each in rounds)
    last = max((each for each, tokens in zip(rounds, spent, strict=True) if tokens <= budget), default=rounds[0])
    kept = {node["id"] for node in nodes if node["round"] <= last}
    _write(target / "nodes.jsonl", [node for node in nodes if node["id"] in kept])
    _write(target / "trajectories.jsonl", [row for row in _rows(search / "trajectories.jsonl") if row["node"] in kept])


def reached_within(run: Path, budget: int) -> tuple[Path, int]:
    """Return the last checkpoint of a run for which its workflows took no more than a budget, and what they took.

    Args:
        run (`Path`): an online run, or a loop of search and training; its checkpoints are all there.
        budget (`int`): tokens; where the first checkpoint has taken more, it is the one.
    """
    steps, found = steps_of(run), []
    for checkpoint in reversed(checkpoint_folders(run)):
        number = int(checkpoint.name.rpartition("-")[2])
        searches = checkpoint / "search"
        taken = tokens_of(searches) if searches.is_dir() else sum(s.tokens for s in steps if s.number < number)
        found.append((checkpoint, taken))
    fitting = [each for each in found if each[1] <= budget]
    return fitting[-1] if fitting else found[0]


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _write(file: Path, rows: list[dict[str, Any]] | list[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(file) as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
