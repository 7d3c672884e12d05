"""`agents.json`: which adapter each role of a team has, beside every adapter that a team's run saves.

    {"adapters": {"analyzer": "default", "executor": "executor", "verifier": null}}

`default` is the adapter in the folder itself, any other name that of a folder in it; `null` is a role that the base
plays as it is. Needs no torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from aflow_ops.errors import UsageError
from data.files import write_atomically

NAMES_FILE = "agents.json"
DEFAULT = "default"
# Names that have a meaning of their own in a run's folder, or to PEFT and TRL.
RESERVED = (DEFAULT, "ref", "best", "hub", "base_model", "search")

RoleAdapters = Mapping[str, str | None]


def write_role_adapters(folder: Path, names: RoleAdapters) -> None:
    """Say beside an adapter which one each role has.

    Args:
        folder (`Path`): of the adapter.
        names (`Mapping[str, str | None]`): PEFT's names, by role.
    """
    with write_atomically(folder / NAMES_FILE) as file:
        file.write(json.dumps({"adapters": dict(names)}) + "\n")


def read_role_adapters(path: Path | None) -> dict[str, str | None]:
    """Return the adapter of each role; empty where no team trained.

    Args:
        path (`Path`, *optional*): the `agents.json`.

    Raises:
        UsageError: it is there and cannot be read, or names what is no folder beside it.
    """
    if path is None or not path.is_file():
        return {}
    try:
        names: dict[str, str | None] = dict(json.loads(path.read_text(encoding="utf-8"))["adapters"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({type(error).__name__}: {error})") from None
    for name in names.values():
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            raise UsageError(f"{path}: {name!r} is no name of an adapter")
    return names


def own_adapters(names: RoleAdapters) -> list[str]:
    """Return the adapters that lie in folders of their names, in order."""
    return list(dict.fromkeys(name for name in names.values() if name not in (None, DEFAULT)))


def is_split(names: RoleAdapters) -> bool:
    """Whether it matters who speaks: not all roles have the same adapter."""
    return len(set(names.values())) > 1
