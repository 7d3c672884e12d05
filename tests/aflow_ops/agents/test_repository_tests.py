"""Hidden tests say whether a repository is mended, whatever its code does to have them say so."""

import asyncio
import random
import re
import stat
import subprocess
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from aflow_ops.agents.tools import docker_tests, local_tests
from aflow_ops.agents.tools.docker_tests import ContainerError, DockerTests, read_verdicts
from aflow_ops.agents.tools.docker_tests import test_script as script_for
from aflow_ops.agents.tools.edits import apply_edits, parse_edits
from aflow_ops.agents.tools.local_tests import LocalTests, described
from aflow_ops.errors import UsageError
from aflow_ops.sandbox import Sandbox
from data.planted_bugs import bug_kinds, planted_bug, planted_bugs
from data.problem import DataError, Problem
from data.repository_tasks import RepositoryTask, is_hidden, repository_task
from rewards.agents.repository import mended
from rewards.graders.swe import grade_swe
from rewards.grading import grade_answer
from tests.patience import PATIENCE

TASK = RepositoryTask(
    issue="`total` is one too large.",
    files={"shop/__init__.py": "", "shop/stock.py": "def total(items):\n    return sum(items) + 1\n"},
    test_files={
        "tests/test_stock.py": "import pytest\n\nfrom shop.stock import total\n\n\n"
        "def test_total():\n    assert total([1, 2]) == 3\n\n\n"
        "def test_text():\n    with pytest.raises(TypeError):\n        total(['a'])\n"
    },
    fail_to_pass=("tests/test_stock.py::test_total",),
    pass_to_pass=("tests/test_stock.py::test_text",),
)
RIGHT = {**TASK.files, "shop/stock.py": "def total(items):\n    return sum(items)\n"}


def in_stock(code: str) -> dict[str, str]:
    return {**TASK.files, "shop/stock.py": code}


async def test_every_kind_of_bug_is_seen_by_its_tests_and_mended_by_its_change(sandbox: Sandbox) -> None:
    assert len({kind.kind for kind in bug_kinds()}) >= 40
    tests = LocalTests(sandbox)

    async def check(problem: Problem) -> None:
        task = repository_task(problem)
        before = await tests.run(task, task.files, task.tests)
        after = await tests.run(task, apply_edits(task.files, parse_edits(task.patch)), task.tests)
        kind = problem.extra["kind"]
        assert [name for name, passed in before.passed.items() if not passed] == list(task.fail_to_pass), (kind, before)
        assert after.solves(task), (kind, after)
        assert mended(before, task) == 0.0 and mended(after, task) == 1.0

    await asyncio.gather(*(check(planted_bug(kind, random.Random(7))) for kind in bug_kinds()))


def test_what_an_issue_tells_is_no_hidden_test() -> None:
    for kind in bug_kinds():
        task = repository_task(planted_bug(kind, random.Random(11)))
        told = re.search(r"is not right\. `(.+?)` (?:returns|raises) ", task.issue)
        assert told is not None and task.fail_to_pass
        for path, source in task.test_files.items():
            names = tuple(name.partition("::")[2] for name in task.tests if name.startswith(f"{path}::"))
            snippets, _ = local_tests.test_snippets(source, names, (path.split("/")[0],))
            asked = [line.strip() for snippet in snippets for line in snippet.split("\n")]
            assert told[1] not in asked, kind  # raises
            assert not any(line.startswith((f"assert {told[1]} ==", f"assert ({told[1]}) ==")) for line in asked), kind


def test_every_number_of_every_kind_makes_a_task_that_was_tried() -> None:
    for problem in islice(planted_bugs(11), 4 * len(bug_kinds())):
        assert repository_task(problem).fail_to_pass


async def test_a_report_tells_the_tests_apart(sandbox: Sandbox) -> None:
    tests = LocalTests(sandbox)
    assert (await tests.run(TASK, RIGHT, TASK.tests)).solves(TASK)
    report = await tests.run(TASK, TASK.files, TASK.tests)
    assert report.passed == {TASK.fail_to_pass[0]: False, TASK.pass_to_pass[0]: True}
    assert "AssertionError" in str(report.error)
    broken = await tests.run(TASK, in_stock("def total(items):\n    return 3\n"), TASK.tests)
    assert mended(broken, TASK) == 0.0  # one test mended, the other one lost


HOSTILE = {
    "an exit": "import os\n\n\ndef total(items):\n    os._exit(0)\n",
    "an exit at import": "import sys\nsys.exit(0)\n",
    "a runner of its own": "import sys\nimport types\nsys.modules['pytest'] = types.ModuleType('pytest')\n"
    "import builtins\nbuiltins.AssertionError = ValueError\n\n\ndef total(items):\n    return 4\n",
    "an equal to everything": "class E(int):\n    def __eq__(self, other):\n        return True\n\n\n"
    "def total(items):\n    return E(7)\n",
    "a patched harness": "import gc\nfor thing in gc.get_objects():\n"
    "    if callable(getattr(thing, 'verdict', None)):\n"
    "        thing.verdict = lambda *a, **k: None\n\n\ndef total(items):\n    return 0\n",
    "a written test": "open('tests/test_stock.py', 'w').write('def test_total(): pass')\n\n\n"
    "def total(items):\n    return 0\n",
    "a read test": "import glob\n\n\n"
    "def total(items):\n    return len(open(glob.glob('/**/test_stock.py')[0]).read())\n",
    "a loop at import": "while True:\n    pass\n",
    "a fork": "import os\n\n\ndef total(items):\n    os.fork()\n    return 3\n",
    "no Python": "def total(items:\n",
    "printed verdicts": "def total(items):\n    print('+\\n+\\n+')\n    return 0\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_code_passes_tests_by_anything_but_its_results(name: str, sandbox: Sandbox) -> None:
    report = await LocalTests(sandbox).run(TASK, in_stock(HOSTILE[name]), TASK.tests)
    assert report.passed[TASK.fail_to_pass[0]] is False, name


async def test_what_hangs_leaves_no_time_to_the_tests_after_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_tests, "TOTAL_SECONDS_ONCE_FAILED", 0.0)
    module = {"shop/stock.py": "while True:\n    pass\n"}
    others = {"tests/test_other.py": "from shop.other import one\n\n\ndef test_one():\n    assert one() == 1\n"}
    task = replace(
        TASK,
        files={**TASK.files, "shop/other.py": "def one():\n    return 1\n"},
        test_files={**TASK.test_files, **others},
        pass_to_pass=(*TASK.pass_to_pass, "tests/test_other.py::test_one"),
    )
    hung = await LocalTests(sandbox).run(task, {**task.files, **module}, task.tests)
    assert not any(hung.passed.values())
    monkeypatch.undo()
    harmless = await LocalTests(sandbox).run(task, task.files, task.tests)
    assert harmless.passed["tests/test_other.py::test_one"]


async def test_packages_of_several_modules_in_a_source_folder_work(sandbox: Sandbox) -> None:
    files = {
        "src/fleet/__init__.py": "from .boats import Boat\n",
        "src/fleet/boats.py": "from dataclasses import dataclass\n\nfrom fleet.rules import limit\n\n\n@dataclass\n"
        "class Boat:\n    seats: int\n\n    def free(self, taken):\n        return limit(self.seats) - taken\n",
        "src/fleet/rules.py": "class TooSmall(ValueError):\n    pass\n\n\ndef limit(seats):\n"
        "    if seats < 1:\n        raise TooSmall(seats)\n    return seats\n",
    }
    test = (
        "import math\n\nimport pytest\n\nfrom fleet import Boat as Ship\nfrom fleet.rules import TooSmall, limit\n\n"
        "SEATS = 4\n\n\ndef made():\n    return Ship(SEATS)\n\n\n"
        "def test_free():\n    assert made().free(1) == math.isqrt(9)\n\n\n"
        "def test_error():\n    with pytest.raises(TooSmall, match='0'):\n        limit(0)\n\n\n"
        "def test_near():\n    assert limit(3) == pytest.approx(3.0000000001)\n"
    )
    names = tuple(f"tests/test_boats.py::test_{name}" for name in ("free", "error", "near"))
    task = RepositoryTask("", files, {"tests/test_boats.py": test}, names)
    report = await LocalTests(sandbox).run(task, files, names)
    assert report.solves(task), report


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("def test_x(tmp_path):\n    pass\n", "fixtures"),
        ("import pytest\n\n\n@pytest.mark.parametrize('a', [1])\ndef test_x(a):\n    pass\n", "fixtures"),
        ("import shop.stock\n\n\ndef test_x():\n    pass\n", "one by one"),
        ("from tests.helpers import y\n\n\ndef test_x():\n    pass\n", "other tests"),
        ("def test_y():\n    pass\n", "no test function test_x"),
        ("def test_x(:\n", "does not parse"),
    ],
)
async def test_a_test_that_needs_a_container_says_so(test: str, reason: str, sandbox: Sandbox) -> None:
    task = RepositoryTask("", TASK.files, {"tests/test_a.py": test}, ("tests/test_a.py::test_x",))
    report = await LocalTests(sandbox).run(task, task.files, task.tests)
    assert not report.solves(task) and reason in str(report.error)


async def test_answers_are_graded_by_the_hidden_tests(sandbox: Sandbox) -> None:
    problem = planted_bug(bug_kinds()[0], random.Random(3))
    assert (await grade_answer(problem.answer, problem, sandbox)).correct
    assert (await grade_swe("I cannot see it.", problem, sandbox)).reward == 0.0
    path = next(path for path in problem.extra["repository"]["files"] if path.endswith("series.py"))
    useless = await grade_swe(f"--- /dev/null\n+++ b/{path[:-3]}_more.py\n@@ -0,0 +1 @@\n+x = 1\n", problem, sandbox)
    assert (useless.tier, useless.correct) == (2, False)
    elsewhere = Problem.from_row({**problem.to_row(), "extra": {"repository": {"image": "a:b", "fail_to_pass": ["t"]}}})
    with pytest.raises(UsageError, match="docker"):
        await grade_swe(problem.answer, elsewhere, sandbox)


async def test_a_module_that_an_edit_makes_is_not_what_tests_judge_by(sandbox: Sandbox) -> None:
    test = "from math import isclose\n\nfrom shop.stock import total\n\n\ndef test_total():\n"
    test += "    assert isclose(total([1, 2]), 3)\n"
    task = replace(TASK, test_files={"tests/test_stock.py": test}, pass_to_pass=())
    shadow = {**TASK.files, "math.py": "def isclose(*values):\n    return True\n"}
    assert not (await LocalTests(sandbox).run(task, shadow, task.tests)).solves(task)
    moved = {**TASK.files, "shop_more.py": "def total(items):\n    return sum(items)\n"}
    task = replace(task, test_files={"tests/test_stock.py": test.replace("shop.stock", "shop_more")})
    assert (await LocalTests(sandbox).run(task, moved, task.tests)).solves(task)


def test_of_a_file_that_is_too_long_its_beginning_is_shown() -> None:
    shown = described({"a.py": "x = 1\n", "b.py": "y = 2\n" * 100, "c.py": "z = 3\n"}, 100)
    assert "### a.py\nx = 1\n" in shown and "### b.py\ny = 2\n" in shown and "more characters of b.py" in shown
    assert "c.py: 6 characters, not shown" in shown and len(shown) < 250


@pytest.mark.parametrize("path", ["parsed_commit.json", "execution_result.json", "r2e_tests/a.py", "run_tests.sh"])
def test_what_images_have_beside_the_code_is_hidden(path: str) -> None:
    assert is_hidden(path) and not is_hidden(f"src/{path[:2]}.py")


def test_agents_see_the_code_and_no_hidden_test() -> None:
    problem = planted_bug(bug_kinds()[4], random.Random(5))
    shown = problem.view.text + described(repository_task(problem).files, 4000)
    assert "def " in shown and "assert" not in shown and "pytest" not in shown and problem.answer not in shown


@pytest.mark.parametrize(
    ("repository", "reason"),
    [
        (None, "no repository"),
        ({"files": {"a.py": "x"}}, "no test fails"),
        ({"fail_to_pass": ["t"]}, "neither files nor a container image"),
        ({"files": {"../a.py": "x"}, "fail_to_pass": ["t"]}, "leaves the repository"),
        ({"files": {"a.py": 1}, "fail_to_pass": ["t"]}, "must be text"),
        ({"files": ["a"], "fail_to_pass": ["t"]}, "object from path to text"),
        ({"files": {"a.py": "x"}, "fail_to_pass": "t"}, "list of tests"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(repository: object, reason: str) -> None:
    extra = {} if repository is None else {"repository": repository}
    problem = Problem.from_row({"question": "q", "answer": "", "source": "planted_bugs", "extra": extra})
    with pytest.raises(DataError, match=reason):
        repository_task(problem)


# The docker backend, with a command that does what docker would: runs the script with bash, in a folder of ours.

FAKE_DOCKER = """\
#!/bin/bash
echo "$@" >> {log}
case "$1" in
  version) {version} ;;
  rm) exit 0 ;;
  image) {image} ;;
  pull) {pull} ;;
  run) {run} ;;
esac
"""
IMAGE_TASK = RepositoryTask(
    issue="x",
    fail_to_pass=("tests/test_a.py::test_x", "tests/test_a.py::test_y"),
    pass_to_pass=("TestA.test_z",),
    image="repo/task:1",
    test_command="echo PASSED tests/test_a.py::test_x; echo 'FAILED tests/test_a.py::test_y - boom'; "
    "echo PASSED r2e_tests/test_1.py::TestA::test_z",
)


def fake_docker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "echo 27", run: str = "bash -s", **others: str
) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir(parents=True)
    log = tmp_path / "docker.log"
    (folder / "docker").write_text(
        FAKE_DOCKER.format(log=log, version=version, run=run, **{"image": ":", "pull": ":", **others})
    )
    (folder / "docker").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return log


async def test_tests_run_in_the_tasks_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_docker(tmp_path, monkeypatch)
    repository = tmp_path / "testbed"
    repository.mkdir()
    (repository / "old.py").write_text("old = 1\n")
    tests = DockerTests()
    await tests.check()
    task = RepositoryTask(**{**IMAGE_TASK.__dict__, "folder": str(repository)})
    assert await tests.files(task, ["old.py", "none.py"]) == {"old.py": "old = 1\n"}
    binary = repository / "binary.py"
    binary.write_bytes(b"\xff")
    (repository / "long.py").write_text("x" * 2_000_000)
    assert await tests.files(task, ["binary.py", "long.py"]) == {}
    report = await tests.run(task, {"a/b.py": "it's 'quoted' $(touch /tmp/x) `x`\n"}, task.tests)
    assert dict(report.passed) == {task.tests[0]: True, task.tests[1]: False, task.tests[2]: True}
    assert "FAILED" in str(report.error)
    assert (repository / "a/b.py").read_text() == "it's 'quoted' $(touch /tmp/x) `x`\n"
    misplaced = await tests.run(task, {"a": "a file in the place of a folder"}, task.tests)
    assert mended(misplaced, task) == 0.0
    assert "--network none" in log.read_text() and "rm -f aflow-" in log.read_text()


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


async def changed_in_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: dict[str, str]
) -> tuple[bool, Path]:
    """Run the tests of an edit in a repository with `old.py`, and a link that leaves it; whether they passed."""
    fake_docker(tmp_path, monkeypatch)
    repository, outside = tmp_path / "testbed", tmp_path / "outside"
    repository.mkdir()
    outside.mkdir()
    (repository / "old.py").write_text("old = 1\n")
    (repository / "link").symlink_to(outside)
    command = "echo PASSED tests/a.py::x"
    task = RepositoryTask(
        "x", fail_to_pass=("tests/a.py::x",), image="a:b", folder=str(repository), test_command=command
    )
    report = await DockerTests().run(task, after, task.tests, before)
    return report.solves(task), tmp_path


async def test_a_file_that_an_edit_removes_is_gone_when_tests_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, folder = await changed_in_the_image(tmp_path, monkeypatch, {"old.py": "old = 1\n"}, {"new.py": "x\n"})
    assert passed and not (folder / "testbed/old.py").exists() and (folder / "testbed/new.py").exists()


async def test_an_edit_that_makes_what_is_there_passes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, folder = await changed_in_the_image(tmp_path, monkeypatch, {}, {"old.py": "new = 1\n"})
    assert not passed and (folder / "testbed/old.py").read_text() == "old = 1\n"


async def test_no_link_leads_an_edit_out_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, folder = await changed_in_the_image(tmp_path, monkeypatch, {}, {"link/evil.py": "x = 1\n"})
    assert not passed and not list((folder / "outside").iterdir())


async def test_an_edit_in_the_way_of_the_hidden_tests_fails_and_is_no_failure_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(tmp_path, monkeypatch)
    repository = tmp_path / "testbed"
    repository.mkdir()
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        (repository / "old.txt").write_text("old\n")
        git(repository, *words)
    patch = (
        "diff --git a/new.txt b/new.txt\nnew file mode 100644\n--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+new\n"
        "diff --git a/old.txt b/old.txt\n--- a/old.txt\n+++ b/old.txt\n@@ -1 +1 @@\n-old\n+older\n"
    )
    command = "cat old.txt new.txt; echo PASSED a::x"
    task = RepositoryTask(
        "x", fail_to_pass=("a::x",), image="a:b", folder=str(repository), test_patch=patch, test_command=command
    )
    assert {"old.txt", "new.txt"} <= task.protected
    tests = DockerTests()
    for edit in ({"new.txt/x.py": "x\n"}, {"new.txt": "cheat\n", "old.txt": "cheat\n"}):
        report = await tests.run(task, edit, task.tests, {"old.txt": "old\n"} if "old.txt" in edit else {})
        assert report.solves(task)  # laid over it, all of it
        assert [(repository / name).read_text() for name in ("old.txt", "new.txt")] == ["older\n", "new\n"]
        git(repository, "reset", "-q", "--hard")
        git(repository, "clean", "-fdq")
    broken = RepositoryTask(**{**task.__dict__, "test_patch": patch.replace("-old\n", "-odd\n")})
    with pytest.raises(ContainerError):
        await tests.run(broken, {}, task.tests)


async def test_an_output_without_end_is_kept_at_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, monkeypatch)
    monkeypatch.setattr(docker_tests, "MAX_HEAD_BYTES", 1000)
    monkeypatch.setattr(docker_tests, "MAX_OUTPUT_BYTES", 1000)
    script = b"echo first; yes | head -c 10000000; echo last"
    _, output = await DockerTests()._command(["run"], script, PATIENCE)
    assert output.startswith(b"first\n") and output.endswith(b"last\n") and len(output) <= 2000


async def test_a_failing_docker_is_no_failing_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, monkeypatch, version="echo no daemon; exit 1", run="echo no such image; exit 125")
    with pytest.raises(UsageError, match="no daemon"):
        await DockerTests().check()
    with pytest.raises(ContainerError, match="no such image"):
        await DockerTests().run(IMAGE_TASK, {}, IMAGE_TASK.tests)


async def test_an_image_is_fetched_once_and_before_its_tests_time_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, run = replace(IMAGE_TASK, folder=str(tmp_path)), f"echo '{docker_tests._MARK}'; echo PASSED a::x"
    log = fake_docker(tmp_path, monkeypatch, image="exit 1", pull="sleep 1", run=run)
    tests = DockerTests()
    await asyncio.gather(*(tests.run(task, {}, task.tests) for _ in range(3)))
    assert log.read_text().count("pull --quiet -- repo/task:1") == 1
    fake_docker(tmp_path / "other", monkeypatch, image="exit 1", pull="echo denied; exit 1", run=run)
    with pytest.raises(ContainerError, match="denied"):
        await DockerTests().run(task, {}, task.tests)


async def test_code_that_ends_as_docker_would_fails_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, monkeypatch, run=f"echo '{docker_tests._MARK}'; exit 125")
    report = await DockerTests().run(IMAGE_TASK, {}, IMAGE_TASK.tests)
    assert not any(report.passed.values())


async def test_code_that_hangs_in_a_container_fails_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, monkeypatch, run="exec sleep 600")
    report = await DockerTests(seconds=0.3).run(IMAGE_TASK, {}, IMAGE_TASK.tests)
    assert not any(report.passed.values())


async def test_without_docker_or_an_image_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="names no container image"):
        await DockerTests().run(TASK, {}, TASK.tests)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="needs the docker command"):
        DockerTests()


def test_hidden_tests_are_laid_over_the_edits() -> None:
    script = script_for(TASK, {"tests/test_stock.py": "cheat"}, TASK.tests, {"tests/test_stock.py": "old"})
    cheat, tests = (docker_tests._base64(text) for text in ("cheat", TASK.test_files["tests/test_stock.py"]))
    assert script.rfind(cheat) < script.rfind(tests) < script.rfind(docker_tests._MARK)
    assert script.rstrip().splitlines()[-2].endswith("'tests/test_stock.py' < /dev/null")


def test_the_runners_of_the_benchmarks_are_read() -> None:
    said = "PASSED a/test_b.py::test_c[x]\ntest_d (m.C) ... ok\ntest_e (m.C) ... FAIL\ntest_f ok\ntest_g F\n"
    found = read_verdicts(said)
    assert (
        found["a/test_b.py::test_c[x]"] == "PASSED"
        and found["test_d (m.C)"] == "ok"
        and found["test_e (m.C)"] == "FAIL"
    )
    assert (found["test_f"], found["test_g"]) == ("ok", "F")
    said = (
        "PASSED a.py::T::test_p[x - y z]\nFAILED a.py::test_q[u v] - boom - again\n"
        "test_h (m.C)\nThe first line of its docstring ... ok\ntest_i (m.C) What it does ... skipped 'no'\n"
    )
    found = read_verdicts(said)
    assert found["a.py::T::test_p[x"] == found["a.py::T::test_p[x - y z]"] == found["T.test_p[x - y z]"] == "PASSED"
    assert found["a.py::test_q[u"] == found["test_q[u v]"] == "FAILED"
    assert found["The first line of its docstring"] == "ok" and found["test_i (m.C)"] == "skipped"
