"""Objects of a user's own by where they are: `package.module:name`, `folder/file.py:name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from aflow_ops.errors import UsageError


def named_object(where: str) -> Any:
    """Import what a dotted path or a file names. Its code runs, as with any import: name only what you trust.

    Args:
        where (`str`): `package.module:name`, `folder/file.py:name`, or either without `:name` for the module.

    Returns:
        `Any`: the object, or the module.

    Raises:
        UsageError: no such module, file or name. What the module's own code raises is raised as it is.

    Example:

        >>> named_object("math:sqrt")(9.0)
        3.0
    """
    place, _, name = where.partition(":")
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    if not name:
        return module
    if not hasattr(module, name):
        raise UsageError(f"{where}: {place} has no {name!r}")
    return getattr(module, name)


def _module(path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise UsageError(
            f"{path}: no module {error.name!r}; install its package, or name the file: folder/file.py"
        ) from None
    except (ValueError, TypeError):  # an empty part between dots
        raise UsageError(f"{path!r} is no module's name") from None


def _module_of_file(path: Path) -> ModuleType:
    """Import a file as a module, once; the program that runs is its own module."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    path = path.resolve()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).resolve() == path:
            return module
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_{len(sys.modules)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path  # a suffix of .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
