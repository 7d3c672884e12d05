"""Problems of a run: sources by name or file, mixed by domain."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from datasets import Dataset

from aflow_ops.errors import UsageError
from aflow_ops.policy_prompt import policy_messages
from data.mixing import Queue, cycled, mix
from data.problem import Domain, Problem
from data.registry import load_problems
from recipes.settings.arguments import RecipeArguments
from recipes.training.curriculum import EasiestFirst, queue_of


def mixed_problems(
    sources: Sequence[str],
    ratios: Mapping[Domain, float],
    count: int,
    split: Literal["train", "heldout"],
    seed: int,
    queue: Queue | None = None,
) -> list[Problem]:
    """Return `count` problems of the named sources with the domains in exact proportion.

    Sources of one domain share its part evenly; a finite source that is too small is cycled in training. They are
    shuffled by `seed` unless a `queue` orders each domain's problems (`curriculum.py`).

    Raises:
        UsageError: an unknown source, a bad file, or a domain with a share but no source.
    """
    by_domain: dict[Domain, list[Problem]] = {}
    try:
        columns = [load_problems(source, split, count, seed, shuffle=queue is not cycled) for source in sources]
        for problem in interleave(columns):
            by_domain.setdefault(problem.domain, []).append(problem)
        return mix(by_domain, ratios, count, seed, queue)
    except ValueError as error:
        raise UsageError(str(error)) from error


def training_and_heldout_problems(recipe: RecipeArguments, seed: int) -> tuple[list[Problem], list[Problem]]:
    """Load one epoch of training problems, in the curriculum's order if there is one, and the held-out ones.

    Both have the same domain mix.

    Args:
        recipe (`RecipeArguments`): sources, mix, numbers and curriculum.
        seed (`int`): of the run.

    Raises:
        UsageError: as `mixed_problems`, or a curriculum that fits none of the problems.
    """
    queue = queue_of(recipe.curriculum, recipe.curriculum_rows, seed)
    train = mixed_problems(recipe.sources, recipe.mix, recipe.num_train_problems, "train", seed, queue)
    if isinstance(queue, EasiestFirst):
        queue.check_fits(train)
    heldout = mixed_problems(recipe.sources, recipe.mix, recipe.num_heldout_problems, "heldout", seed)
    return train, heldout


def interleave(columns: Sequence[Sequence[Problem]]) -> list[Problem]:
    """Interleave several lists: first rows first, then second rows, and so on."""
    longest = max((len(column) for column in columns), default=0)
    return [column[index] for index in range(longest) for column in columns if index < len(column)]


def training_dataset(problems: Sequence[Problem], prompt_style: str) -> Dataset:
    """Return the dataset TRL trains on.

    Each row has `prompt` (chat messages made from the problem's public part) and `problem` (the whole row as JSON, for
    the reward only).
    """
    return Dataset.from_dict(
        {
            "prompt": [policy_messages(problem.view, style=prompt_style) for problem in problems],
            "problem": [json.dumps(problem.to_row()) for problem in problems],
        }
    )
