"""The second ring: what the executor's code may and may not do."""

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox import Program, Sandbox, filters, open_sandbox
from aflow_ops.sandbox.inside.nursery import is_abandoned
from aflow_ops.sandbox.warm import WarmSandbox
from aflow_ops.sandbox.worker import Worker
from data.problem import Problem
from rewards.graders.code import grade_code
from tests.conftest import KEY
from tests.patience import PATIENCE


def forking(code: str) -> Program:
    """A program of ours that may fork."""
    return Program(compile("def main():\n" + textwrap.indent(code, "    "), "<ours>", "exec"), forks=True)


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


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_program_may_print_64_kib_and_not_a_byte_more(sandbox: Sandbox, stream: str) -> None:
    for size, error in ((2**16, None), (2**16 + 1, "output"), (3 * 2**16, "output")):
        code = f"import sys\nsys.{stream}.write('x' * {size})\nsys.{stream}.flush()"
        result = await sandbox.run(code, timeout=PATIENCE)
        assert (result.error, len(getattr(result, stream))) == (error, 2**16)


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
    try:
        os.setsid()
    except OSError:
        pass
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
            assert (await sandbox.run(forking(DAEMON), timeout=5)).stdout == "left\n"
            alive = set(psutil.Process().children(recursive=True)) - before
            assert len(alive) <= 3  # the worker itself, and the two processes that hold its namespaces
            assert (await sandbox.run("print(1)", timeout=5)).ok
    assert not set(psutil.Process().children(recursive=True)) - before


async def test_a_worker_that_is_being_started_while_its_sandbox_closes_is_ended_too() -> None:
    asked, go = threading.Event(), threading.Event()
    workers: list[Worker] = []

    def launch(warmth: str) -> Worker:
        asked.set()
        assert go.wait(PATIENCE)
        workers.append(Worker(["sleep", "1000"]))
        return workers[-1]

    before = set(psutil.Process().children())
    sandbox = WarmSandbox(launch)
    for alone in (False, True):
        talk = asyncio.create_task(sandbox.converse("pass", timeout=60, alone=alone).__aenter__())
        await asyncio.to_thread(asked.wait, PATIENCE)
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)
    closing = asyncio.create_task(asyncio.to_thread(sandbox.close))
    await asyncio.sleep(0.1)
    go.set()
    await closing
    assert workers and not set(psutil.Process().children()) - before


def test_a_worker_knows_that_its_host_is_gone_before_it_reads_what_was_sent() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.send(b"a job")
        assert not is_abandoned(theirs.fileno())
        ours.close()
        assert is_abandoned(theirs.fileno())


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


async def test_a_worker_runs_the_body_of_a_program_of_ours_once_and_each_run_starts_from_there() -> None:
    body = "import os\nhere, seen = os.getpid(), []\ndef main():\n    seen.append(_read(1))\n    print(here, len(seen))"
    ours = Program(compile(body, "<ours>", "exec"))
    async with open_sandbox(concurrency=1) as sandbox:
        results = [await sandbox.run(ours, timeout=PATIENCE, stdin=letter) for letter in "ab"]
        other = await sandbox.run("print('seen' in globals())", timeout=PATIENCE)
    assert results[0].stdout == results[1].stdout == f"{results[0].stdout.split()[0]} 1\n"
    assert other.stdout == "False\n"


async def test_a_program_of_ours_that_cannot_be_loaded_says_why_in_every_run(sandbox: Sandbox) -> None:
    ours = Program(compile("import nothing_of_this_name\ndef main(): pass", "<ours>", "exec"))
    for _ in range(2):
        error = (await sandbox.run(ours, timeout=PATIENCE)).error
        assert error == "ModuleNotFoundError: No module named 'nothing_of_this_name'"


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


def nurseries() -> list[psutil.Process]:
    """The warm interpreters below this process: what starts them is this process or bubblewrap."""
    this, found = psutil.Process(), []
    for process in this.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            parent = process.parent()
            if "python" in process.name() and parent and (parent == this or "bwrap" in parent.name()):
                found.append(process)
    return found


async def kill_while_a_program_runs(times: int) -> None:
    """Kill the worker of the program that computes, that many times."""
    for _ in range(times):
        killed = False
        while not killed:
            await asyncio.sleep(0.01)
            for nursery in nurseries():
                with suppress(psutil.NoSuchProcess):
                    below = nursery.children(recursive=True)
                    if sum(process.cpu_times().user for process in below) > 0.1:  # it has begun long ago
                        nursery.kill()
                        killed = True


SPIN = "while True: pass"


async def test_a_program_during_which_two_workers_are_lost_is_to_blame() -> None:
    async with open_sandbox(concurrency=1) as sandbox:
        result, _ = await asyncio.gather(sandbox.run(SPIN, timeout=PATIENCE), kill_while_a_program_runs(2))
        assert (result.ok, result.error) == (False, "lost")
        assert sandbox.counts.replaced == 2
        assert (await sandbox.run("print(1)", timeout=PATIENCE)).stdout == "1\n"


async def test_a_solution_during_which_two_workers_are_lost_earns_tier_1() -> None:
    row = {"question": "?", "answer": "", "source": "made", "domain": "code", "entry_point": "f"}
    problem = Problem.from_row({**row, "tests": ["assert candidate() == 1"]})
    async with open_sandbox(concurrency=1) as sandbox:
        code = f"def f():\n    return 1\n{SPIN}"
        grade, _ = await asyncio.gather(grade_code(code, problem, sandbox), kill_while_a_program_runs(2))
        assert (grade.tier, grade.detail) == (1, "a sandbox worker was lost twice")


async def test_a_program_that_cannot_be_shut_off_is_not_run_and_that_is_our_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filters, "compile_filter", lambda kind: bytes(8))  # no filter that a kernel takes
    async with open_sandbox(concurrency=1) as sandbox:
        with pytest.raises(SandboxError, match="prctl 22"):
            await sandbox.run("print(1)", timeout=PATIENCE)
        async with sandbox.converse("_send(b'x')", timeout=PATIENCE) as session:
            with pytest.raises(SandboxError, match="prctl 22"):
                await session.result()


CHANGES: dict[str, Callable[[psutil.Process], object]] = {
    "an affinity": lambda nursery: nursery.cpu_affinity(nursery.cpu_affinity()[:1]),
    "a niceness": lambda nursery: nursery.nice(7),
    "a scheduling class": lambda nursery: os.sched_setscheduler(nursery.pid, os.SCHED_BATCH, os.sched_param(0)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_worker_that_is_not_as_it_was_is_replaced(name: str) -> None:
    others = nurseries()  # of the session's own sandbox
    async with open_sandbox(concurrency=1) as sandbox:
        await sandbox.run("pass", timeout=PATIENCE)
        [nursery] = [process for process in nurseries() if process not in others]
        CHANGES[name](nursery)
        assert (await sandbox.run("print(1)", timeout=PATIENCE)).stdout == "1\n"
        assert sandbox.counts.replaced == 1
        assert (await sandbox.run("print(2)", timeout=PATIENCE)).stdout == "2\n"
        assert sandbox.counts.replaced == 1


async def test_a_program_cannot_signal_its_worker(sandbox: Sandbox) -> None:
    result = await sandbox.run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", timeout=5)
    assert result.error is not None and result.error.startswith(("OSError", "PermissionError"))


def test_root_without_a_user_to_become_has_none_of_roots_rights() -> None:
    code = (
        "from aflow_ops.sandbox.inside.confinement import drop_capabilities\ndrop_capabilities()\n"
        "print(*(line for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert set(done.stdout.split()) == {"CapEff:", "CapPrm:", "0" * 16}


async def test_a_session_answers_while_it_runs(sandbox: Sandbox) -> None:
    code = "import os\nwhile True:\n    _send(_receive() + b' seen')"
    async with sandbox.converse(code, timeout=60) as session:
        for message in (b"one", b"two", b"x" * 300_000):
            await session.send(message)
            assert await session.receive() == message + b" seen"


async def test_a_session_ends_with_the_programs_own_error(sandbox: Sandbox) -> None:
    async with sandbox.converse("_send(b'begun'); 1 / 0", timeout=60) as session:
        assert await session.receive() == b"begun"
        assert await session.receive() is None
        assert (await session.result()).error == "ZeroDivisionError: division by zero"


async def test_a_session_has_a_limit_on_computing_and_one_on_waiting(sandbox: Sandbox) -> None:
    async with sandbox.converse("while True: pass", timeout=60, cpu_seconds=1) as session:
        assert (await session.result()).error == "killed"
    async with sandbox.converse("_receive()", timeout=0.2) as session:
        assert (await session.result()).error == "timeout"


async def test_a_run_has_a_limit_on_computing(sandbox: Sandbox) -> None:
    result = await sandbox.run("while True: pass", timeout=60, cpu_seconds=1)
    assert not result.ok and result.error == "killed"
    assert (await sandbox.run("import time; time.sleep(1.5)", timeout=60, cpu_seconds=1)).ok


async def test_a_session_that_is_left_is_ended() -> None:
    before = set(psutil.Process().children(recursive=True))
    async with open_sandbox(concurrency=1) as sandbox:
        for _ in range(2):
            async with sandbox.converse("_send(b'x')\nwhile True: pass", timeout=60) as session:
                assert await session.receive() == b"x"
        async with sandbox.converse("_send(b'x')", timeout=60) as session:
            assert (await session.result()).ok
        assert len(set(psutil.Process().children(recursive=True)) - before) <= 3
        assert sandbox.counts.replaced == 0


async def test_many_sessions_wait_at_once_and_one_worker_serves_them() -> None:
    async with open_sandbox(concurrency=1) as sandbox:

        async def talk(number: int) -> bytes | None:
            async with sandbox.converse("_send(_receive())", timeout=60) as session:
                started.release()
                await everybody.wait()
                await session.send(str(number).encode())
                return await session.receive()

        started, everybody = asyncio.Semaphore(0), asyncio.Event()
        talks = [asyncio.create_task(talk(number)) for number in range(256)]
        for _ in talks:
            await started.acquire()
        everybody.set()
        assert await asyncio.gather(*talks) == [str(number).encode() for number in range(256)]


async def test_a_session_alone_shares_its_worker_with_nobody() -> None:
    others = len(nurseries())
    async with open_sandbox(concurrency=1) as sandbox:
        wait = "_send(b'x'); _receive()"
        async with (
            sandbox.converse(wait, timeout=60) as first,
            sandbox.converse(wait, timeout=60, alone=True) as second,
        ):
            assert [await session.receive() for session in (first, second)] == [b"x", b"x"]
            assert len(nurseries()) - others == 2
        assert len(nurseries()) - others == 1
        assert sandbox.counts.replaced == 0


@pytest.mark.parametrize(
    ("first", "error"),
    [
        ("(1 << 40).to_bytes(8, 'big') + b'm'", "output"),
        ("bytes(1 << 16)", "output"),
        ("bytes([0] * 7 + [1]) + b'e'", ""),
    ],
    ids=["a message that is too long", "messages of nothing", "last words without an end"],
)
async def test_a_flood_of_messages_ends_the_session(sandbox: Sandbox, first: str, error: str) -> None:
    code = f"import os\nwhile True: os.write(_channel, {first})"
    async with sandbox.converse(code, timeout=PATIENCE) as session:
        assert await session.receive() is None
        assert (await session.result()).error == (error or "killed")
        assert await session.receive() is None


async def test_a_session_of_ours_reports_past_the_code_it_runs(sandbox: Sandbox) -> None:
    code = """
import os
if os.fork() == 0:
    os.close(_channel)
    _confine()
    try:
        os.write(_channel, b"forged")
    finally:
        os._exit(0)
os.wait()
_send(b"ours")
"""
    async with sandbox.converse(forking(code), timeout=60) as session:
        assert [await session.receive(), await session.receive()] == [b"ours", None]


async def test_a_closed_sandbox_says_so() -> None:
    async with open_sandbox() as sandbox:
        pass
    with pytest.raises(SandboxError, match="closed"):
        await sandbox.run("pass", timeout=5)


# What a program may do with its output when `/proc` lets it open that again, and what it must come to.
AGAIN = """import os
again = {name: os.open("/proc/self/fd/1", flags) for name, flags in
         (("w", os.O_WRONLY), ("r", os.O_RDONLY | os.O_NONBLOCK), ("rw", os.O_RDWR | os.O_NONBLOCK))}
"""
USES_OF_OUTPUT = {
    "writes to it": ("os.write(again['w'], b'a'); print('b', end='')", (True, "ab", None)),
    "reads what it wrote": ("os.write(1, b'a'); os.read(again['r'], 9); print('b', end='')", (True, "b", None)),
    "writes a report": ("""os.write(again['w'], b'S{"status": 0, "cut": null, "changed": []}'); os._exit(3)""",
                        (False, 'S{"status": 0, "cut": null, "changed": []}', "killed")),
    "writes without end": ("while True: os.write(again['w'], b'a' * 4096)", (False, "a" * 65_536, "output")),
    "leaves it full": ("[os.write(again['rw'], b'a' * 4096) for _ in range(16)]", (True, "a" * 65_536, None)),
}  # fmt: skip


async def test_output_that_is_opened_again_is_the_programs_own() -> None:
    async with open_sandbox(concurrency=1, namespaces=False) as alone:
        opened = await alone.run(AGAIN, timeout=PATIENCE)
        if not opened.ok:  # root's programs are another user, and the output is not theirs
            assert os.geteuid() == 0 and "PermissionError" in (opened.error or "")
            return
        for use, (code, expected) in USES_OF_OUTPUT.items():
            result = await alone.run(AGAIN + code, timeout=PATIENCE)
            assert (result.ok, result.stdout, result.error) == expected, use
        assert alone.counts.replaced == 0
