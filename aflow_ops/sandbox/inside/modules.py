"""How modules and packages are found when the folders in which they lie cannot be listed any more.

Part of the program of `nursery.py`.
"""

import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class Listed:
    """Finds modules by a list that is made when they can be listed; one that is hidden is not installed.

    Args:
        readable (`Sequence[str]`): files and folders that programs may read.
    """

    def __init__(self, readable: Sequence[str]) -> None:
        shown = set(map(Path, readable))
        self._places: dict[str, tuple[str, list[str] | None]] = {}
        for module in pkgutil.iter_modules(sys.path):
            spec = module.module_finder.find_spec(module.name, None)
            if spec is None or spec.origin is None:
                continue
            place = Path(spec.origin)
            if not shown.isdisjoint((place, *place.parents)):
                self._places[module.name] = spec.origin, spec.submodule_search_locations

        self._packages = {_plain(path.name.partition("-")[0]): path for path in shown if path.suffix == ".dist-info"}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is; a part of a package is in that one's folder, which can be listed."""
        if path is not None:
            return PathFinder.find_spec(name, path, target)
        if name not in self._places:
            return None
        place, parts = self._places[name]
        return importlib.util.spec_from_file_location(
            name, place, submodule_search_locations=None if parts is None else list(parts)
        )

    def find_distributions(self, context: Any) -> Iterator[Any]:
        """Yield what is known of a package, such as its version; of all if none is named."""
        import importlib.metadata  # there already, but for the worker's start: it has `random` do things in each fork

        for name, path in self._packages.items():
            if context.name is None or _plain(context.name) == name:
                yield importlib.metadata.PathDistribution(path)

    def install(self) -> None:
        """Be the only one to find modules but for those in the interpreter itself."""
        sys.meta_path[:] = [BuiltinImporter, FrozenImporter, self]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
