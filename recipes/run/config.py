"""`config.yaml` in a run's folder: every setting that is not a default, whichever flag, YAML or GPU class it came from.

Given back with `--config` it makes the same run.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from data.files import write_atomically

CONFIG_FILE = "config.yaml"
_REPOSITORY = Path(__file__).parents[2]
# What belongs to one start of a run and not to the run: where it is pushed or backed up, what it was resumed from.
_OF_THE_START = frozenset({"push_to_hub", "resume_from_checkpoint", "backup_url", "backup_wait_seconds", "dry_run"})
# Libraries compute these from other settings, and refuse or would override some of them when they are given.
_COMPUTED = frozenset({"accelerator_config", "generation_batch_size", "pad_to_multiple_of"})


def effective_config(*parts: Any, always: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the settings of parsed dataclasses that differ from the classes' defaults.

    Args:
        parts: instances of the argument classes, as `parse_arguments` returns them.
        always (`frozenset[str]`): settings to name even at their defaults.

    Returns:
        `dict[str, Any]`: plain values by flag, in the order of the fields.
    """
    config = {name: value for part in parts for name, value in _changed(part, always)}
    if config.get("steps_per_generation") == config.get("gradient_accumulation_steps", 1):
        config.pop("steps_per_generation", None)  # what it is when nobody sets it
    return config


def _changed(part: Any, always: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for setting in dataclasses.fields(part):
        name = setting.name
        if not setting.init or name in _OF_THE_START | _COMPUTED or name.startswith("hub_"):
            continue
        value = _plain(getattr(part, name))
        default = setting.default
        if setting.default_factory is not dataclasses.MISSING:
            default = setting.default_factory()
        if name == "report_to" and value == []:
            value = "none"  # transformers' own reading of "none" is a list without trackers
        if name == "debug" and value == []:
            value = ""
        if name in always or value != _plain(default):
            yield name, value


def _shown(script: Path) -> str:
    """The recipe as one would call it from the repository or from here; never a folder of this machine."""
    for folder in (_REPOSITORY, Path.cwd()):
        if script.is_relative_to(folder):
            return str(script.relative_to(folder))
    return script.name if script.is_absolute() else str(script)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def read_config(run_dir: Path) -> dict[str, Any] | None:
    """Return the settings that a run was started with; `None` when they are not there or cannot be read."""
    try:
        config = yaml.safe_load((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def changed_settings(before: Mapping[str, Any], *parts: Any) -> list[str]:
    """Return what differs from the settings that a run was started with, as `name old -> new`.

    Args:
        before (`Mapping[str, Any]`): from `read_config`.
        parts: as for `effective_config`.
    """
    now = yaml.safe_load(yaml.safe_dump(effective_config(*parts, always=frozenset(before))))  # as it would be read back
    return [
        f"{name} {before.get(name, 'default')} -> {value}"
        for name, value in now.items()
        if name not in before or before[name] != value
    ]


def write_config(run_dir: Path, script: str | Path, config: Mapping[str, Any]) -> None:
    """Write `config.yaml`.

    Args:
        run_dir (`Path`): the run's folder.
        script (`str` or `Path`): the recipe's file; the first line says how to run it again.
        config (`Mapping[str, Any]`): from `effective_config`.
    """
    with write_atomically(run_dir / CONFIG_FILE) as file:
        file.write(f"# accelerate launch {_shown(Path(script))} --config {CONFIG_FILE}\n")
        yaml.safe_dump(dict(config), file, sort_keys=False, allow_unicode=True)
