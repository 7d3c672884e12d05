"""A model's folder that appears, or takes an earlier one's place, only when it is complete."""

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from transformers import TrainingArguments

from aflow_ops.errors import UsageError

T = TypeVar("T", bound=TrainingArguments)


def check_replaceable(output: Path) -> None:
    """Refuse an output folder that holds anything but an earlier model: the finished one takes its place.

    Raises:
        UsageError: names the folder.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not any((output / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise UsageError(
            f"--output_dir {output} exists and holds no model; it would be replaced: choose another folder"
        )


@contextmanager
def in_place_of(output: Path, training: T) -> Iterator[T]:
    """Yield the settings of a training that writes beside `output`; what it wrote is there when nothing failed.

    Args:
        output (`Path`): the model's folder.
        training (`TrainingArguments`): its settings, of which a copy has another `output_dir`.
    """
    beside = output.with_name(output.name + ".partial")
    settings = copy.copy(training)
    settings.output_dir = str(beside)
    yield settings
    if PartialState().is_main_process:
        if output.exists():
            shutil.rmtree(output)
        beside.rename(output)
