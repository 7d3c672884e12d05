"""GPU classes: the values that suit a device, by name or by looking at the device."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from aflow_ops.errors import UsageError

CLASSES_FILE = Path(__file__).parents[1] / "configs" / "gpus.yaml"
# What the recipes are written for, and what is assumed where there is no GPU to look at.
DEFAULT_CLASS = "a100_40gb"
# Drivers, ECC and firmware keep a few percent, and not the same on every host.
MEMORY_TOLERANCE = 0.08


@dataclass(frozen=True)
class GpuClass:
    """One class of `gpus.yaml`.

    Args:
        name (`str`): as `--gpu` takes it.
        device (`str`): what the driver calls such a device, as a regular expression.
        memory_gib (`float`): memory that torch reports for it, GiB; less than the data sheet's.
        values (`Mapping[str, Any]`): flags and their values.
    """

    name: str
    device: str
    memory_gib: float
    values: Mapping[str, Any]

    @property
    def needs_bf16(self) -> bool:
        """Whether its values need a device that computes in bf16 (compute capability 8.0)."""
        return bool(self.values.get("bf16", False))


@dataclass(frozen=True)
class ChosenGpu:
    """A class, and why it was chosen, for the reader of a log."""

    gpu: GpuClass
    reason: str


@cache
def gpu_classes() -> Mapping[str, GpuClass]:
    """Return every class of `gpus.yaml` by name, smallest first."""
    rows: dict[str, dict[str, Any]] = yaml.safe_load(CLASSES_FILE.read_text())
    return {name: _gpu_class(name, row) for name, row in rows.items()}


def _gpu_class(name: str, row: Mapping[str, Any]) -> GpuClass:
    device = row["device"]
    values = {flag: value for flag, value in row.items() if flag != "device"}
    return GpuClass(name, device["name"], device["memory_gib"], values)


def gpu_class(name: str) -> GpuClass:
    """Return one class.

    Raises:
        UsageError: there is no such class.
    """
    classes = gpu_classes()
    if name not in classes:
        raise UsageError(f"--gpu {name}: unknown GPU class; known: {', '.join(classes)}")
    return classes[name]


def detect_gpu() -> ChosenGpu | None:
    """Look at this process's GPU and return the class that suits it; `None` without CUDA.

    A device of no class gets the largest class whose memory it has and whose precision it computes in.
    """
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", 0)))
    memory = properties.total_memory / 2**30
    seen = f"{properties.name}, {memory:.0f} GiB"
    for candidate in gpu_classes().values():
        close = abs(memory / candidate.memory_gib - 1) <= MEMORY_TOLERANCE
        if close and re.search(candidate.device, properties.name):
            return ChosenGpu(candidate, f"detected: {seen}")
    usable = [gpu for gpu in gpu_classes().values() if properties.major >= 8 or not gpu.needs_bf16]
    fitting = [gpu for gpu in usable if gpu.memory_gib <= memory * (1 + MEMORY_TOLERANCE)]
    if not fitting:
        return ChosenGpu(usable[0], f"{seen} is smaller than any class; scripts/plan_memory.py says what would fit")
    return ChosenGpu(fitting[-1], f"{seen} is in no class; the largest that fits it")


def choose_gpu(flag: str | None, config: Mapping[str, Any]) -> ChosenGpu | None:
    """Return the class of a run: `--gpu`, else the YAML's `gpu`, else the one detected, else the default.

    A YAML that is written for a machine without a GPU (`use_cpu: true`) and names no class gets none.

    Raises:
        UsageError: the class named does not exist.
    """
    if flag is not None:
        return ChosenGpu(gpu_class(flag), "--gpu")
    if config.get("gpu") is not None:
        return ChosenGpu(gpu_class(config["gpu"]), "named in the YAML")
    if config.get("use_cpu"):
        return None
    return detect_gpu() or ChosenGpu(gpu_class(DEFAULT_CLASS), "the default: no GPU was found")
