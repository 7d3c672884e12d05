"""Show on a GPU what can only be shown there: `make gpu-proof`; one JSON file, one table.

    python scripts/gpu_proof.py                    # on the GPU, else in miniature on the CPU
    python scripts/gpu_proof.py --miniature        # here too
    python scripts/gpu_proof.py --only 7B          # cases whose name has it

Models have random weights in the exact architecture, so nothing is downloaded: predicted against measured peaks of
every GPU class that the card has the memory of (within 10 %); the time of a step and tokens a second at 1.5B and 7B,
with transformers and with vLLM, of TRL's plain trainer and of ours with --rollouts_ahead 0 and 1 against an endpoint
that takes 2 s a workflow; bf16, 4-bit, a resume and the Hub's staging once each. A case that cannot run here says what
it needs. Exit code 1 if one that can run fails.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_ops.errors import InfraError
from data.files import write_atomically
from recipes.run.command import CommandParser, run_command
from scripts.proving.cases import Case, cases

ROOT = Path(__file__).parents[1]
# Longest that one case may take, seconds.
CASE_SECONDS = 1800


def device() -> tuple[str, float] | None:
    """Return the GPU's name and its memory in GiB, or `None`."""
    # torch takes seconds to import
    import torch

    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / 2**30


def missing(case: Case, *, cuda: bool) -> str | None:
    """Return what a case needs and this machine lacks."""
    return next((need for need in case.needs if not (cuda if need == "cuda" else find_spec(need))), None)


def outcome(case: Case) -> dict[str, Any]:
    """Run a case; what it printed last, or why it failed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    try:
        done = subprocess.run(
            [*case.command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=CASE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"not done after {CASE_SECONDS} s"}
    wall = {"wall_seconds": round(time.monotonic() - start, 1)}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"ok": False, "error": lines[-1][:300] if lines else f"exit code {done.returncode}", **wall}
    text = done.stdout if done.stdout.lstrip().startswith("{\n") else done.stdout.splitlines()[-1]
    return {**case.reads(json.loads(text)), **wall}


def shown(row: dict[str, Any]) -> str:
    """Say a case's values in one line."""
    if "needs" in row:
        return f"not here: needs {row['needs']}"
    hidden = ("name", "ok", "wall_seconds", "predicted_gib", "measured_gib")
    return ", ".join(f"{name} {value}" for name, value in row.items() if name not in hidden)


def main() -> None:
    """Run the cases, write the file, print the table.

    Raises:
        InfraError: a case failed.
    """
    parser = CommandParser(description=__doc__)
    parser.add_argument("--miniature", action="store_true", help="small models, as on a machine without a GPU")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/gpu_proof.json"), help="file [outputs/gpu_proof.json]"
    )
    arguments = parser.parse_args()
    found = None if arguments.miniature else device()
    name, gib = found or ("CPU, in miniature", None)
    console, rows = Console(), []
    table = Table("", "case", "values", "seconds", title=name, title_justify="left")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder), gib):
            if arguments.only not in case.name and "random weights" not in case.name:
                continue
            lacking = missing(case, cuda=gib is not None)
            with console.status(case.name):
                row = {"name": case.name, **({"needs": lacking} if lacking else outcome(case))}
            rows.append(row)
            mark = "-" if lacking else "ok" if row["ok"] else "FAILED"
            table.add_row(mark, case.name, shown(row), str(row.get("wall_seconds", "")))
            with write_atomically(arguments.output) as file:
                file.write(json.dumps({"device": name, "cases": rows}, indent=2) + "\n")
    console.print(table)
    if failed := [row["name"] for row in rows if not row.get("ok", True)]:
        raise InfraError(f"{len(failed)} of {len(rows)} cases failed: {', '.join(failed)}; see {arguments.output}")


if __name__ == "__main__":
    sys.exit(run_command(main))
