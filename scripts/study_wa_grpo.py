"""Plain GRPO against WA-GRPO on the quickstart, at K = 2, 4 and 8 over several seeds.

    python scripts/study_wa_grpo.py                  # make bench-wa-grpo: 18 short runs, over an hour on two cores
    python scripts/study_wa_grpo.py --seeds 1 --k 8  # a part of it

Every run is the quickstart recipe itself with the same number of rollouts a step, in a process of its own, and leaves
its folder in --output; a run that is there is not repeated. Prints one table and writes it to study.md and study.json:
the share of groups without a signal (before and after the tie-break), the held-out reward before and after training,
and the share of updates after which the share of valid workflows halves.
"""

import argparse
import csv
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console

from aflow_ops.errors import InfraError
from data.files import write_atomically
from recipes.run.command import run_command

ROOT = Path(__file__).parents[1]
ARMS = {"GRPO": "false", "WA-GRPO": "true"}
COLUMNS = ("K", "method", "runs", "zero-signal groups", "after tie-break", "held-out before", "after", "gain", "halved")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 8], help="generations per problem [2 4 8]")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind [3]")
    parser.add_argument("--steps", type=int, default=30, help="updates of each run [30]")
    parser.add_argument("--rollouts", type=int, default=24, help="rollouts of each update, whatever K [24]")
    parser.add_argument("--heldout", type=int, default=30, help="held-out problems [30]")
    parser.add_argument("--output", type=Path, default=Path("outputs/study_wa_grpo"), help="folder of the runs")
    arguments = parser.parse_args()
    for k in arguments.k:
        if k < 2 or arguments.rollouts % k:
            parser.error(f"--k {k} must be at least 2 and divide --rollouts {arguments.rollouts}")
    return arguments


def run(arguments: argparse.Namespace, arm: str, k: int, seed: int) -> Path:
    """Train once, unless that was done before; returns the run's folder.

    Raises:
        InfraError: the run failed; names its log.
    """
    folder: Path = arguments.output / f"{arm.lower().replace('-', '_')}_k{k}_seed{seed}"
    if (folder / "summary.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "config": ROOT / "recipes/configs/quickstart.yaml",
        "wa_grpo": ARMS[arm],
        "num_generations": k,
        "per_device_train_batch_size": arguments.rollouts,
        "max_steps": arguments.steps,
        "num_heldout_problems": arguments.heldout,
        "baselines": "false",
        "seed": seed,
        "output_dir": folder,
    }
    flags = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    with (folder / "run.log").open("w") as log:
        command = [sys.executable, str(ROOT / "recipes/grpo_mixed.py"), *flags]
        if subprocess.run(command, stdout=log, stderr=log, check=False).returncode != 0:
            raise InfraError(f"a run of the study failed; its log is {folder / 'run.log'}")
    return folder


def measures(folder: Path) -> dict[str, float]:
    """Return what the study compares, of one run."""
    heldout = json.loads((folder / "summary.json").read_text())["heldout"]
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("workflow/valid")]
    valid = [float(row["workflow/valid"]) for row in rows]
    return {
        "zero_signal_before": fmean(float(row["wa_grpo/zero_signal_before"]) for row in rows),
        "zero_signal_after": fmean(float(row["wa_grpo/zero_signal_after"]) for row in rows),
        "before": heldout["before"],
        "after": heldout["after"],
        "gain": heldout["gain"],
        "halved": fmean(float(later <= earlier / 2) for earlier, later in itertools.pairwise(valid)),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table: means over seeds, with the standard deviation where it matters."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for k, arm in sorted({(result["k"], result["arm"]) for result in results}):
        runs = [result for result in results if (result["k"], result["arm"]) == (k, arm)]

        def mean(name: str, runs: Sequence[dict[str, Any]] = runs) -> float:
            return fmean(result[name] for result in runs)

        spread = f" ± {stdev(result['after'] for result in runs):.3f}" if len(runs) > 1 else ""
        cells = [
            str(k),
            arm,
            str(len(runs)),
            f"{mean('zero_signal_before'):.0%}",
            f"{mean('zero_signal_after'):.0%}",
            f"{mean('before'):.3f}",
            f"{mean('after'):.3f}{spread}",
            f"{mean('gain'):+.3f}",
            f"{mean('halved'):.1%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, then compare."""
    arguments = parse_arguments()
    console = Console(stderr=True)
    plan = list(itertools.product(range(1, arguments.seeds + 1), arguments.k, ARMS))
    results = []
    for number, (seed, k, arm) in enumerate(plan, start=1):
        console.print(f"run {number} of {len(plan)}: {arm}, K = {k}, seed {seed}", highlight=False)
        results.append({"arm": arm, "k": k, "seed": seed, **measures(run(arguments, arm, k, seed))})
        settings = {name: getattr(arguments, name) for name in ("steps", "rollouts", "heldout")}
        with write_atomically(arguments.output / "study.json") as file:
            file.write(json.dumps({"settings": settings, "runs": results}, indent=2) + "\n")
        with write_atomically(arguments.output / "study.md") as file:
            file.write(table(results))
    print(table(results), end="")


if __name__ == "__main__":
    sys.exit(run_command(main))
