"""The warm start that a GRPO run does first, in a process of its own, when its policy needs one."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from aflow_ops.errors import UsageError
from data.corpus import CORPUS_FILE
from recipes.settings.places import from_here_or_project
from recipes.training.experience import trajectory_files


def ensure_policy(
    model: str,
    config: str | None,
    seed: int,
    operators: Sequence[str] = (),
    *,
    script: str = "sft_warmstart.py",
    made_of: Sequence[Path] = (),
) -> None:
    """Warm-start a policy, unless the same warm start is already in its folder.

    Args:
        model (`str`): `model_name_or_path`; a folder when there is a warm start.
        config (`str`, *optional*): `warm_start_config`; nothing is done for `"none"` or without one.
        seed (`int`): of the run.
        operators (`Sequence[str]`): `--operators` of the run, which the warm start's prompts are to name too.
        script (`str`): file of `recipes/` that does it.
        made_of (`Sequence[Path]`): files that decide its result too.
    """
    if config is None or config == "none":
        return
    state = PartialState()
    if state.is_main_process:
        warm_start(from_here_or_project(config), Path(model), seed, operators, script, made_of)
    state.wait_for_everyone()


def warm_start(
    config: Path,
    folder: Path,
    seed: int,
    operators: Sequence[str],
    script: str = "sft_warmstart.py",
    made_of: Sequence[Path] = (),
) -> None:
    """Run `recipes/sft_warmstart.py` or its like in a process of its own, with the run's seed, and stamp its result.

    Raises:
        UsageError: the warm start failed.
    """
    stamp, fingerprint = folder / "warm_start.sha256", fingerprint_of(config, seed, operators, made_of)
    if stamp.is_file() and stamp.read_text() == fingerprint:
        print(f"policy: {folder} (cached)", file=sys.stderr)
        return
    print(f"policy: building and warm-starting {folder}", file=sys.stderr)
    command = [sys.executable, str(Path(__file__).parents[1] / script)]
    command += ["--config", str(config), "--output_dir", str(folder), "--seed", str(seed)]
    command += ["--operators", *operators] if operators else []
    launcher = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_",
        "ACCELERATE_",
        "OPENAI_",
        "TORCHELASTIC_",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(launcher)}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise UsageError(f"the warm start with {config} failed; its message is above")
    stamp.write_text(fingerprint)


def fingerprint_of(config: Path, seed: int, operators: Sequence[str], made_of: Sequence[Path] = ()) -> str:
    """Return a digest of what decides a warm start: its settings, its workflows, the seed and further operators."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    trajectories = [file for place in _listed(settings, "trajectories") for file in trajectory_files(place)]
    files = [config, CORPUS_FILE, *map(from_here_or_project, _listed(settings, "corpus")), *trajectories, *made_of]
    inputs = b"".join(file.read_bytes() for file in files if file.is_file()) + f"seed {seed}".encode()
    return hashlib.sha256(inputs + "".join(f" {name}" for name in operators).encode()).hexdigest()


def _listed(settings: Mapping[str, Any], name: str) -> list[str]:
    value = settings.get(name) or []
    return [value] if isinstance(value, str) else list(value)
