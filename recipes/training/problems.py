"""Problems of a run: sources by name or file, mixed by domain."""

import json
import sys
from collections.abc import Mapping, Sequence

from datasets import Dataset

from aflow_ops.errors import InfraError, UsageError
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from data import registry
from data.domains import DOMAINS
from data.mixing import Queue, apportion, cycled, in_turns, interleave, mix
from data.preparing import missing_benchmarks, prepare_benchmarks
from data.problem import DataError, Domain, Problem
from data.processing import Rules
from data.registry import Split, load_problems
from data.trimming import TextBudget
from recipes.run.bars import watched_rows
from recipes.settings.arguments import RecipeArguments
from recipes.training.curriculum import EasiestFirst, queue_of
from recipes.training.experience import check_trajectories, load_trajectories


def mixed_problems(
    sources: Sequence[str],
    ratios: Mapping[Domain, float],
    count: int,
    split: Split,
    seed: int,
    queue: Queue | None = None,
) -> list[Problem]:
    """Return `count` problems of the named sources with the domains in exact proportion.

    Sources of one domain take turns in it, each shuffled by `seed`, as long as they last; used up, they begin again. A
    `queue` orders each domain's problems in another way (`curriculum.py`).

    Raises:
        UsageError: an unknown source, a bad file, or a domain with a share but no source.
    """
    by_domain: dict[Domain, list[Problem]] = {}
    try:
        needed = _needed(sources, ratios, count)
        columns = [load_problems(name, split, needed[name], seed, shuffle=queue is not cycled) for name in needed]
        for problem in interleave(columns):
            by_domain.setdefault(problem.domain, []).append(problem)
        return mix(by_domain, ratios, count, seed, queue or in_turns(columns, seed))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _needed(sources: Sequence[str], ratios: Mapping[Domain, float], count: int) -> dict[str, int]:
    """How many problems of each source to load: of an embedded one its domain's share, of others, which may mix, all.

    No more than that: what is left of a generator when its rarer problems are used up is not what it began with.
    """
    shares = apportion(ratios, count)
    of_domain = {name: row.name for row in DOMAINS.values() for name in row.sources}
    return {name: shares.get(of_domain.get(name, ""), count) or 1 for name in sources}


def training_and_heldout_problems(recipe: RecipeArguments, seed: int) -> tuple[list[Problem], list[Problem]]:
    """Load one epoch of training problems, in the curriculum's order if there is one, and the held-out ones.

    Both have the same domain mix.

    Args:
        recipe (`RecipeArguments`): sources, mix, numbers and curriculum.
        seed (`int`): of the run.

    Benchmarks that are not there yet are fetched and processed; a dry run only says so, and has no problems then.

    Raises:
        UsageError: as `mixed_problems`, or a curriculum that fits none of the problems.
        InfraError: a benchmark cannot be had.
        DataError: what is to be replayed cannot be read, or is of held-out problems.
    """
    check_trajectories(recipe.replay)
    if not _prepared(recipe):
        return [], []
    queue = queue_of(recipe.curriculum, recipe.curriculum_rows, seed)
    train = mixed_problems(recipe.sources, recipe.mix, recipe.num_train_problems, "train", seed, queue)
    if isinstance(queue, EasiestFirst):
        queue.check_fits(train)
    heldout = mixed_problems(recipe.sources, recipe.mix, recipe.num_heldout_problems, "heldout", seed)
    if recipe.replay:
        load_trajectories(recipe.replay, heldout=heldout, problems=train, style=recipe.prompt_style)
    return train, heldout


def dry_run_line(train: Sequence[Problem], heldout: Sequence[Problem]) -> str:
    """What a dry run says in the end: the problems, or, while those are still to be fetched, that all else holds."""
    found = f"{len(train)} training and {len(heldout)} held-out problems" if train else "the settings hold"
    return f"dry run: {found}; nothing was started"


def _prepared(recipe: RecipeArguments) -> bool:
    """See to it that the sources are on this machine; whether they are, which only a dry run leaves open.

    Raises:
        InfraError: one cannot be had; says what needs no download.
    """
    missing = missing_benchmarks(recipe.sources, registry.PROCESSED_FOLDER)
    if not missing:
        return True
    names = ", ".join(known.name for known in missing)
    if recipe.dry_run:
        print(f"{names}: not in {registry.PROCESSED_FOLDER} yet; a run fetches and processes them first")
        return False
    print(f"{names}: fetched and processed once, into {registry.PROCESSED_FOLDER}", file=sys.stderr)
    try:
        with watched_rows() as watch:
            prepare_benchmarks(
                recipe.sources, registry.RAW_FOLDER, registry.PROCESSED_FOLDER, Rules(TextBudget()), watch
            )
    except DataError as error:
        raise InfraError(
            f"{error} of scripts/download_datasets.py. Or train on problems that need no download: --sources "
            f"{' '.join(registry.DEFAULT_SOURCES)} (those of the recipe's domain), or a JSONL file of yours"
        ) from None
    return True


def training_dataset(problems: Sequence[Problem], prompt_style: PromptStyle) -> Dataset:
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
