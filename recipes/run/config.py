"""`config.yaml` in a run's folder: every setting that is not a default, whichever flag, YAML or GPU class it came from.

Given back with `--config` it makes the same run. Every adapter that the run saves has a copy beside it, so that whoever
loads one knows its prompt and its training problems.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data.files import write_atomically
from recipes.settings.chosen import RunConfig
from recipes.settings.places import PROJECT

CONFIG_FILE = "config.yaml"


def _shown(script: Path) -> str:
    """The recipe as one would call it from the repository or from here; never a folder of this machine."""
    for folder in (PROJECT, Path.cwd()):
        if script.is_relative_to(folder):
            return str(script.relative_to(folder))
    return script.name if script.is_absolute() else str(script)


def read_config(run_dir: Path) -> dict[str, Any] | None:
    """Return the settings that a run was started with; `None` when they are not there or cannot be read."""
    try:
        config = yaml.safe_load((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def changed_settings(before: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Return what differs from the settings that a run was started with, as `name old -> new`.

    Args:
        before (`Mapping[str, Any]`): from `read_config`.
        config (`RunConfig`): what it is told now.
    """
    now = yaml.safe_load(yaml.safe_dump(config.named(frozenset(before))))  # as it would be read back
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
        config (`Mapping[str, Any]`): its settings by flag, from `RunConfig.chosen`.
    """
    with write_atomically(run_dir / CONFIG_FILE) as file:
        file.write(f"# accelerate launch {_shown(Path(script))} --config {CONFIG_FILE}\n")
        yaml.safe_dump(dict(config), file, sort_keys=False, allow_unicode=True)


def copy_config(run_dir: Path, folder: Path) -> None:
    """Put a run's `config.yaml` beside an adapter of its, where the run has one."""
    source = run_dir / CONFIG_FILE
    if source.is_file() and folder.resolve() != run_dir.resolve():
        shutil.copyfile(source, folder / CONFIG_FILE)


def place_of(name: str, folder: Path, within: str = "") -> Path | None:
    """Return where a path leads that a run was given; `None` when no such file is there.

    A relative one was meant from where the run was started, which may not be here: as a rule that is a folder above the
    run's own, so those come first, then this one and the project's.

    Args:
        name (`str`): as the run was given it.
        folder (`Path`): what the run left: its own folder, or one within.
        within (`str`): the file that tells a folder from another one of that name, such as `"config.json"`.
    """
    path = Path(name).expanduser()
    if path.is_absolute():
        return path if (path / within).is_file() else None
    found = (above / path for above in (*folder.resolve().parents, Path.cwd(), PROJECT))
    return next((place for place in found if (place / within).is_file()), None)
