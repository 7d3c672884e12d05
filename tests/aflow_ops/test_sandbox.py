"""The second ring: what the executor's code may and may not do."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox import Sandbox, open_sandbox
from tests.conftest import KEY


async def test_a_program_gets_its_input_and_gives_its_output(sandbox: Sandbox) -> None:
    result = await sandbox.run("print(_read(3).decode() * 2)", timeout=10, stdin="abc")
    assert (result.ok, result.stdout.strip(), result.error) == (True, "abcabc", None)


async def test_errors_are_the_last_traceback_line(sandbox: Sandbox) -> None:
    result = await sandbox.run("def f():\n    return 1 / 0\nf()", timeout=10)
    assert not result.ok
    assert result.error == "ZeroDivisionError: division by zero"


async def test_numpy_and_sympy_are_there(sandbox: Sandbox) -> None:
    result = await sandbox.run("import numpy, sympy\nprint(sympy.Integer(int(numpy.arange(4).sum())))", timeout=30)
    assert result.stdout.strip() == "6"


ATTACKS = {
    "read /etc/passwd": "print(open('/etc/passwd').read())",
    "list the home folder": "import os; print('root:' + str(os.listdir(os.path.expanduser('~'))))",
    "write to /tmp": "open('{canary}', 'w').write('x'); print('root:')",
    "connect": "import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('root:')",
    "the environment": "import os; print('root:' if 'OPENAI_API_KEY' in os.environ else '')",
    "the parent's environment": "print('root:' + open(f'/proc/{pid}/environ').read())",
    "kill the parent": "import os, signal; os.kill({pid}, signal.SIGKILL); print('root:')",
    "unlink": "import os; os.unlink('{victim}'); print('root:')",
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_attacks_fail(sandbox: Sandbox, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    canary, victim = tmp_path / "canary", tmp_path / "victim"
    victim.write_text("here")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    code = ATTACKS[name]
    for place, value in {
        "canary": canary,
        "victim": victim,
        "pid": os.getpid(),
        "port": server.sockets[0].getsockname()[1],
    }.items():
        code = code.replace("{" + place + "}", str(value))
    result = await sandbox.run(code, timeout=10)
    server.close()
    assert "root:" not in result.stdout
    assert KEY not in result.stdout + result.stderr
    assert not canary.exists()
    assert victim.exists()


BOMBS = {
    "endless loop": ("while True: pass", "timeout"),
    "memory": ("x = bytearray(3 * 2**30)", None),
    "fork": ("import os\nwhile True:\n    os.fork()", None),
    "output": ("while True: print('x' * 10000)", None),
    "sleep": ("import time; time.sleep(100)", "timeout"),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_end_within_their_limit(sandbox: Sandbox, name: str) -> None:
    code, error = BOMBS[name]
    result = await sandbox.run(code, timeout=2)
    assert not result.ok
    assert error is None or result.error == error
    assert len(result.stdout) <= 2**17


async def test_a_cancelled_run_is_killed(sandbox: Sandbox) -> None:
    task = asyncio.create_task(sandbox.run("import time; time.sleep(10**6)", timeout=10**6))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_rlimits_alone_must_be_asked_for_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_sandbox(unsafe_subprocess=True) as unsafe:
        assert "--unsafe_subprocess" in capsys.readouterr().err
        result = await unsafe.run("import os; print(sorted(os.environ))", timeout=10)
        assert result.ok
        assert "OPENAI_API_KEY" not in result.stdout
        assert (await unsafe.run("while True: pass", timeout=1)).error == "timeout"


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
print("left", flush=True)
"""


@pytest.mark.parametrize("unsafe", [False, True], ids=["sandlock", "rlimits"])
async def test_no_process_is_left_behind(unsafe: bool) -> None:
    before = set(psutil.Process().children(recursive=True))
    async with open_sandbox(unsafe_subprocess=unsafe, concurrency=1) as sandbox:
        for _ in range(2):
            assert (await sandbox.run(DAEMON, timeout=5)).stdout == "left\n"
            alive = set(psutil.Process().children(recursive=True)) - before
            assert len(alive) <= 1  # the worker itself
            assert (await sandbox.run("print(1)", timeout=5)).ok
    assert not set(psutil.Process().children(recursive=True)) - before


STATE = """
import builtins, sys
print(builtins.sum([1, 2]), getattr(sys, "mark", None), len("ab"))
builtins.sum = lambda values: 99
builtins.len = None
sys.mark = "here"
"""


async def test_nothing_of_one_program_reaches_the_next() -> None:
    async with open_sandbox(concurrency=1) as sandbox:
        results = [await sandbox.run(STATE, timeout=5) for _ in range(3)]
    assert [result.stdout for result in results] == ["3 None 2\n"] * 3


async def test_equal_programs_draw_equal_random_numbers(sandbox: Sandbox) -> None:
    for code in ("import random; print(random.random())", "import numpy; print(numpy.random.rand())"):
        assert (await sandbox.run(code, timeout=30)).stdout == (await sandbox.run(code, timeout=30)).stdout


async def test_a_program_cannot_read_the_next_ones_input() -> None:
    """What a program leaves unread on its standard input is gone, not the next one's."""
    async with open_sandbox(concurrency=1) as sandbox:
        await sandbox.run("pass", timeout=5, stdin="secret" * 100_000)
        assert (await sandbox.run("import sys; print(sys.stdin.read())", timeout=5)).stdout == "\n"


async def test_a_worker_that_is_killed_is_replaced() -> None:
    async with open_sandbox(concurrency=1) as sandbox:
        await sandbox.run("pass", timeout=5)
        task = asyncio.create_task(sandbox.run("import time; time.sleep(0.5); print(1)", timeout=5))
        await asyncio.sleep(0.2)
        for process in psutil.Process().children():
            if "nursery" in "".join(process.cmdline()):
                process.kill()
        assert (await task).stdout == "1\n"


async def test_a_program_cannot_signal_its_worker(sandbox: Sandbox) -> None:
    result = await sandbox.run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", timeout=5)
    assert result.error == "PermissionError: [Errno 1] Operation not permitted"


async def test_a_closed_sandbox_says_so() -> None:
    async with open_sandbox() as sandbox:
        pass
    with pytest.raises(SandboxError, match="closed"):
        await sandbox.run("pass", timeout=5)
