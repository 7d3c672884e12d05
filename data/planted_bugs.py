"""Small packages with a planted bug: an issue, the code, and the tests that tell whether it is mended.

Example row (`extra.repository` has files, hidden tests, and which of them fail before; the answer is the change as a
unified diff; agents see the issue and the files):

    {"question": "`last_items` is not right. `last_items([1, 2, 3, 4], 2)` returns [3]; it should return [3, 4]. ...",
     "answer": "--- a/fleet/lists.py\\n+++ b/fleet/lists.py\\n@@ ...", "source": "planted_bugs", "domain": "swe",
     "context": "### fleet/lists.py\\ndef last_items(items, count): ...", "extra": {"repository": {...}}}

The kinds of bug are in `planted_bugs.yaml`. Every task is tried when it is made: each test passes with the code as it
was, those of `fail_to_pass` fail with the bug, those of `pass_to_pass` do not. What the issue tells is no test:
code that knows that one answer has mended nothing.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data.problem import Problem
from data.repository_tasks import RepositoryTask, unified_diff

KINDS_FILE = Path(__file__).with_name("planted_bugs.yaml")
PACKAGES = "shop fleet garden museum harbour bakery library orchard studio clinic market workshop".split()  # noqa: SIM905
OTHER_MODULES = 2
_FUNCTION = re.compile(r"^def ([a-z]\w*)\(", re.MULTILINE)


@dataclass(frozen=True)
class BugKind:
    """One kind of bug.

    Args:
        kind (`str`): what went wrong, in a few words.
        module (`str`): name of the module that has it.
        code (`str`): right, with `$a` and `$b` for numbers.
        right (`str`): stands in the code once.
        wrong (`str`): in its place.
        checks (`tuple[str, ...]`): expressions whose values tell.
        function (`str`): what the checks call.
    """

    kind: str
    module: str
    code: str
    right: str
    wrong: str
    checks: tuple[str, ...]
    function: str


@dataclass(frozen=True)
class _Outcome:
    """What an expression comes to: a value, or an error's class."""

    value: Any = None
    error: str | None = None

    @property
    def words(self) -> str:
        return f"raises {self.error}" if self.error else f"returns {self.value!r}"


@cache
def bug_kinds() -> tuple[BugKind, ...]:
    """Return every kind of bug."""
    rows = yaml.safe_load(KINDS_FILE.read_text(encoding="utf-8"))
    return tuple(_kind(row) for row in rows)


def _kind(row: Mapping[str, Any]) -> BugKind:
    code = str(row["code"])
    function = str(row.get("function") or _FUNCTION.findall(code)[-1])
    texts = {key: str(row[key]) for key in ("kind", "module", "right", "wrong")}
    return BugKind(**texts, code=code, checks=tuple(map(str, row["checks"])), function=function)


def planted_bugs(seed: int) -> Iterator[Problem]:
    """Yield tasks, each kind of bug equally often, without end."""
    rng = random.Random(f"planted_bugs {seed}")
    while True:
        for kind in rng.sample(bug_kinds(), len(bug_kinds())):
            yield planted_bug(kind, rng)


def planted_bug(kind: BugKind, rng: random.Random) -> Problem:
    """Return one task of a kind.

    Args:
        kind (`BugKind`): of the bug.
        rng (`random.Random`): decides numbers, the package and the modules beside.

    Raises:
        ValueError: the bug changes nothing that two checks see; an error of the kind's, not of chance.
    """
    numbers = {"a": rng.randint(2, 9), "b": rng.randint(2, 9)}
    package = rng.choice(PACKAGES)
    right = _filled(kind.code, numbers)
    wrong = right.replace(_filled(kind.right, numbers), _filled(kind.wrong, numbers))
    checks = [_filled(check, numbers) for check in kind.checks]
    fixed, broken = [[_value(code, check) for check in checks] for code in (right, wrong)]
    failing = [index for index in range(len(checks)) if fixed[index] != broken[index]]
    if len(failing) < 2 or right.count(_filled(kind.right, numbers)) != 1:
        raise ValueError(f"planted bug {kind.kind!r}: {len(failing)} of {len(checks)} checks see it ({numbers})")
    files, others = _beside(package, kind, rng)
    files |= {f"{package}/__init__.py": "", f"{package}/{kind.module}.py": wrong}
    mended = {**files, f"{package}/{kind.module}.py": right}
    test_file = f"tests/test_{kind.module}.py"
    names = [f"{test_file}::test_{kind.function}_{index}" for index in range(len(checks))]
    passing = [name for index, name in enumerate(names) if index not in failing]
    passing += [f"{path}::{name}" for path, text in others.items() for name in _FUNCTION.findall(text)]
    task = RepositoryTask(
        issue=_issue(kind, [(checks[index], broken[index], fixed[index]) for index in failing]),
        files=dict(sorted(files.items())),
        test_files={test_file: _tests(package, kind, checks, fixed), **others},
        fail_to_pass=tuple(names[index] for index in failing[1:]),
        pass_to_pass=tuple(passing),
    )
    return Problem.from_row(
        {
            "question": task.issue,
            "answer": unified_diff(files, mended),
            "source": "planted_bugs",
            "context": "\n".join(f"### {path}\n{text}" for path, text in task.files.items() if text),
            "extra": {"kind": kind.kind, **task.extra()},
        }
    )


def _filled(text: str, numbers: Mapping[str, int]) -> str:
    return re.sub(r"\$([ab])", lambda found: str(numbers[found[1]]), text)


def _value(code: str, check: str) -> _Outcome:
    """What a check comes to; the code is this package's own text, with none of anybody else's in it."""
    namespace: dict[str, Any] = {}
    try:
        exec(code, namespace)  # noqa: S102
        return _Outcome(eval(check, namespace))  # noqa: S307
    except Exception as error:  # noqa: BLE001 - whatever the bug makes of it
        return _Outcome(error=type(error).__name__)


def _beside(package: str, kind: BugKind, rng: random.Random) -> tuple[dict[str, str], dict[str, str]]:
    """Modules of the package without a bug, and their tests."""
    files: dict[str, str] = {}
    tests: dict[str, str] = {}
    for other in rng.sample(bug_kinds(), len(bug_kinds())):
        path = f"{package}/{other.module}.py"
        if len(files) == OTHER_MODULES or other.module == kind.module or path in files:
            continue
        numbers = {"a": rng.randint(2, 9), "b": rng.randint(2, 9)}
        files[path], check = _filled(other.code, numbers), _filled(other.checks[0], numbers)
        tests[f"tests/test_{other.module}.py"] = _tests(package, other, [check], [_value(files[path], check)])
    return files, tests


def _issue(kind: BugKind, seen: Sequence[tuple[str, _Outcome, _Outcome]]) -> str:
    check, broken, fixed = seen[0]
    should = f"raise {fixed.error}" if fixed.error else f"return {fixed.value!r}"
    what = f"`{check}` {broken.words}; it should {should}."
    return f"`{kind.function}` is not right. {what} Mend it without changing anything else."


def _tests(package: str, kind: BugKind, checks: Sequence[str], expected: Sequence[_Outcome]) -> str:
    lines = ["import pytest", "", f"from {package}.{kind.module} import {kind.function}"]
    for index, (check, outcome) in enumerate(zip(checks, expected, strict=True)):
        lines += ["", "", f"def test_{kind.function}_{index}():"]
        if outcome.error:
            lines += [f"    with pytest.raises({outcome.error}):", f"        {check}"]
        else:
            lines.append(f"    assert {check} == {outcome.value!r}")
    return "\n".join(lines) + "\n"
