"""The second ring: what the executor's code may and may not do."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from aflow_ops.sandbox import RlimitSandbox, Sandbox, open_sandbox
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
    start = time.monotonic()
    result = await sandbox.run(code, timeout=2)
    assert time.monotonic() - start < 10
    assert not result.ok
    assert error is None or result.error == error
    assert len(result.stdout) <= 2**17


async def test_a_cancelled_run_is_killed(sandbox: Sandbox) -> None:
    task = asyncio.create_task(sandbox.run("import time; time.sleep(60)", timeout=60))
    await asyncio.sleep(0.5)
    task.cancel()
    start = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - start < 5


async def test_rlimits_alone_must_be_asked_for_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert not isinstance(open_sandbox(), RlimitSandbox)
    unsafe = open_sandbox(unsafe_subprocess=True)
    assert isinstance(unsafe, RlimitSandbox)
    result = await unsafe.run("import os; print(sorted(os.environ))", timeout=10)
    assert "OPENAI_API_KEY" not in result.stdout
    assert (await unsafe.run("while True: pass", timeout=1)).error == "timeout"
