"""The cases of the proof: which command each is, and what is held against what comes of it."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.settings.gpus import gpu_classes

Values = Mapping[str, Any]
PYTHON = sys.executable
# Sizes of a step: of the proof, and of its miniature.
LARGE = {"batch": 32, "generations": 8, "length": 512}
SMALL = {"batch": 8, "generations": 4, "length": 24}
MODELS = ("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct")
SMALL_MODEL = "miniature"
# Largest error of a predicted peak.
TOLERANCE = 0.10


@dataclass(frozen=True)
class Case:
    """One thing to be shown, in a process of its own.

    Args:
        name (`str`): its line in the table.
        command (`Sequence[str]`): prints one JSON object last.
        needs (`Sequence[str]`): what it cannot do without: `cuda`, or a package.
        reads (`Callable`): from that object to what the table shows and the file keeps.
    """

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    reads: Callable[[Values], Values] = dict


def cases(folder: Path, gpu_gib: float | None) -> list[Case]:
    """Return all cases, in order.

    Args:
        folder (`Path`): where models and runs lie meanwhile.
        gpu_gib (`float`, *optional*): memory of this machine's GPU; without one, the cases are the miniature's.
    """
    large = gpu_gib is not None
    models = MODELS if large else (SMALL_MODEL,)
    found = [_made(model, folder) for model in models]
    for model in models:
        found += [*_memory(model, folder, gpu_gib or 0.0), *_steps(model, folder, LARGE if large else SMALL)]
    return [*found, *_once(folder, models[0])]


def model_folder(folder: Path, model: str) -> Path:
    """Where a model of random weights lies."""
    return folder / model.rpartition("/")[2]


def _made(model: str, folder: Path) -> Case:
    command = [PYTHON, "-m", "scripts.proving.step", "model", model, str(model_folder(folder, model))]
    return Case(f"{_short(model)}: random weights", command)


def _memory(model: str, folder: Path, gpu_gib: float) -> list[Case]:
    """Predicted against measured peaks, for every class whose memory this GPU has."""
    classes = {name: each for name, each in gpu_classes().items() if not gpu_gib or each.memory_gib <= gpu_gib + 1}
    place = str(model_folder(folder, model))
    return [
        Case(
            f"{_short(model)}: peaks of {name}",
            [PYTHON, "scripts/plan_memory.py", "--measure", "--json", "--gpu", name, "--model", place],
            ("cuda", *(["bitsandbytes"] if each.values.get("load_in_4bit") else [])),
            read_peaks,
        )
        for name, each in classes.items()
    ]


def read_peaks(values: Values) -> dict[str, Any]:
    """Hold measured peaks against predicted ones, phase by phase."""
    phases = {name: sizes["total"] for name, sizes in values["plans"][0]["phases"].items()}
    phases["generate"] = max(phases.pop("prefill"), phases.pop("decode"))
    measured = {name: size for name, size in values["measured"].items() if name in phases}
    errors = {name: phases[name] / size - 1 for name, size in measured.items()}
    worst = max(errors, key=lambda name: abs(errors[name]))
    return {
        "predicted_gib": {name: phases[name] for name in measured},
        "measured_gib": measured,
        "worst": f"{worst} {errors[worst]:+.1%}",
        "ok": abs(errors[worst]) <= TOLERANCE,
    }


def _steps(model: str, folder: Path, sizes: Mapping[str, int]) -> list[Case]:
    found = []
    for sampler in ("transformers", "vllm"):
        for trainer in ("plain", "0", "1"):
            told = {"model": str(model_folder(folder, model)), "sampler": sampler, "trainer": trainer, **sizes}
            name = "plain TRL" if trainer == "plain" else f"--rollouts_ahead {trainer}"
            found.append(
                Case(
                    f"{_short(model)}: a step, {sampler}, {name}",
                    [PYTHON, "-m", "scripts.proving.step", "step", json.dumps(told)],
                    ("cuda", "vllm") if sampler == "vllm" else (),
                )
            )
    return found


def _once(folder: Path, model: str) -> list[Case]:
    """What only has to work: precisions, a resume, the Hub's staging."""
    place, step = str(model_folder(folder, model)), [PYTHON, "-m", "scripts.proving.step"]
    run = folder / "resumed"
    return [
        Case("bf16: two steps of a recipe", [*step, "run", place, str(folder / "bf16"), "--bf16", "true"], ("cuda",)),
        Case(
            "4-bit base: two steps of a recipe",
            [*step, "run", place, str(folder / "quantized"), "--load_in_4bit", "--bf16", "true"],
            ("cuda", "bitsandbytes"),
        ),
        Case("resume: the same adapter", [*step, "resume", place, str(folder / "whole"), str(run)]),
        Case("staging for the Hub", [*step, "stage", str(run)]),
    ]


def _short(model: str) -> str:
    return model.rpartition("/")[2]
