"""Try the graders with generated answers: near misses that must not count as right, equivalents that must.

    python scripts/fuzz_graders.py
    python scripts/fuzz_graders.py --cases 1000 --seed 7 --domains code

For each generated gold answer it writes the same value in other notations, and values that differ in one digit, sign,
exponent, brace, letter or word; what is right is known from how the answer was made, not from a grader. It prints the
confusion table by kind and the first answers that were graded wrongly, and ends with 1 when a wrong answer counts as
right or more than 1 % of the right ones are lost. Equal seeds give equal cases.
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.progress import track
from rich.table import Table

from aflow_ops.sandbox import open_sandbox
from recipes.run.command import RUN_ERROR, CommandParser, run_command
from rewards.grading import grade_answer
from scripts.fuzzing import GENERATORS, Case, cases

MOST_LOST = 0.01
SHOWN = 20
AT_ONCE = 4


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="answers to grade [20000]")
    parser.add_argument("--seed", type=int, default=0, help="of the generators [0]")
    parser.add_argument("--domains", nargs="+", choices=sorted(GENERATORS), default=sorted(GENERATORS), help="[all]")
    arguments = parser.parse_args()
    if arguments.cases < 1:
        parser.error(f"--cases {arguments.cases} must be at least 1")
    return arguments


async def wrongly_graded(tried: Iterable[Case]) -> list[Case]:
    """Grade every case; return those with the wrong verdict.

    Raises:
        SandboxError: the sandbox failed.
    """
    wrong: list[Case] = []
    waiting = iter(tried)
    async with open_sandbox() as sandbox:

        async def grade_some() -> None:
            for case in waiting:
                if (await grade_answer(case.answer, case.problem, sandbox)).correct != case.right:
                    wrong.append(case)

        await asyncio.gather(*(grade_some() for _ in range(AT_ONCE)))
    return wrong


def show(tried: Sequence[Case], wrong: Sequence[Case], console: Console) -> bool:
    """Print the confusion table; returns whether it is good enough."""
    table = Table(title=f"{len(tried)} answers", title_justify="left")
    for column in ("kind", "wrong ones", "counted as right", "right ones", "lost"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    seen = Counter((case.kind, case.right) for case in tried)
    missed = Counter((case.kind, case.right) for case in wrong)
    for kind in sorted({case.kind for case in tried}):
        keys = (kind, False), (kind, True)
        table.add_row(kind, *(str(count[key]) for key in keys for count in (seen, missed)))
    console.print(table)
    for case in wrong[:SHOWN]:
        said = "lost" if case.right else "counted as right"
        console.print(f"{said}: {case.kind}: gold {case.problem.answer!r}, answer {case.answer!r}"[:300], markup=False)
    right, lost = (sum(case.right for case in group) for group in (tried, wrong))
    false_positives = len(wrong) - lost
    console.print(f"{false_positives} of {len(tried) - right} wrong answers counted as right; {lost} of {right} lost")
    return false_positives == 0 and lost <= MOST_LOST * right


def main() -> None:
    """Generate, grade, show; end with 1 when the graders are not good enough."""
    arguments = parse_arguments()
    tried = list(islice(cases(random.Random(arguments.seed), arguments.domains), arguments.cases))
    console = Console(stderr=True)
    wrong = asyncio.run(wrongly_graded(track(tried, "grading", console=console)))
    if not show(tried, wrong, Console()):
        sys.exit(RUN_ERROR)


if __name__ == "__main__":
    sys.exit(run_command(main))
