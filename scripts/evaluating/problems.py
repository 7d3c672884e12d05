"""On which problems: benchmarks and files, without those that the policy was trained on."""

import sys
from collections.abc import Sequence
from pathlib import Path

from aflow_ops.errors import UsageError
from data.benchmarks import benchmarks
from data.files import path_of
from data.jsonl import read_problems
from data.problem import DataError, Problem
from data.registry import PROCESSED_FOLDER, has_test_set, in_heldout_part
from rewards.evaluation import Key
from scripts.evaluating.candidates import PolicySettings


def read_data(names: Sequence[str], limit: int | None, trained_on: Sequence[str] = ()) -> list[Problem]:
    """Read the problems of benchmarks and files, in order.

    Args:
        names (`Sequence[str]`): benchmarks and files.
        limit (`int`, *optional*): at most so many of each.
        trained_on (`Sequence[str]`): sources that the policy was trained on. Of one without a test set of its own only
            the held-out part is read, and that is said.

    Raises:
        DataError: an unprocessed or unknown benchmark, or a bad file.
        UsageError: nothing of a source is held out.
    """
    problems: list[Problem] = []
    for name in names:
        path = path_of(name)
        if name in benchmarks() and not path.is_file():
            path = PROCESSED_FOLDER / name / "test.jsonl"
            if not path.is_file():
                commands = " && ".join(f"python scripts/{verb}_datasets.py {name}" for verb in ("download", "process"))
                raise DataError(f"{name} is not in {PROCESSED_FOLDER}: {commands}")
        found = read_problems(path)
        if not has_test_set(name) and any(_same_source(name, source) for source in trained_on):
            found, every = [problem for problem in found if in_heldout_part(problem)], found
            about = f"{name}: the policy was trained on {len(every) - len(found)} of its {len(every)} problems"
            if not found:
                raise UsageError(f"{about}; give others, or --all_problems to evaluate on them all the same")
            print(f"{about}; the {len(found)} held-out ones are evaluated (--all_problems: all)", file=sys.stderr)
        problems += _not_yet(name, found, {(known.source, known.id): known for known in problems})[:limit]
    return problems


def _not_yet(name: str, found: Sequence[Problem], known: dict[Key, Problem]) -> list[Problem]:
    """Return the problems that are not known: the same row again would be counted as another sample of its problem.

    Raises:
        DataError: a known id stands for another problem.
    """
    different = []
    for problem in found:
        first = known.setdefault((problem.source, problem.id), problem)
        if first.view.text != problem.view.text:
            raise DataError(
                f"{name}: id {problem.id!r} of the source {problem.source} stands for two problems; evaluate the files "
                "one by one, or give each problem its own id"
            )
        if first is problem or first != problem:
            different.append(problem)
    if len(different) < len(found):
        print(f"{name}: {len(found) - len(different)} repeated rows are left out", file=sys.stderr)
    return different


def _same_source(name: str, source: str) -> bool:
    return name == source or (path_of(name).exists() and path_of(name).resolve() == path_of(source).resolve())


def sources_of_policy(policy: PolicySettings) -> list[str]:
    """Return the sources that the policy was trained on, as far as its run left word."""
    if policy.model is None or not policy.is_loaded_here:
        return []
    # torch takes seconds to import and a fixed workflow does not need it
    from recipes.policy.loading import trained_sources

    # An adapter's base may be a policy of ours too: the one that a warm start made.
    bases = [policy.model] if policy.adapter and Path(policy.model).is_dir() else []
    return [source for place in (policy.place, *bases) for source in trained_sources(place)]
