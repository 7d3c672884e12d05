"""Does the search find more than sampling does, for the same executor tokens? One table, whichever way it falls.

    python scripts/study_search.py                                  # on a landscape with a known optimum: no executor
    python scripts/study_search.py --environment embedded --tokens 40000   # with SmolLM2-135M and cached replies

Every strategy starts from the same root, with the same proposer, problems and racing of candidates, and ends when it
has spent the tokens: the search with each of its selections, `random` selection, and independent samples, which modify
the root only. What it has found is judged on problems that it has not seen. Seeds are paired. A seed that has ended is
kept: stop whenever you like and go on with the same command.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import track

from aflow_ops.errors import InfraError
from aflow_ops.executor import ExecutorConfig
from aflow_ops.search.choose import Final
from aflow_ops.search.evaluate import FIRST_OF_A_KIND, Evaluate, Rungs
from aflow_ops.search.expand import Check, as_completion
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.independent import Independent
from aflow_ops.search.kinds import checker, root_workflow
from aflow_ops.search.loop import Root, Search, SearchSettings
from aflow_ops.search.node import Node
from data.problem import Domain, ProblemView
from recipes.run.command import CommandParser, run_command
from rewards.opening import open_scorer
from rewards.searching.evaluation import Evaluation
from rewards.statistics import paired_bootstrap
from scripts.search_quickstart import DOMAINS
from scripts.searching.compared import Compared, fingerprint, read_compared, write_compared
from scripts.searching.controls import problem_means
from scripts.searching.landscape import OPTIMUM, Landscape
from scripts.searching.problems import read_slices
from scripts.studying.running import ROOT, KeptRows, commit_of

INDEPENDENT = "independent"
STRATEGIES = ("aflow", "uct", "greedy", "random", INDEPENDENT)
FIRST = STRATEGIES[0]
VALIDATION, HELDOUT = 24, 60


class SpentError(InfraError):
    """The tokens of a strategy are spent; its nodes stand."""


@dataclass(frozen=True)
class Environment:
    """Where strategies are compared.

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): of its problems.
        problems (`Mapping[str, ProblemView]`): the validation slice.
        evaluate (`Evaluate`): runs a workflow on one of them.
        check (`Check`): the language's verdict.
    """

    kinds: Sequence[tuple[Domain, bool]]
    problems: Mapping[str, ProblemView]
    evaluate: Evaluate
    check: Check


async def found_by(strategy: str, place: Environment, seed: int, tokens: int) -> str:
    """Return the workflow that a strategy finds.

    Args:
        strategy (`str`): one of `STRATEGIES`.
        place (`Environment`): where.
        seed (`int`): of its choices.
        tokens (`int`): executor tokens that it may spend on candidates; the root's are not counted.
    """
    proposer = GrammarProposer(place.kinds, seed, {key: view.text for key, view in place.problems.items()})
    rungs = Rungs(tuple(place.problems), first=FIRST_OF_A_KIND * len(place.kinds))
    selection = "aflow" if strategy == INDEPENDENT else strategy
    rounds = 0 if strategy == INDEPENDENT else 10_000
    search = Search(
        SearchSettings(rounds=rounds, parallel=1, selection=selection, seed=seed),  # type: ignore[arg-type]
        proposer, place.check, place.evaluate, place.problems, rungs,
    )  # fmt: skip

    def keep(nodes: Sequence[Node]) -> None:
        if sum(node.tokens.executor for node in [*search.nodes, *nodes] if node.parent is not None) > tokens:
            raise SpentError

    search.keep = keep
    with suppress(SpentError):
        await search.run([Root(root_workflow(place.kinds))])
    if strategy == INDEPENDENT:
        independent = Independent(proposer, place.check, place.evaluate, rungs, Final(place.evaluate, Rungs(())))
        await independent.run(search.nodes[0], tokens)
        return independent.best
    best = search.best()
    assert best is not None
    return as_completion(best.workflow, best.prompts)


Values = Mapping[str, Sequence[float]]
Keep = Callable[[int, Mapping[str, float]], None]


async def on_landscapes(seeds: Sequence[int], tokens: int, keep: Keep) -> None:
    """Compare on one landscape for each seed; rewards are exact."""
    for seed in track(seeds, "seeds", transient=True):
        landscape, unseen = Landscape(seed, VALIDATION), Landscape(seed, HELDOUT, "held-out")
        place = Environment([("math", False)], landscape.problems, landscape, checker([("math", False)]))
        keep(seed, {name: unseen.value(await found_by(name, place, seed, tokens)) for name in STRATEGIES})


async def on_the_embedded(seeds: Sequence[int], tokens: int, keep: Keep, cache: Path) -> None:
    """Compare on the three embedded domains at once; the problems are the same for every seed, so replies recur."""
    slices = read_slices(DOMAINS, VALIDATION, HELDOUT, 0)
    config = ExecutorConfig(executor="local", executor_cache_dir=str(cache))
    async with AsyncExitStack() as stack:
        scorer = await stack.enter_async_context(open_scorer(config, workflow_timeout=900.0, proven=True))
        evaluation = Evaluation(scorer, slices.all, scorer.runtime.executor.price)
        views = {key: problem.view for key, problem in slices.validation.items()}
        place = Environment(slices.kinds, views, evaluation, checker(slices.kinds))

        async def reward(workflow: str) -> float:
            return fmean(problem_means(await evaluation.on(workflow, list(slices.heldout))))

        for seed in track(seeds, "seeds", transient=True):
            keep(seed, {name: await reward(await found_by(name, place, seed, tokens)) for name in STRATEGIES})


def table(values: Values) -> str:
    """Return the comparison in Markdown: means, and the search's wins, ties and losses, paired by seed."""
    rows = [
        "| strategy | held-out reward | the search earns more by | 95 % | wins | ties | losses |",
        "|---|---|---|---|---|---|---|",
    ]
    first = values[FIRST]
    for name, others in values.items():
        row = f"| `{name}` | {fmean(others):.3f} |"
        if name == FIRST:
            rows.append(f"{row} | | | | |")
            continue
        gain, low, high = paired_bootstrap(others, first, seed=0)
        won, lost = (sum(sign * (a - b) > 1e-9 for a, b in zip(first, others, strict=True)) for sign in (1, -1))
        rows.append(f"{row} {gain:+.3f} | [{low:+.3f}, {high:+.3f}] | {won} | {len(first) - won - lost} | {lost} |")
    return "\n".join(rows)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("--environment", choices=("landscape", "embedded"), default="landscape", help="where [landscape]")
    add("--seeds", type=int, default=20, help="how many [20]")
    add("--tokens", type=int, default=20_000, help="executor tokens of each strategy [20000]")
    folder = Path("outputs/study_search")
    add("--output", type=Path, default=folder, help=f"folder of the seeds that have ended [{folder}]")
    add(
        "--cache",
        type=Path,
        default=Path(".cache/study_search"),
        help="cached replies of the embedded executor [.cache/study_search]",
    )
    arguments = parser.parse_args()
    for name in ("seeds", "tokens"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)} must be at least 1")
    return arguments


def main() -> None:
    """Compare what is missing, print the table."""
    compare(read_arguments())


def compare(arguments: argparse.Namespace) -> None:
    """Compare for every seed that has no row, print the table of all."""
    what, path = (arguments.environment, arguments.tokens), arguments.output / f"{arguments.environment}.jsonl"
    kept = KeptRows(path, read_compared, fingerprint, partial(write_compared, path))
    console = Console(stderr=True, highlight=False)

    def keep(seed: int, rewards: Mapping[str, float]) -> None:
        kept.keep(Compared(*what, seed, fingerprint(*what), commit_of(ROOT), rewards))
        console.print(f"seed {seed}: " + ", ".join(f"{name} {reward:.3f}" for name, reward in rewards.items()))

    seeds = range(arguments.seeds)
    missing = [seed for seed in seeds if (*what, seed) not in kept]
    if arguments.environment == "landscape":
        print(f"The best workflow earns {OPTIMUM:.3f}.")
        asyncio.run(on_landscapes(missing, arguments.tokens, keep))
    elif missing:
        asyncio.run(on_the_embedded(missing, arguments.tokens, keep, arguments.cache))
    rows = {row.seed: row.rewards for row in kept.rows if (*what, row.seed) in kept and row.key[:-1] == what}
    print(table({name: [rows[seed][name] for seed in seeds] for name in STRATEGIES}))


if __name__ == "__main__":
    sys.exit(run_command(main))
