"""The house has floors: nothing imports upwards, no circle of imports, and the lower floors need no torch."""

import ast
import functools
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("data", "aflow_ops", "rewards", "recipes", "scripts")
# Programs for the sandbox: they are read as text, never imported.
NOT_IMPORTED = {"aflow_ops/examiner/harness.py", "aflow_ops/examiner/worker.py", "aflow_ops/rings/child.py"}
PAGE = 65  # lines; a few more than fit on a screen
# Commands that neither load nor train a policy, or only when they are asked to.
LIGHT_COMMANDS = (
    "compare", "download_datasets", "evaluate", "grade", "process_datasets", "push_to_hub", "report", "restore",
    "run_agents", "run_workflow", "search",
)  # fmt: skip


@functools.cache
def parsed(path: Path) -> list[ast.AST]:
    """Every node of a file."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def files() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    names = set()
    for node in parsed(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in modules else node.module)
    return {name for name in names if name.split(".")[0] in (*FLOORS, "tests")}


def test_nothing_imports_upwards() -> None:
    modules = files()
    upwards = []
    for name, path in modules.items():
        floor = FLOORS.index(name.split(".")[0])
        for other in imports_of(path, modules):
            top = other.split(".")[0]
            if top == "tests" or FLOORS.index(top) > floor:
                upwards.append(f"{name} -> {other}")
    assert upwards == []


def test_settings_know_nothing_of_the_recipes_other_rooms() -> None:
    modules = files()
    inside = {name: path for name, path in modules.items() if name.startswith("recipes.settings.")}
    found = {
        f"{name} -> {other}"
        for name, path in inside.items()
        for other in imports_of(path, modules)
        if other.startswith("recipes.") and other not in inside
    }
    assert inside and found == set()


def test_only_the_settings_take_all_that_a_recipe_was_told() -> None:
    """Everything else takes the few values that it needs."""
    takers = [
        f"{name}: {node.name}"
        for name, path in files().items()
        if not name.startswith("recipes.settings.")
        for node in parsed(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None and "Arguments" in ast.unparse(argument.annotation).split("[")
    ]
    assert takers == []


def test_no_circle_of_imports() -> None:
    """Nor one that is closed by an import inside a function."""
    modules = files()
    graph = {
        name: {other for other in imports_of(path, modules) if other in modules and other != name}
        for name, path in modules.items()
        if str(path.relative_to(ROOT)) not in NOT_IMPORTED
    }
    done: set[str] = set()
    open_: list[str] = []

    def visit(name: str) -> None:
        if name in open_:
            pytest.fail(" -> ".join([*open_[open_.index(name) :], name]))
        if name in done or name not in graph:
            return
        open_.append(name)
        for other in sorted(graph[name]):
            visit(other)
        done.add(open_.pop())

    for name in sorted(graph):
        visit(name)


@functools.cache
def heavy_after_each_floor() -> dict[str, list[str]]:
    """Which of torch, trl and transformers are there once a floor's modules are imported, one floor after the other."""
    floors = {
        floor: [
            name
            for name, path in files().items()
            if name.split(".")[0] == floor and str(path.relative_to(ROOT)) not in NOT_IMPORTED
        ]
        for floor in ("data", "aflow_ops", "rewards")
    }
    floors["scripts"] = [f"scripts.{name}" for name in LIGHT_COMMANDS]
    program = (
        f"import importlib, json, sys\nfloors, found = {floors!r}, {{}}\nfor floor, names in floors.items():\n"
        "    for name in names:\n        importlib.import_module(name)\n"
        "    found[floor] = [name for name in ('torch', 'trl', 'transformers') if name in sys.modules]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("floor", ["data", "aflow_ops", "rewards", "scripts"])
def test_the_lower_floors_and_light_commands_load_neither_torch_nor_trl(floor: str) -> None:
    assert heavy_after_each_floor()[floor] == []


def test_every_folder_has_its_line_on_a_page() -> None:
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [
        floor for floor in (*FLOORS, "accelerate_configs") if f"| [{floor}]({floor}/README.md) |" not in front
    ] == []
    untold = [
        str(folder.relative_to(ROOT))
        for floor in FLOORS
        for folder in (ROOT / floor).rglob("*/")
        if any(path.suffix in (".py", ".yaml", ".jsonl") for path in folder.iterdir())
        and folder.relative_to(ROOT).parts[1] != "cache"
        and f"`{folder.relative_to(ROOT / floor)}/`" not in (ROOT / floor / "README.md").read_text(encoding="utf-8")
    ]
    assert untold == []


def test_the_type_checker_reads_every_floor() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["strict"] and set(settings["packages"]) == set(FLOORS) and "exclude" not in settings


def test_no_file_is_longer_than_a_sitting() -> None:
    longest = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files().values()}
    assert {name: count for name, count in longest.items() if count > 400} == {}


def test_no_function_is_longer_than_a_page() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {node.name}": node.end_lineno - node.lineno + 1
        for path in files().values()
        for node in parsed(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert {name: count for name, count in long.items() if count > PAGE} == {}


def test_no_class_has_more_than_fifteen_public_methods() -> None:
    """Counted with those of the bases that are ours: what somebody who subclasses it has to know."""
    classes = [node for path in files().values() for node in parsed(path) if isinstance(node, ast.ClassDef)]
    by_name = {node.name: node for node in classes}

    def methods(node: ast.ClassDef) -> set[str]:
        own = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
        bases = [by_name[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in by_name]
        return own.union(*(methods(base) for base in bases))

    public = {node.name: [name for name in methods(node) if not name.startswith("_")] for node in classes}
    many = {name: sorted(found) for name, found in public.items() if len(found) > 15 and not name.startswith("_")}
    assert many == {}
