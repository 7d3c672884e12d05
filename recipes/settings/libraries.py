"""How the libraries of a training behave where nobody told them."""

import os
import warnings
from pathlib import Path

import datasets
import transformers


def quiet_libraries() -> None:
    """Silence the libraries' bars and notices; warnings and errors of ours still show."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DS_ACCELERATOR", "cpu" if not _has_cuda() else "cuda")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(torch|transformers|trl|peft|accelerate|deepspeed|datasets)(\.|$)")


def _has_cuda() -> bool:
    return Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists()
