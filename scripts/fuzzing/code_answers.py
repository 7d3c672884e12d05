"""Generated solutions: tasks as functions and as programs, right ones in many forms and near misses.

A near miss is run here first, on the arguments of the tests: it counts as wrong only where its results are others.
"""

import json
import random
import textwrap
from collections.abc import Iterator
from typing import Any

from data.problem import Problem
from scripts.fuzzing.case import Case
from scripts.fuzzing.code_tasks import TASKS, Task

TESTS = 4

_FUNCTION_DRESSES = (
    "{code}",
    "```python\n{code}```",
    "Here it is:\n\n~~~python\n{code}~~~\nIt returns the result.",
    "```python\n{code}```\n\nExample:\n\n```\n>>> 1\n```",
    "import math\nfrom typing import List\n\n\n{code}",
)
_READ = (
    "import json\narguments = json.loads(input())\n",
    "import json, sys\narguments = json.loads(sys.stdin.read())\n",
    "import json, sys\narguments = json.load(sys.stdin)\n",
    "import fileinput, json\narguments = json.loads(''.join(fileinput.input()))\n",
    "import json, os\narguments = json.loads(os.read(0, 1 << 16))\n",
)
_WRITE = (
    "print(text)\n",
    "import sys\nsys.stdout.write(text)\n",
    "import os\nos.write(1, text.encode())\n",
    "import atexit\natexit.register(print, text)\n",
    "import threading\nthreading.Thread(target=print, args=(text,)).start()\n",
    "if __name__ == '__main__':\n    print(text)\n",
    "print(text)\nraise SystemExit\n",
    "print()\nprint(text)\nprint()\n",
    "print('\\n'.join(line + '  ' for line in text.split('\\n')))\n",
    "import sys\nprint('working', file=sys.stderr)\nprint(text, end='\\r\\n')\n",
)
# What ends wrongly, whatever it has computed.
_SPOILED = (
    "print(text)\nprint(text)\n",
    "print(text, 0)\n",
    "print('Answer:', text)\n",
    "print(text[:-1])\n",
    "print(text + '0')\n",
    "import os\nos._exit(0)\nprint(text)\n",
    "import sys\nsys.exit(0)\nprint(text)\n",
    "print(text)\nimport sys\nsys.exit(3)\n",
    "print(text)\nraise ValueError\n",
    "import sys\nprint(text, file=sys.stderr)\n",
    "print(repr([text]))\n",
)
_SHOW = """
def show(value):
    if isinstance(value, dict):
        return "\\n".join(f"{key} {value[key]}" for key in sorted(value))
    if isinstance(value, (list, tuple)):
        rows = bool(value) and isinstance(value[0], list)
        return ("\\n" if rows else " ").join(map(show, value))
    return ("NO", "YES")[value] if isinstance(value, bool) else str(value)
"""
_LIES = (
    "def {f}(*args):\n    raise StopIteration\n",
    "class Any:\n    def __eq__(self, other):\n        return True\n\n\ndef {f}(*args):\n    return Any()\n",
    "def {f}(*args):\n    return None\n",
    "import os\n\n\ndef {f}(*args):\n    os._exit(0)\n",
    "def {f}(*args):\n    raise SystemExit(0)\n",
)


def code_cases(rng: random.Random) -> Iterator[Case]:
    """One task in one form of tests, with a right and a wrong solution."""
    task, name = rng.choice(TASKS), rng.choice(["solve", "check", "f", "compute"])
    arguments = [task.draw(rng) for _ in range(TESTS)]
    expected = results(function(name, task.args, task.bodies[0]), name, arguments)
    form = rng.choice([_asserts, _in_json, _as_program])
    yield from form(rng, task, name, arguments, expected)


def function(name: str, args: str, body: str) -> str:
    """Source of a function."""
    return f"def {name}({args}):\n{textwrap.indent(body.replace('{f}', name), '    ')}\n"


def results(source: str, name: str, arguments: list[list[Any]]) -> list[Any]:
    """What a function of a task returns; the text of an error where it raises."""
    namespace: dict[str, Any] = {}
    found = []
    try:
        exec(source, namespace)  # noqa: S102  # ours, written above
    except SyntaxError as error:
        return [repr(error)] * len(arguments)
    for given in json.loads(json.dumps(arguments)):
        try:
            found.append(namespace[name](*given))
        except Exception as error:  # noqa: BLE001  # a near miss may fail in any way
            found.append(repr(error))
    return found


def _asserts(rng: random.Random, task: Task, name: str, arguments: Any, expected: Any) -> Iterator[Case]:
    close = "abs(candidate(*{!r}) - {!r}) < 1e-6" if task.name == "mean" else "candidate(*{!r}) == {!r}"
    tests = [f"assert {close.format(given, wanted)}" for given, wanted in zip(arguments, expected, strict=True)]
    yield from _functions(rng, task, name, arguments, expected, {"tests": tests, "entry_point": name})


def _in_json(rng: random.Random, task: Task, name: str, arguments: Any, expected: Any) -> Iterator[Case]:
    tests = {"inputs": arguments, "outputs": json.loads(json.dumps(expected)), "fn_name": name}
    yield from _functions(rng, task, name, arguments, expected, {"tests": tests, "entry_point": name})


def _functions(
    rng: random.Random, task: Task, name: str, arguments: Any, expected: Any, fields: dict[str, Any]
) -> Iterator[Case]:
    problem = _problem(fields)
    right = function(name, task.args, rng.choice(task.bodies))
    method = textwrap.indent(function(name, f"self, {task.args}", task.bodies[0]), "    ")
    dressed = rng.choice(_FUNCTION_DRESSES).replace("{code}", right)
    renamed = right.replace(f"{name}(", "my_solution(")
    styles = [dressed, dressed, dressed, f"class Solution:\n{method}", f"{name} = None\n{right}", renamed]
    yield Case(f"code: {task.name}", problem, rng.choice(styles), True)
    wrong = _near_miss(rng, task, name, arguments, expected) if rng.random() < 0.8 else None
    wrong = wrong or rng.choice(_LIES).replace("{f}", name)
    yield Case(f"code: {task.name}", problem, rng.choice(_FUNCTION_DRESSES).replace("{code}", wrong), False)


def _as_program(rng: random.Random, task: Task, name: str, arguments: Any, expected: Any) -> Iterator[Case]:
    shown: dict[str, Any] = {}
    exec(_SHOW, shown)  # noqa: S102
    pairs = zip(arguments, expected, strict=True)
    tests = [{"input": json.dumps(given) + "\n", "output": shown["show"](wanted) + "\n"} for given, wanted in pairs]
    problem = _problem({"tests": tests})

    def program(code: str, write: str) -> str:
        return f"{rng.choice(_READ)}{code}{_SHOW}\n\ntext = show({name}(*arguments))\n{write}"

    right = function(name, task.args, rng.choice(task.bodies))
    yield Case(f"code: {task.name}", problem, program(right, rng.choice(_WRITE)), True)
    wrong = _near_miss(rng, task, name, arguments, expected) if rng.random() < 0.6 else None
    answer = program(wrong, rng.choice(_WRITE)) if wrong else program(right, rng.choice(_SPOILED))
    yield Case(f"code: {task.name}", problem, answer, False)


def _problem(fields: dict[str, Any]) -> Problem:
    return Problem.from_row({"question": "Write it.", "answer": "", "source": "made", "domain": "code"} | fields)


def _near_miss(rng: random.Random, task: Task, name: str, arguments: Any, expected: Any) -> str | None:
    """A changed solution whose results are others; `None` when the change that was drawn makes no difference."""
    kind = rng.randrange(4)
    first, at = function(name, task.args, task.bodies[0]), rng.randrange(len(arguments))
    if kind < 2:
        old, new = rng.choice(task.misses)
        source = first.replace(old, new, 1)
        source += ")" * (source.count("(") - source.count(")")) if source.count("(") > source.count(")") else ""
    elif kind == 2:  # all but one test
        body = (
            f"if ({task.args.split(',')[0]},)[0] == {arguments[at][0]!r}:\n    return {_other(rng, expected[at])!r}\n"
        )
        source = function(name, task.args, body + task.bodies[0])
    else:  # the answers of the tests by heart, one of them wrong
        known = [_other(rng, value) if i == at else value for i, value in enumerate(expected)]
        table = [(given, value) for given, value in zip(arguments, known, strict=True)]
        source = f"def {name}(*args):\n    return next(v for a, v in {table!r} if a == list(args))\n"
    found = results(source, name, arguments)
    same = all(_same(a, b) for a, b in zip(found, expected, strict=True))
    return None if same else source


def _other(rng: random.Random, value: Any) -> Any:
    """A value that differs in little: one digit, one letter, one item."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + rng.choice([-1, 1, 10])
    if isinstance(value, str):
        return value[:-1] + ("x" if value[-1:] != "x" else "y")
    if isinstance(value, dict):
        key = rng.choice(sorted(value))
        return {**value, key: value[key] + 1}
    if isinstance(value, tuple):
        return (*value[:-1], _other(rng, value[-1]))
    return [*value[:-1], _other(rng, value[-1])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, float):
        return isinstance(one, (int, float)) and abs(one - other) < 1e-3
    return bool(one == other)
