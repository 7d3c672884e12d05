"""Search for workflows: AFlow's Monte Carlo tree search, for a set of problems or for every problem by itself.

    python scripts/search.py --data arithmetic --proposer grammar --executor local --output outputs/search/arithmetic
    python scripts/search.py --data gsm8k --proposer openai --optimizer_model gpt-4o --search_rounds 20 --parallel 4 \\
        --validation_problems 64 --validation_rounds 3 --output outputs/search/gsm8k
    python scripts/search.py --data aime24 --per_problem --proposer openai --search_rounds 5 --output outputs/aime

Every round proposes one modification of a workflow found before, checks it, runs it on the validation problems and
keeps it in nodes.jsonl. `--proposer grammar` needs no LLM; `openai` asks any OpenAI-compatible endpoint, with the key
in OPTIMIZER_API_KEY, else OPENAI_API_KEY; `policy` asks a policy, behind such an endpoint or run here. The result is
best/graph.py and best/prompt.py in AFlow's form, summary.json with the held-out reward of what was found beside that of
its controls, and trajectories.jsonl for training. A search that was stopped goes on when it is given the same
arguments. On several machines: --per_problem with --shard 1/8 to 8/8, each with an --output of its own, then the same
flags with --merge of these folders, which gives what one run would have.
"""

import argparse
import asyncio
import keyword
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_ops.executor import check_executor, executor_argument_group, executor_config_from
from aflow_ops.operators import load_operators, operator_argument
from aflow_ops.policy_prompt import PROMPT_STYLES
from aflow_ops.search.llm import MAX_TOKENS
from aflow_ops.search.select import STRATEGIES
from data.files import claimed
from recipes.run.command import CommandParser, run_command
from scripts.evaluating.shards import Shard
from scripts.searching.command import SearchCommand
from scripts.searching.problems import HELDOUT, VALIDATION, read_slices
from scripts.searching.proposers import PROPOSERS, ProposerSettings, check_proposer
from scripts.searching.results import show
from scripts.searching.roots import read_operators, read_roots


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        words (`Sequence[str]`, *optional*): its words; those of this process by default.
    """
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("--data", nargs="+", required=True, help="sources of problems: names of the registry, or JSONL files")
    add("--per_problem", action="store_true", help="a search for every problem by itself, with pass@k over rounds")
    add("--shard", type=Shard.parsed, metavar="K/N", help="with --per_problem: only this part of them, e.g. 3/8")
    add("--merge", type=Path, nargs="+", metavar="DIR", help="put the folders of all shards together; with the flags "
        "that they were made with")  # fmt: skip
    add("--validation_problems", type=int, help="problems to choose by; with --per_problem: to solve "
        f"[{VALIDATION}, or all if there are fewer]")  # fmt: skip
    add("--validation_rounds", type=int, default=1, help="runs of each problem; their spread is used [1]")
    add("--final_problems", type=int, default=0, help="further ones, to choose by among the best at the end [0]")
    add(
        "--heldout_problems", type=int, help=f"problems to report on, 0 for none [{HELDOUT}, or all if there are fewer]"
    )
    add("--search_rounds", type=int, default=20, help="proposals in all, for each problem with --per_problem [20]")
    add("--parallel", type=int, default=4, help="proposals at a time [4]")
    add("--selection", choices=STRATEGIES, default="aflow", help="which workflow is modified next [aflow]")
    add("--sample", type=int, default=4, help="workflows that AFlow's selection draws from, the root included [4]")
    add("--halving", action=argparse.BooleanOptionalAction, default=True, help="give poor workflows up early [on]")
    add("--objective", choices=("reward", "correct"), default="reward", help="what is maximised [reward]")
    add(
        "--price_per_usd",
        type=float,
        default=0.0,
        help="what a workflow loses of it for each dollar that a problem costs [0]",
    )
    add("--convergence_z", type=float, help="stop when the best three rounds move by at most z standard errors for "
        "five rounds; AFlow's own check is 0 [never]")  # fmt: skip
    add("--seed", type=int, default=0, help="of problems and choices [0]")
    start = parser.add_argument_group("start and end")
    start.add_argument(
        "--root", type=Path, nargs="+", default=[], help="workflow files to start from [one Custom call]"
    )
    start.add_argument("--operator_roots", action="store_true", help="start from the least workflow around each "
        "operator too, in a race")  # fmt: skip
    start.add_argument("--import_aflow", type=Path, help="a `workflows` folder of AFlow's: its rounds are the "
        "roots, and its template's operators the ones that are proposed")  # fmt: skip
    start.add_argument("--export_aflow", type=Path, help="write all rounds there, in AFlow's layout")
    start.add_argument(
        "--aflow_dataset", default="SEARCH", help="the data set's name in exported import paths [SEARCH]"
    )
    start.add_argument("--controls", action=argparse.BooleanOptionalAction, default=True,
                       help="run what the search has to beat on the held-out problems too [on]")  # fmt: skip
    proposer_argument_group(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder of the search")
    parser.add_argument("--workflow_timeout", type=float, default=180.0, help="seconds for one workflow [180]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run solution code with rlimits only")
    operator_argument(parser)
    executor_argument_group(parser)
    arguments = parser.parse_args(words)
    check_numbers(parser, arguments)
    return arguments


def proposer_argument_group(parser: argparse.ArgumentParser) -> None:
    """Add the flags of who modifies workflows."""
    proposer = parser.add_argument_group("proposer", "who modifies workflows; its key: OPTIMIZER_API_KEY")
    proposer.add_argument("--proposer", choices=PROPOSERS, default="grammar", help="[grammar, which needs no LLM]")
    proposer.add_argument("--optimizer_model", default="gpt-4o", help="model that proposes [gpt-4o]")
    proposer.add_argument("--optimizer_base_url", help="its endpoint; a policy without one is run here")
    proposer.add_argument("--optimizer_adapter", help="of a policy: folder or Hub name of its adapter")
    proposer.add_argument("--optimizer_form", choices=("edit", "design"), default="edit", help="how a policy is asked: "
        "to modify a workflow, or for a design, with its own prompt [edit]")  # fmt: skip
    proposer.add_argument("--prompt_style", choices=PROMPT_STYLES, help="of that prompt [as it was trained, or full]")
    proposer.add_argument("--optimizer_budget_usd", type=float, default=0.0, help="its budget, 0 for no limit [0]")
    proposer.add_argument("--optimizer_price", type=float, nargs=2, metavar=("IN", "OUT"),
                          help="USD per million tokens, where prices.yaml does not have the model")  # fmt: skip
    proposer.add_argument("--optimizer_temperature", type=float, default=0.7, help="of its sampling [0.7]")
    proposer.add_argument("--optimizer_top_p", type=float, default=1.0, help="of a policy that is run here [1]")
    proposer.add_argument("--optimizer_max_tokens", type=int, default=MAX_TOKENS, help=f"of a reply [{MAX_TOKENS}]")


def check_numbers(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse numbers out of range, each by its flag."""
    least = {
        "validation_problems": 1, "validation_rounds": 1, "final_problems": 0, "heldout_problems": 0,
        "search_rounds": 0, "parallel": 1, "sample": 1, "seed": 0, "price_per_usd": 0, "optimizer_budget_usd": 0,
        "optimizer_temperature": 0, "optimizer_max_tokens": 1,
    }  # fmt: skip
    for name, smallest in least.items():
        value = getattr(arguments, name)
        if value is not None and not value >= smallest:  # nan too
            parser.error(f"--{name} {value} must be at least {smallest}")
    if not arguments.workflow_timeout > 0:
        parser.error(f"--workflow_timeout {arguments.workflow_timeout} must be above 0")
    if not 0 < arguments.optimizer_top_p <= 1:
        parser.error(f"--optimizer_top_p {arguments.optimizer_top_p} must be above 0, and 1 at most")
    if arguments.optimizer_adapter and not ProposerSettings.of(arguments).runs_here:
        parser.error("--optimizer_adapter is for a policy that is run here; a server has a name for each adapter")
    if arguments.convergence_z is not None and not 0 <= arguments.convergence_z < math.inf:
        parser.error(f"--convergence_z {arguments.convergence_z} must be at least 0; leave it out to go on to the end")
    if (arguments.shard or arguments.merge) and not arguments.per_problem:
        parser.error("--shard and --merge need --per_problem: one search is not cut into parts")
    for name in ("final_problems", "heldout_problems"):
        if arguments.per_problem and getattr(arguments, name):
            parser.error(f"--{name} is for one search for all: with --per_problem each problem is searched for itself, "
                         "and none is held out; say how many with --validation_problems")  # fmt: skip
    if arguments.shard and arguments.merge:
        parser.error("--merge puts shards together: leave out --shard")
    if arguments.root and arguments.import_aflow:
        parser.error("give either --root or --import_aflow")
    check_aflow(parser, arguments)


def check_aflow(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse what could not be written for AFlow in the end."""
    name, folder = arguments.aflow_dataset, arguments.export_aflow
    if not name.isidentifier() or keyword.iskeyword(name):
        parser.error(f"--aflow_dataset {name!r} is no name for a Python module, such as MATH")
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        parser.error(f"--export_aflow {folder} is a file; it takes a folder")
    given = arguments.import_aflow
    if given is not None and folder.resolve() in (given.resolve(), (given / "workflows").resolve()):
        parser.error(f"--export_aflow {folder} is what --import_aflow reads, again on a resume; take another folder")


def command_of(arguments: argparse.Namespace, shown: Callable[[Mapping[str, Any], Path], None] = show) -> SearchCommand:
    """Read the problems and what the search starts from.

    Args:
        arguments (`argparse.Namespace`): the command line.
        shown (`Callable[[Mapping, Path], None]`): is given the summary and the folder at the end.
    """
    load_operators(arguments.operators)
    slices = read_slices(
        arguments.data,
        arguments.validation_problems,
        0 if arguments.per_problem else arguments.heldout_problems,
        arguments.seed,
        arguments.final_problems,
    )
    if arguments.validation_problems is None:
        arguments.validation_problems = len(slices.validation)
    if arguments.convergence_z and arguments.validation_rounds < 2:
        print(
            f"warning: --convergence_z {arguments.convergence_z:g} is as 0 with --validation_rounds 1: one run of each "
            "problem has no spread between repeats",
            file=sys.stderr,
        )
    roots = read_roots(arguments.root, arguments.import_aflow)
    template = read_operators(arguments.import_aflow)
    return SearchCommand(arguments, executor_config_from(arguments), slices, roots, shown, template)


def search(arguments: argparse.Namespace) -> None:
    """Search, run the controls, write the results."""
    command = command_of(arguments)
    if arguments.merge:
        with claimed(arguments.output):
            command.merge(arguments.merge)
        return
    asyncio.run(check_executor(command.config))
    asyncio.run(check_proposer(command.proposer, command.config))
    with claimed(arguments.output):
        asyncio.run(command.run())


def main() -> None:
    """Run the command line."""
    search(parse_arguments())


if __name__ == "__main__":
    sys.exit(run_command(main))
