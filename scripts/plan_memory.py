"""Predict the GPU memory of a training run before it is started.

    python scripts/plan_memory.py --gpu t4 --model Qwen/Qwen2.5-7B-Instruct
    python scripts/plan_memory.py --gpu a100_40gb --max_completion_length 2048 --lora_r 64   # any flag of the recipe
    python scripts/plan_memory.py --all --json                                               # every GPU class
    python scripts/plan_memory.py --measure                                                  # run the phases, on a GPU

Says for each phase what is in memory, whether the peak fits, and which flags would lower it, the best first. Without a
GPU nothing is loaded: sizes come from the model's config.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipes.run.command import run_command
from recipes.settings.arguments import RecipeArguments
from recipes.settings.gpus import gpu_classes
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import parse_arguments
from scripts.planning.arithmetic import GIB, Phase
from scripts.planning.measure import Measured, measure
from scripts.planning.plan import Plan, plan

COLUMNS = ("weights", "adapter", "vLLM", "KV cache", "activations", "LM head", "dequantized", "context", "reserve")
KNOBS_SHOWN = 4
# The longest prompt of the embedded sources is 3,832 characters, about 1,000 tokens.
PROMPT_TOKENS = 1024


def parse_command_line(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return this command's flags, and the recipe's."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="Every other flag, --config included, is the recipe's: see recipes/grpo_mixed.py --help.",
    )
    parser.add_argument("--gpu", help="GPU class of recipes/configs/gpus.yaml; detected when not given")
    parser.add_argument("--model", help="the policy: Hub name or folder [the config's]")
    parser.add_argument("--all", action="store_true", help="plan for every class")
    parser.add_argument("--prompt_tokens", type=int, default=PROMPT_TOKENS, help=f"longest prompt [{PROMPT_TOKENS}]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--measure", action="store_true", help="run the phases on this GPU and print measured peaks too"
    )
    return parser.parse_known_args(argv)


def plans(own: argparse.Namespace, recipe_flags: Sequence[str]) -> list[Plan]:
    """Return the plan of the class asked for, or of all classes."""
    model = ["--model_name_or_path", own.model] if own.model else []
    one = ["--gpu", own.gpu] if own.gpu else []
    classes = [["--gpu", name] for name in gpu_classes()] if own.all else [one]
    found = []
    for gpu in classes:
        flags = [*gpu, *model, *recipe_flags]
        args = parse_arguments("grpo_mixed.yaml", "", flags, recipe_class=RecipeArguments, planning=True)
        chosen = args.layers.gpu
        found.append(plan(args.model, args.training, chosen.gpu if chosen else None, own.prompt_tokens))
    return found


def as_json(found: Sequence[Plan], measured: Measured | None) -> dict[str, Any]:
    """Return the plans as one object; sizes in GiB."""
    shape = found[0].shape
    rows = [
        {
            "gpu": item.gpu.name,
            "memory_gib": item.gpu.memory_gib,
            "fits": item.fits,
            "headroom_gib": gib(item.headroom),
            "peak": {"phase": item.peak.name, "gib": gib(item.peak.total)},
            "phases": {
                phase.name: {name: gib(size) for name, size in (*phase.parts.items(), ("total", phase.total))}
                for phase in item.phases
            },
            "knobs": [{"flags": k.flags, "peak_gib": gib(k.peak), "fits": k.fits} for k in item.knobs()],
        }
        for item in found
    ]
    result = {"model": shape.name, "sizes_from": shape.source, "parameters": shape.parameters, "plans": rows}
    if measured is not None:
        result["measured"] = {"device": measured.device, **{k: gib(v) for k, v in measured.peaks.items()}}
    return result


def gib(size: int) -> float:
    """Bytes in GiB, to a thousandth."""
    return round(size / GIB, 3)


def print_plan(item: Plan, console: Console) -> None:
    """Print one class: a row a phase, the verdict, and what to turn."""
    shape, work = item.shape, item.work
    console.print(
        f"{shape.name}: {shape.parameters / 1e9:.2f} B parameters, adapter {shape.adapter / 1e6:.1f} M "
        f"(sizes: {shape.source})\n"
        f"{item.gpu.name}, {item.gpu.memory_gib} GiB: {work.sequences} completions sampled at once, {work.micro_batch} "
        f"in an update, prompts up to {work.prompt} and completions up to {work.completion} tokens"
    )
    used = [name for name in COLUMNS if any(phase.parts.get(name) for phase in item.phases)]
    table = Table("GiB", *used, "total", box=None)
    for phase in item.phases:
        table.add_row(phase.name, *(_cell(phase, name) for name in used), f"{phase.total / GIB:.1f}")
    console.print(table)
    console.print(verdict(item))
    for knob in item.knobs()[:KNOBS_SHOWN]:
        console.print(f"  {knob.peak / GIB:5.1f} GiB {'fits' if knob.fits else '    '}  {knob.flags}")


def _cell(phase: Phase, name: str) -> str:
    size = phase.parts.get(name, 0)
    return f"{size / GIB:.1f}" if size else ""


def verdict(item: Plan) -> str:
    """Say in one line whether it fits."""
    peak = f"peak {item.peak.total / GIB:.1f} of {item.gpu.memory_gib} GiB in {item.peak.name}"
    if item.fits:
        return f"fits: {peak}, {item.headroom / GIB:.1f} GiB to spare; what would lower the peak:"
    return f"does not fit: {peak}, {-item.headroom / GIB:.1f} GiB too much; what would help, the best first:"


def print_all(found: Sequence[Plan], console: Console) -> None:
    """Print one line a class."""
    shape = found[0].shape
    console.print(f"{shape.name}: {shape.parameters / 1e9:.2f} B parameters (sizes: {shape.source})")
    names = list(dict.fromkeys(phase.name for item in found for phase in item.phases))
    table = Table("GiB", "memory", *names, "headroom", "", "lowers the peak most", box=None)
    for item in found:
        totals = {phase.name: f"{phase.total / GIB:.1f}" for phase in item.phases}
        knobs = item.knobs()
        best = Text(knobs[0].flags if knobs else "")
        table.add_row(
            item.gpu.name, f"{item.gpu.memory_gib}", *(totals.get(name, "") for name in names),
            f"{item.headroom / GIB:.1f}", "fits" if item.fits else "does not fit", best,
        )  # fmt: skip
    console.print(table)


def print_measured(measured: Measured, item: Plan, console: Console) -> None:
    """Print measured peaks beside the predicted ones."""
    predicted = {phase.name: phase.total for phase in item.phases}
    predicted["generate"] = max(predicted.pop("prefill"), predicted.pop("decode"))
    console.print(f"measured on {measured.device}:")
    for name, size in measured.peaks.items():
        console.print(f"  {name:<10} {size / GIB:6.1f} GiB, predicted {predicted[name] / GIB:.1f}")


def main(argv: Sequence[str] | None = None) -> None:
    """Plan, print, and measure when asked to."""
    quiet_libraries()
    own, recipe_flags = parse_command_line(argv)
    found = plans(own, recipe_flags)
    measured = measure(found[0]) if own.measure else None
    if own.json:
        print(json.dumps(as_json(found, measured), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    if own.all:
        print_all(found, console)
    else:
        print_plan(found[0], console)
    if measured is not None:
        print_measured(measured, found[0], console)


if __name__ == "__main__":
    sys.exit(run_command(main))
