"""Nothing gets out of the sandbox: by root and by nobody, with namespaces and without; and every attempt is a real one.

Each is tried as a solution, as a workflow that has got at the builtins which it is not shown, and in the first ring,
past the checker. As a program, this runs the escapes as the user who starts it and prints in JSON which succeeded.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from pydantic_monty import MontyError
from pydantic_monty._binary import find_monty_binary

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import Workflow
from aflow_ops.operators.programs import run_public_tests
from aflow_ops.rings.first import FirstRing
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox, open_sandbox, walls
from aflow_ops.sandbox.walls import find_walls
from data.problem import ProblemView
from rewards.graders.code import grade_code
from tests.aflow_ops.escapes import CALLS, LEAKS, MAY_BE_MISSING, PROGRAMS, program
from tests.aflow_ops.nobody import ROOT, as_nobody
from tests.aflow_ops.test_verdicts import FORGED, PROBLEM, TESTS
from tests.aflow_ops.unprotected import walled_in
from tests.patience import PATIENCE

HONEST = "import json, math; print(math.comb(10, 5), sum([1, 2]), json.dumps([1]))"
HONEST_OUTPUT = "252 3 [1]"
# Its channel, and the three of its event loop.
GIVEN = {"solution": 3, "workflow": 7, "first ring": 3}
WORKFLOW = """
async def workflow(problem):
    found = [kind for kind in ().__class__.__mro__[1].__subclasses__() if kind.__name__ == "_wrap_close"][0]
    inside = found.__init__.__globals__
    channel = inside["sys"].modules["__main__"]
    def said(*texts, **options):
        channel._send(json.dumps({"done": " ".join(map(str, texts))}).encode())
    inside["__builtins__"]["exec"](CODE, {"__builtins__": inside["__builtins__"], "print": said})
"""
VIEW = ProblemView("What is 6 * 7?", "math")
LIMITS = RuntimeLimits(timeout=20.0)
RunProgram = Callable[[str], Awaitable[str]]
x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")


def as_solutions(sandbox: Sandbox) -> RunProgram:
    """What runs a program by itself and returns what it printed."""

    async def run(code: str) -> str:
        return (await sandbox.run(code, timeout=LIMITS.timeout)).stdout.strip()

    return run


def as_workflows(runtime: WorkflowRuntime) -> RunProgram:
    """What runs a program as a workflow in CPython, past the checker, and returns the line that it printed."""

    async def run(code: str) -> str:
        source = WORKFLOW.replace("CODE", repr(textwrap.dedent(code)))
        trace = await runtime.run(Workflow("short", source, source, ()), VIEW)
        assert trace.outcome != "infra_error", trace.error
        return trace.answer or ""

    return run


def in_first_ring(ring: FirstRing) -> RunProgram:
    """What runs a program in Monty and returns what it printed."""

    async def run(code: str) -> str:
        printed: list[str] = []
        with suppress(MontyError):
            async with ring._pool.checkout(limits=ring._limits) as session:
                await session.feed_run(code, print_callback=lambda stream, text: printed.append(text))
        return "".join(printed).strip()

    return run


async def run_escapes(run: RunProgram, names: list[str], first: int) -> dict[str, list[str]]:
    """Which escapes succeed, after which an honest program does not get its right answer, and what is found later."""
    found: dict[str, list[str]] = {"escaped": [], "harmed": [], "leaked": []}
    for name in names:
        if "ESCAPED" in await run(program(name, first=first)):
            found["escaped"].append(name)
        if await run(HONEST) != HONEST_OUTPUT:
            found["harmed"].append(name)
    for name, (leave, look) in LEAKS.items():
        await run(leave)
        if "ESCAPED" in await run(f"{look}\nprint('ESCAPED')"):
            found["leaked"].append(name)
    return found


async def forged_verdicts(sandbox: Sandbox) -> list[str]:
    """Which wrong solutions that say that they are right are believed, by the Test operator or the grader."""
    found = []
    for name, code in FORGED.items():
        report = await run_public_tests(code, "double", TESTS, sandbox.run, seconds=2)
        if report.passed or (await grade_code(code, PROBLEM, sandbox)).correct:
            found.append(name)
    return found


def listed() -> set[str]:
    """What aflow_ops/README.md says is open without namespaces."""
    text = (ROOT / "aflow_ops" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("**Without namespaces**") :].split("\n\n", 2)[1]
    return set(re.findall(r"^- `([^`]+)`", section, re.MULTILINE))


async def test_a_sample_of_escapes(sandbox: Sandbox, runtime: WorkflowRuntime) -> None:
    names = sorted([*PROGRAMS, *CALLS])
    async with FirstRing(LIMITS) as ring:
        found = await run_escapes(in_first_ring(ring), names[3::24], GIVEN["first ring"])
    assert found == {"escaped": [], "harmed": [], "leaked": []}
    assert await run_escapes(as_solutions(sandbox), names[::12], 3) == {"escaped": [], "harmed": [], "leaked": []}
    async with WorkflowRuntime(runtime.executor, sandbox, LIMITS, "cpython") as cpython:
        found = await run_escapes(as_workflows(cpython), names[6::24], GIVEN["workflow"])
    assert found == {"escaped": [], "harmed": [], "leaked": []}


@pytest.mark.long
@x86
def test_every_escape_works_where_no_wall_stands() -> None:
    command = walled_in([sys.executable, "-m", "tests.aflow_ops.unprotected"])
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,  # some read it
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    if not done.stdout:
        pytest.skip(f"no namespaces to try it in: {done.stderr}")
    found = json.loads(done.stdout)
    assert set(PROGRAMS) | set(CALLS) <= set(found["escaped"]) | MAY_BE_MISSING
    assert set(LEAKS) - MAY_BE_MISSING == set(found["leaked"]) - MAY_BE_MISSING


@pytest.mark.long
@x86
@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "none"])
@pytest.mark.parametrize("nobody", [False, True], ids=["myself", "nobody"])
@pytest.mark.parametrize("form", list(GIVEN))
def test_no_program_escapes(form: str, nobody: bool, namespaces: bool) -> None:
    assert len(PROGRAMS) + len(CALLS) >= 490
    command: list[str] | None = [sys.executable, "-m", "tests.aflow_ops.test_escapes", form, str(int(namespaces))]
    if nobody:
        if os.geteuid() != 0:
            pytest.skip("the tests run as nobody in particular already")
        command = as_nobody(command or [])
        if command is None:
            pytest.skip("no bubblewrap or setpriv")
    environment = {**os.environ, "HOME": "/nonexistent"} if nobody else None
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=6 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if found.pop("namespaces"):
        assert namespaces
        assert found == {
            "user": 65534 if nobody else os.geteuid(),
            "escaped": [],
            "harmed": [],
            "leaked": [],
            "forged": [],
            "replaced": 0,
        }
    elif namespaces:
        pytest.skip("the kernel gives no namespaces")
    else:
        open_ones = set() if form == "first ring" else listed()
        # A worker that is another user than the trainer does not see into its folder of descriptors, nor its output.
        another = {"a descriptor of others", "standard output opened again"}
        assert open_ones - set(LEAKS) - another <= set(found["escaped"]) <= open_ones - set(LEAKS)
        # Not every file system keeps what leaks.
        assert set(found["leaked"]) <= open_ones & set(LEAKS)
        assert (found["harmed"], found["forged"], found["replaced"]) == ([], [], 0)


async def everything(form: str, namespaces: bool) -> dict[str, object]:
    """Run all escapes as the user that this is."""
    if form == "first ring":
        return await everything_in_first_ring(namespaces)
    unasked = ExecutorConfig(executor_base_url="http://127.0.0.1:9/v1", executor_cache_dir="none")
    async with (
        open_sandbox(concurrency=1, namespaces=namespaces) as sandbox,
        open_executor(unasked) as executor,
        WorkflowRuntime(executor, sandbox, LIMITS, "cpython") as runtime,
    ):
        run = as_workflows(runtime) if form == "workflow" else as_solutions(sandbox)
        found = await run_escapes(run, [*PROGRAMS, *CALLS], GIVEN[form])
        forged = await forged_verdicts(sandbox) if form == "solution" else []
        used = find_walls(namespaces=namespaces)[0].bwrap is not None
        return {
            **found,
            "forged": forged,
            "user": os.geteuid(),
            "namespaces": used,
            "replaced": sandbox.counts.replaced,
        }


async def everything_in_first_ring(namespaces: bool) -> dict[str, object]:
    """The same in Monty."""
    if not namespaces:
        walls.bubblewraps = list
    async with FirstRing(LIMITS) as ring:
        found = await run_escapes(in_first_ring(ring), [*PROGRAMS, *CALLS], GIVEN["first ring"])
    used = walls.walled_binary(find_monty_binary()) is not None
    return {**found, "forged": [], "user": os.geteuid(), "namespaces": used, "replaced": 0}


if __name__ == "__main__":
    os.environ["OPENAI_API_KEY"] = "unused"
    print(json.dumps(asyncio.run(everything(sys.argv[1], sys.argv[2] == "1"))))
