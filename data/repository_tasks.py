"""Tasks on a repository: an issue, the code before it was mended, and the tests that say whether it is.

Example, as it stands in a row's `extra.repository` (a small package of `data/planted_bugs.py`):

    {"files": {"shop/stock.py": "def total(items): ...", "shop/__init__.py": ""},
     "test_files": {"tests/test_stock.py": "from shop.stock import total\\n\\ndef test_total(): ..."},
     "fail_to_pass": ["tests/test_stock.py::test_total"], "pass_to_pass": ["tests/test_stock.py::test_empty"]}

A row of SWE-bench or R2E-Gym has no files: its repository is in a container image, `image`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from data.problem import DataError, Problem

MAX_PATH_CHARS = 240
MAX_FILE_CHARS = 1 << 20
MAX_SNAPSHOT_CHARS = 16 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\\]")
# What decides how tests run, or runs before them.
_RUNNERS = frozenset(
    {"conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg"}
    | {"pyproject.toml", "noxfile.py", "sitecustomize.py", "usercustomize.py", "run_tests.sh", "runtests.py"}
    | {"pytest.py", "_pytest.py", ".gitattributes"}
)
# At the top of a repository these stand before the installed package of that name.
_RUNNER_PACKAGES = frozenset({"pytest", "_pytest", "pluggy", "sitecustomize", "usercustomize"})
# What some images have beside the code: the reference change, and what its tests came to (R2E-Gym).
_ANSWERS = frozenset(
    {"parsed_commit.json", "modified_files.json", "modified_entities.json", "syn_issue.json"}
    | {"expected_test_output.json", "execution_result.json"}
)
_CHANGED = re.compile(r"^diff --git a/.+ b/(.+)$|^\+\+\+ b/([^\t\n]+)", re.MULTILINE)


def checked_path(path: object) -> str:
    """Return the path of a file in a repository.

    Args:
        path (`object`): relative to the repository, with `/`.

    Raises:
        ValueError: it is none, leaves the repository, or is part of its history.
    """
    if not isinstance(path, str) or not path.strip():
        raise ValueError(f"a path must be text, not {path!r}")
    shown = repr(path[:80])
    if len(path) > MAX_PATH_CHARS or _CONTROL.search(path):
        raise ValueError(f"{shown} is no path of a repository")
    parts = path.split("/")
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{shown} leaves the repository")
    if any(part.lower() == ".git" for part in parts):
        raise ValueError(f"{shown} is part of the repository's history")
    return path


def is_test(path: str) -> bool:
    """Whether a file is a test, or decides how tests are run."""
    pure = PurePosixPath(path.lower())
    folders, name = pure.parts[:-1], pure.name
    if any(folder == "tests" or folder.endswith("_tests") for folder in folders) or folders[:1] == ("test",):
        return True
    if name in _RUNNERS or name.endswith(".pth") or _RUNNER_PACKAGES & set(folders[:1]):
        return True
    return name.startswith("test_") or name.endswith("_test.py") or name in ("test.py", "tests.py")


def is_hidden(path: str) -> bool:
    """Whether no agent may be shown a file: a test, what runs tests, or the answer that some images have beside it."""
    return is_test(path) or path.lower() in _ANSWERS


@dataclass(frozen=True)
class RepositoryTask:
    """A repository with an issue.

    Args:
        issue (`str`): what is wrong, in words. Agents see it.
        files (`Mapping[str, str]`): path to text, before the change. Agents see them.
        test_files (`Mapping[str, str]`): path to text, hidden, laid over the repository when tests run.
        fail_to_pass (`tuple[str, ...]`): hidden tests that the change must mend, as `tests/test_x.py::test_name`.
        pass_to_pass (`tuple[str, ...]`): hidden tests that must go on passing.
        patch (`str`): the reference change, a unified diff; may be empty.
        image (`str`, *optional*): container image that has the repository.
        test_patch (`str`): a unified diff that brings the hidden tests into the image's repository.
        test_command (`str`): runs the tests there; files of tests are put behind it.
        folder (`str`): of the repository in the image.
        all_or_nothing (`bool`): which tests failed before is not known, so that only all of them together tell.
    """

    issue: str
    files: Mapping[str, str] = field(default_factory=dict)
    test_files: Mapping[str, str] = field(default_factory=dict)
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    patch: str = ""
    image: str | None = None
    test_patch: str = ""
    test_command: str = "python -m pytest -rA -p no:cacheprovider"
    folder: str = "/testbed"
    all_or_nothing: bool = False

    @property
    def tests(self) -> tuple[str, ...]:
        """Every hidden test, those to mend first."""
        return (*self.fail_to_pass, *self.pass_to_pass)

    @property
    def protected(self) -> frozenset[str]:
        """Files that the hidden tests are laid over, or that their command names: no edit may touch them."""
        changed = {path for found in _CHANGED.findall(self.test_patch) for path in found if path}
        named = {word.removeprefix("./") for word in self.test_command.split() if "/" in word}
        return frozenset({*self.test_files, *changed, *named})

    def extra(self) -> dict[str, Any]:
        """Return the JSON form, for a row's `extra`; `repository_task` reads it back."""
        row = {
            "files": dict(self.files),
            "test_files": dict(self.test_files),
            "fail_to_pass": list(self.fail_to_pass),
            "pass_to_pass": list(self.pass_to_pass),
            "image": self.image,
            "test_patch": self.test_patch,
            "test_command": self.test_command,
            "folder": self.folder,
            "all_or_nothing": self.all_or_nothing,
        }
        usual = RepositoryTask("").__dict__
        return {"repository": {key: value for key, value in row.items() if value and value != usual[key]}}


def repository_task(problem: Problem) -> RepositoryTask:
    """Read a problem's repository.

    Raises:
        DataError: it has none, a path leaves it, or there are no tests.
    """
    row = problem.extra.get("repository")
    if not isinstance(row, dict):
        raise DataError(f"problem {problem.id} of {problem.source!r} has no repository")
    try:
        task = RepositoryTask(
            issue=problem.question,
            files=checked_files(row.get("files", {})),
            test_files=checked_files(row.get("test_files", {})),
            fail_to_pass=_names(row, "fail_to_pass"),
            pass_to_pass=_names(row, "pass_to_pass"),
            patch=problem.answer,
            all_or_nothing=bool(row.get("all_or_nothing")),
            **{key: str(row[key]) for key in ("image", "test_patch", "test_command", "folder") if row.get(key)},
        )
    except ValueError as error:
        raise DataError(f"problem {problem.id}: {error}") from None
    if not task.fail_to_pass:
        raise DataError(f"problem {problem.id}: no test fails before the change (fail_to_pass)")
    if not task.files and not task.image:
        raise DataError(f"problem {problem.id}: neither files nor a container image")
    return task


def checked_files(files: object) -> dict[str, str]:
    """Return the files of a snapshot.

    Raises:
        ValueError: it is no object of texts, a path leaves it, or it is too large.
    """
    if not isinstance(files, Mapping):
        raise ValueError("files must be an object from path to text")
    found = {}
    for path, text in files.items():
        if not isinstance(text, str) or len(text) > MAX_FILE_CHARS:
            raise ValueError(f"{path!r} must be text of at most {MAX_FILE_CHARS} characters")
        found[checked_path(path)] = text
    if sum(map(len, found.values())) > MAX_SNAPSHOT_CHARS:
        raise ValueError(f"the files have more than {MAX_SNAPSHOT_CHARS} characters together")
    return found


def unified_diff(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return what changed as a unified diff that `git apply` and `parse_edits` read."""
    parts: list[str] = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
        lines = difflib.unified_diff(_lines(old), _lines(new), *names)
        parts.append("".join(lines))
    return "".join(parts)


def _lines(text: str | None) -> list[str]:
    if not text:
        return []
    return [line + "\n" for line in text.removesuffix("\n").split("\n")]  # not at form feeds, as `splitlines` would


def _names(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = row.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{key} must be a list of tests")
    return tuple(names)
