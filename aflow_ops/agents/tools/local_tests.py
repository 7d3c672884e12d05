"""Runs a small repository's tests in the sandbox, apart from the code that they test.

The repository's modules are loaded in the confined process of the examiner (`aflow_ops/examiner`), from memory; the
test functions run in another one that has the verdict, with stand-ins for what they import from the repository. So a
patch can neither see the tests nor touch what runs them, whatever its modules do when they are imported.

That takes repositories of plain Python whose tests are functions without arguments that import functions and classes
by name and compare plain values; `pytest.raises` and `pytest.approx` are there. Everything else is for the container
backend (`docker_tests.py`).
"""

import ast
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec

from aflow_ops.agents.tools.repository_tests import TestReport
from aflow_ops.examiner import run_tests
from aflow_ops.sandbox import Sandbox
from data.repository_tasks import RepositoryTask

ENTRY_POINT = "repository_is_loaded"
# For all test files together; once a test has failed, the others get no more than this in all: code that hangs costs
# whoever wrote it, not the episode its time.
TOTAL_SECONDS = 60.0
TOTAL_SECONDS_ONCE_FAILED = 30.0
_ROOTS = ("", "src/")

_LOADER = """\
import importlib as _importlib
import importlib.abc as _abc
import importlib.util as _util
import sys as _sys

_FILES = {files!r}

class _Repository(_abc.MetaPathFinder, _abc.Loader):
    def find_spec(self, name, path=None, target=None):
        for root in {roots!r}:
            base = root + name.replace(".", "/")
            for file, package in ((base + "/__init__.py", True), (base + ".py", False)):
                if file in _FILES:
                    return _util.spec_from_loader(name, self, origin=file, is_package=package)
            if any(file.startswith(base + "/") and file.endswith(".py") for file in _FILES):
                return _util.spec_from_loader(name, self, origin="", is_package=True)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        file = module.__spec__.origin
        exec(compile(_FILES.get(file, ""), file or "<package>", "exec", dont_inherit=True), module.__dict__)

_sys.meta_path.insert(0, _Repository())

def {entry_point}():
    return True

"""
# What tests of the plain kind use of pytest.
_PYTEST = """\
class pytest:
    class raises:
        def __init__(self, expected, match=None):
            self.expected, self.match, self.value = expected, match, None

        def __enter__(self):
            return self

        def __exit__(self, kind, error, traceback):
            if kind is None:
                raise AssertionError(f"did not raise {self.expected}")
            if not issubclass(kind, self.expected):
                return False
            import re
            if self.match is not None and not re.search(self.match, str(error)):
                raise AssertionError(f"raised {error}, which does not match {self.match}")
            self.value = error
            return True

    class approx:
        def __init__(self, expected, rel=1e-6, abs=1e-12):
            self.expected, self.rel, self.abs = expected, rel, abs

        def __eq__(self, other):
            import math
            return math.isclose(other, self.expected, rel_tol=self.rel, abs_tol=self.abs)
"""


class UnsupportedTestError(ValueError):
    """A test that only a container can run; says why."""


class LocalTests:
    """Runs tests in the sandbox; see `RepositoryTests`.

    Args:
        sandbox (`Sandbox`): an open one.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def files(self, task: RepositoryTask, paths: Sequence[str]) -> dict[str, str]:
        """Return files of the snapshot."""
        return {path: task.files[path] for path in paths if path in task.files}

    async def run(
        self,
        task: RepositoryTask,
        files: Mapping[str, str],
        names: Sequence[str],
        before: Mapping[str, str] | None = None,
    ) -> TestReport:
        """Run tests against files; one that cannot run here, or for which no time is left, failed, with the reason."""
        passed: dict[str, bool] = dict.fromkeys(names, False)
        error: str | None = None
        start = time.monotonic()
        packages = _packages(files, task.files if before is None else before)
        for path in dict.fromkeys(name.partition("::")[0] for name in names):
            asked = [name for name in names if name.partition("::")[0] == path]
            try:
                snippets, imports = test_snippets(
                    task.test_files.get(path, ""), tuple(name.partition("::")[2] for name in asked), packages
                )
            except UnsupportedTestError as why:
                error = error or f"{path}: {why}"
                continue
            left = (TOTAL_SECONDS if error is None else TOTAL_SECONDS_ONCE_FAILED) - (time.monotonic() - start)
            if left <= 0:
                break
            report = await run_tests(
                repository_program(files, imports),
                ENTRY_POINT,
                snippets,
                self._sandbox.run,
                given=_PYTEST,
                total=left,
            )
            passed.update(zip(asked, report.passed, strict=False))
            error = error or report.error
        return TestReport(passed, error)


def repository_program(files: Mapping[str, str], imports: Sequence[tuple[str, str, str]]) -> str:
    """Return a program that has a repository's modules in memory and binds what tests import of it.

    Args:
        files (`Mapping[str, str]`): path to text; only Python counts.
        imports (`Sequence[tuple[str, str, str]]`): module, name there, name in the test.
    """
    python = {path: text for path, text in files.items() if path.endswith(".py")}
    lines = [
        f"{bound} = _importlib.import_module({module!r}).{name}"
        for module, name, alias in imports
        for bound in dict.fromkeys((alias, name))  # errors are known by their own names
    ]
    return _LOADER.format(files=python, roots=_ROOTS, entry_point=ENTRY_POINT) + "\n".join(lines) + "\n"


def _packages(files: Mapping[str, str], before: Mapping[str, str]) -> tuple[str, ...]:
    """The top-level names that a repository's modules have.

    A module that an edit makes is the repository's only where nothing else has its name: tests that import `isclose`
    from `math` mean that of Python.
    """
    known, now = _top_names(before), _top_names(files)
    return tuple(sorted(name for name in now if name in known or not _is_installed(name)))


def _is_installed(name: str) -> bool:
    try:
        return name.isidentifier() and find_spec(name) is not None
    except ValueError:  # `__main__`, and what else is there without having been imported
        return True


def _top_names(files: Iterable[str]) -> set[str]:
    return {
        path.removeprefix(root).partition("/")[0].removesuffix(".py")
        for path in files
        for root in _ROOTS
        if path.endswith(".py") and path.startswith(root)
    }


@lru_cache(maxsize=256)
def test_snippets(
    source: str, functions: tuple[str, ...], packages: tuple[str, ...]
) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Return one snippet a test function, and what the file imports from the repository.

    Args:
        source (`str`): of the test file.
        functions (`tuple[str, ...]`): names of its tests.
        packages (`tuple[str, ...]`): top-level names of the repository's modules.

    Raises:
        UnsupportedTestError: the file does not parse, or has what only a container can run.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnsupportedTestError(f"does not parse: {error}") from None
    imports: list[tuple[str, str, str]] = []
    kept: list[ast.stmt] = []
    tests: dict[str, ast.FunctionDef] = {}
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept += _imported(node, packages, imports)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            tests[node.name] = node
        else:
            kept.append(node)
    snippets = []
    for name in functions:
        if name not in tests:
            raise UnsupportedTestError(f"has no test function {name}")
        node = tests[name]
        if node.decorator_list or node.args.args or node.args.kwonlyargs:
            raise UnsupportedTestError(f"{name} has fixtures or parameters: use --swe_backend docker")
        call = ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], []))
        module = ast.fix_missing_locations(ast.Module([*kept, node, call], []))
        snippets.append(ast.unparse(module))
    return snippets, imports


def _imported(
    node: ast.Import | ast.ImportFrom, packages: Sequence[str], imports: list[tuple[str, str, str]]
) -> list[ast.stmt]:
    """Note what is imported from the repository; return what the test itself has to import."""
    if isinstance(node, ast.Import):
        tops = {alias.name.partition(".")[0] for alias in node.names}
        if tops & set(packages):
            raise UnsupportedTestError(f"`{ast.unparse(node)}`: names are imported from a module one by one")
        return [] if tops == {"pytest"} else [node]
    module = node.module or ""
    top = module.partition(".")[0]
    if node.level or top in ("tests", "test"):
        raise UnsupportedTestError(f"`{ast.unparse(node)}` imports from other tests")
    if top not in packages:
        return [] if top == "pytest" else [node]
    if any(alias.name == "*" for alias in node.names):
        raise UnsupportedTestError(f"`{ast.unparse(node)}` does not say which names")
    imports += [(module, alias.name, alias.asname or alias.name) for alias in node.names]
    return []


def described(files: Mapping[str, str], chars: int) -> str:
    """Return files as an agent reads them: each under its path, cut to so many characters together.

    Of the first file that does not fit, the lines are shown that do; of others, how long they are.

    Args:
        files (`Mapping[str, str]`): path to text.
        chars (`int`): at most.
    """
    parts: list[str] = []
    left = chars
    for path, text in files.items():
        if not text.strip():
            continue
        part = f"### {path}\n{text.rstrip()}\n"
        if len(part) <= left:
            parts.append(part)
            left -= len(part)
            continue
        end = part.rfind("\n", len(f"### {path}\n"), max(0, left)) + 1
        if end:
            parts.append(f"{part[:end]}[{len(part) - end} more characters of {path}, not shown]\n")
            left = 0
        else:
            parts.append(json.dumps(f"{path}: {len(text)} characters, not shown") + "\n")
    return "\n".join(parts)
