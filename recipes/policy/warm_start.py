"""The warm start that a GRPO run does first, in a process of its own, when its policy needs one."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import yaml
from accelerate import PartialState

from aflow_ops.errors import UsageError
from data.corpus import CORPUS_FILE
from recipes.training.experience import trajectory_files


def ensure_policy(model: str, config: str | None, seed: int) -> None:
    """Warm-start a policy, unless the same warm start is already in its folder.

    Args:
        model (`str`): `model_name_or_path`; a folder when there is a warm start.
        config (`str`, *optional*): `warm_start_config`; nothing is done for `"none"` or without one.
        seed (`int`): of the run.
    """
    if config is None or config == "none":
        return
    state = PartialState()
    if state.is_main_process:
        warm_start(Path(config), Path(model), seed)
    state.wait_for_everyone()


def warm_start(config: Path, folder: Path, seed: int) -> None:
    """Run `recipes/sft_warmstart.py` in a process of its own, with the run's seed, and stamp its result.

    Raises:
        UsageError: the warm start failed.
    """
    inputs = config.read_bytes() + CORPUS_FILE.read_bytes() + f"seed {seed}".encode() + _trajectories(config)
    stamp, fingerprint = folder / "warm_start.sha256", hashlib.sha256(inputs).hexdigest()
    if stamp.is_file() and stamp.read_text() == fingerprint:
        print(f"policy: {folder} (cached)", file=sys.stderr)
        return
    print(f"policy: building and warm-starting {folder}", file=sys.stderr)
    command = [sys.executable, str(Path(__file__).parents[1] / "sft_warmstart.py")]
    command += ["--config", str(config), "--output_dir", str(folder), "--seed", str(seed)]
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


def _trajectories(config: Path) -> bytes:
    """What a warm start reads of trajectories; empty for one without."""
    places = (yaml.safe_load(config.read_bytes()) or {}).get("trajectories") or []
    files = [file for place in ([places] if isinstance(places, str) else places) for file in trajectory_files(place)]
    return b"".join(file.read_bytes() for file in files if file.is_file())
