"""Where the paths of a setting lead: from here, or from the project's own folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "recipes" / "configs"


def from_here_or_project(name: str) -> Path:
    """Return the path here, or the project's of that name where there is none here and one there."""
    path = Path(name)
    return PROJECT / path if not path.exists() and (PROJECT / path).exists() else path


def anchored(values: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """Return the values of a config; those of the project's own lead to its folder, wherever they are read.

    Its paths are those of a warm start and of the policy that it makes; any other `model_name_or_path` is the Hub's.

    Args:
        values (`Mapping[str, Any]`): what the config sets.
        config (`Path`): the file.
    """
    warm_start = values.get("warm_start_config") or "none"
    own = config.resolve().is_relative_to(CONFIGS.resolve())
    if not own or warm_start == "none" or Path.cwd() == PROJECT:
        return dict(values)
    paths = {name: str(PROJECT / values[name]) for name in ("warm_start_config", "model_name_or_path")}
    return {**values, **paths}
