"""Nothing gets out of the sandbox: by root and by nobody, with namespaces and without; and every attempt is a real one.

As a program, it runs the escapes as the user who starts it and prints in JSON which succeeded.
"""

import asyncio
import json
import os
import re
import subprocess
import sys

import pytest

from aflow_ops.sandbox import Sandbox, open_sandbox
from aflow_ops.sandbox.walls import find_walls
from tests.aflow_ops.escapes import CALLS, LEAKS, MAY_BE_MISSING, PROGRAMS, program
from tests.aflow_ops.nobody import ROOT, as_nobody
from tests.aflow_ops.unprotected import walled_in
from tests.patience import PATIENCE

HONEST = "import math; print(math.comb(10, 5), sum([1, 2]), __import__('json').dumps([1]))"
HONEST_OUTPUT = "252 3 [1]\n"
x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")


async def run_escapes(sandbox: Sandbox, names: list[str]) -> dict[str, list[str]]:
    """Which escapes succeed, after which an honest program does not get its right answer, and what is found later."""
    found: dict[str, list[str]] = {"escaped": [], "harmed": [], "leaked": []}
    for name in names:
        if "ESCAPED" in (await sandbox.run(program(name), timeout=20)).stdout:
            found["escaped"].append(name)
        if (await sandbox.run(HONEST, timeout=20)).stdout != HONEST_OUTPUT:
            found["harmed"].append(name)
    for name, (leave, look) in LEAKS.items():
        await sandbox.run(leave, timeout=20)
        if "ESCAPED" in (await sandbox.run(f"{look}\nprint('ESCAPED')", timeout=20)).stdout:
            found["leaked"].append(name)
    return found


def listed() -> set[str]:
    """What aflow_ops/README.md says is open without namespaces."""
    text = (ROOT / "aflow_ops" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("**Without namespaces**") :].split("\n\n", 2)[1]
    return set(re.findall(r"^- `([^`]+)`", section, re.MULTILINE))


async def test_a_sample_of_escapes(sandbox: Sandbox) -> None:
    found = await run_escapes(sandbox, sorted([*PROGRAMS, *CALLS])[::8])
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
    assert set(LEAKS) == set(found["leaked"])


@pytest.mark.long
@x86
@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "none"])
@pytest.mark.parametrize("nobody", [False, True], ids=["myself", "nobody"])
def test_no_program_escapes(nobody: bool, namespaces: bool) -> None:
    assert len(PROGRAMS) + len(CALLS) >= 200
    command: list[str] | None = [sys.executable, "-m", "tests.aflow_ops.test_escapes", str(int(namespaces))]
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
            "replaced": 0,
        }
    elif namespaces:
        pytest.skip("the kernel gives no namespaces")
    else:
        assert set(found["escaped"]) == listed()
        assert (found["harmed"], found["leaked"], found["replaced"]) == ([], [], 0)


async def everything(namespaces: bool) -> dict[str, object]:
    """Run all escapes as the user that this is."""
    async with open_sandbox(concurrency=1, namespaces=namespaces) as sandbox:
        found = await run_escapes(sandbox, [*PROGRAMS, *CALLS])
        used = find_walls(namespaces=namespaces)[0].bwrap is not None
        return {**found, "user": os.geteuid(), "namespaces": used, "replaced": sandbox.counts.replaced}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(everything(sys.argv[1] == "1"))))
