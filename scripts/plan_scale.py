"""Say what a large run asks of everything around its GPUs, and what saturates first.

    python scripts/plan_scale.py                                   # 8, 64 and 512 GPUs
    python scripts/plan_scale.py --gpus 16 --completions 64 --step_seconds 60 --workflow_seconds 40
    python scripts/plan_scale.py --bench outputs/bench.json        # costs as this machine's `make bench` measured them

Everything printed is computed, from costs that were measured (a workflow's CPU time and bytes, a sandboxed program)
and from a step that is assumed until `make gpu-proof` has measured it. accelerate_configs/large_runs.md reads it.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_ops.errors import UsageError
from recipes.run.command import CommandParser, run_command

# Stages of scripts/bench.py.
CPU_STAGE = "CPU of a workflow of 4 calls, graded"
PROGRAM_STAGE = "sandboxed program"


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Args:
        cpu_ms (`float`): CPU time of a workflow of four calls with its grading, in this project's own process.
        program_ms (`float`): of a program in the sandbox, two at a time on two cores.
        row_bytes (`int`): of a workflow of four calls in rollouts.jsonl: 4,400 with its prompt and replies of one word,
            and 1,400 for the texts of each call.
    """

    cpu_ms: float = 20.0
    program_ms: float = 12.0
    row_bytes: int = 10_000


def _assumed(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Load:
    """What is assumed of a run; each value is a flag."""

    completions: int = _assumed(128, "completions of one GPU in a step; the H100 class has 128")
    calls: int = _assumed(4, "a workflow's calls to the executor")
    tokens: int = _assumed(800, "tokens of a call, prompt and completion")
    latency: float = _assumed(2.0, "seconds of a call")
    step_seconds: float = _assumed(45.0, "seconds of generating and training, without the workflows")
    workflow_seconds: float = _assumed(20.0, "seconds from a generation's first workflow to its last")
    programs: float = _assumed(1.5, "sandboxed programs of a workflow")
    gpus_per_node: int = _assumed(8, "GPUs of a machine")


def demand(gpus: int, load: Load, costs: Costs) -> dict[str, float]:
    """Return what so many GPUs ask for.

    Returns:
        `dict[str, float]`: by name, in the units that it says.
    """
    step = max(load.step_seconds, load.workflow_seconds)  # --rollouts_ahead 1
    rollouts, node = gpus * load.completions, min(gpus, load.gpus_per_node) * load.completions
    calls = rollouts * load.calls
    return {
        "step, --rollouts_ahead 0, s": load.step_seconds + load.workflow_seconds,
        "step, --rollouts_ahead 1, s": step,
        "rollouts a step": rollouts,
        "calls a minute": calls / step * 60,
        "million tokens a minute": calls * load.tokens / step * 60 / 1e6,
        "calls in flight, a process": load.completions * load.calls * load.latency / load.workflow_seconds,
        "cores a node for workflows": node * costs.cpu_ms / 1e3 / step,
        "cores a node for programs": node * load.programs * costs.program_ms / 1e3 / step,
        "rows gathered in each process, MB a step": rollouts * costs.row_bytes / 1e6,
        "rollouts.jsonl, GB in 500 steps": rollouts * costs.row_bytes * 500 / 1e9,
    }


def measured_costs(path: Path) -> Costs:
    """Return the costs that a bench run has, the defaults for others.

    Raises:
        UsageError: the file is none of `scripts/bench.py`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise TypeError
        stages = {stage["stage"]: float(stage["value"]) for stage in found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--bench {path} is no file of scripts/bench.py ({type(error).__name__})") from None
    costs = Costs()
    return replace(
        costs,
        cpu_ms=stages.get(CPU_STAGE, costs.cpu_ms),
        program_ms=stages.get(PROGRAM_STAGE, costs.program_ms),
    )


def table_of(gpus: Sequence[int], load: Load, costs: Costs) -> Table:
    """Return the demands side by side."""
    table = Table("", *(f"{count} GPUs" for count in gpus), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    columns = [demand(count, load, costs) for count in gpus]
    for name in columns[0]:
        table.add_row(
            name, *(f"{column[name]:,.3g}" if column[name] < 100 else f"{column[name]:,.0f}" for column in columns)
        )
    return table


def main() -> None:
    """Print the table."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512], help="sizes to compare [8 64 512]")
    parser.add_argument("--bench", type=Path, help="outputs/bench.json of this machine")
    for item in fields(Load):
        kind, told = type(item.default), f"{item.metadata['help']} [{item.default}]"
        parser.add_argument(f"--{item.name}", type=kind, default=item.default, help=told)
    arguments = parser.parse_args()
    load = Load(**{name: getattr(arguments, name) for name in vars(Load())})
    if wrong := [name for name, value in vars(load).items() if not value > 0] or [
        count for count in arguments.gpus if count < 1
    ]:
        parser.error(
            f"--{wrong[0]} must be above 0" if isinstance(wrong[0], str) else f"--gpus {wrong[0]} must be at least 1"
        )
    costs = Costs() if arguments.bench is None else measured_costs(arguments.bench)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table_of(arguments.gpus, load, costs))


if __name__ == "__main__":
    sys.exit(run_command(main))
