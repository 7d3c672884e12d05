"""What `scripts/evaluate.py` adds to the calls of its workflows: against the same calls alone, in the same run."""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from aflow_ops.errors import UsageError
from scripts.benching.serving import ROOT, endpoint
from scripts.benching.stage import Stage

LATENCY, WORKFLOWS, CALLS = 0.5, 256, 4
SEQUENCE = (
    "async def workflow(problem):\n    text = problem\n"
    f"    for _ in range({CALLS}):\n"
    "        text = (await custom(input=text + '{}'))['response']\n    return text"
)


@contextmanager
def evaluation(url: str, workflows: int) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start an evaluation of so many problems; yields its process and its folder."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"question": f"What is {i} + 1?", "answer": "42", "source": "gsm8k"} for i in range(workflows)]
        data, workflow, out = (Path(folder) / name for name in ("rows.jsonl", "workflow.py", "out"))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        workflow.write_text(SEQUENCE)
        command = [sys.executable, "scripts/evaluate.py", "--data", data, "--workflow", workflow, "--output", out]
        command += ["--executor_base_url", url, "--executor_cache_dir", "none"]
        command += ["--executor_max_concurrency", str(workflows)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=quiet, stderr=quiet) as process:
            yield process, out


def seconds(url: str, workflows: int) -> float:
    """Evaluate, grading and writing included, without the start-up."""
    with evaluation(url, workflows) as (process, out):
        if process.wait() != 0:
            raise UsageError("scripts/evaluate.py failed; run it by hand to see why")
        return float(json.loads((out / "summary.json").read_text())["seconds"]["run"])


def bare_seconds(url: str, workflows: int) -> float:
    """Make the same calls with the same client and plain asyncio, in a process of their own."""
    command = [sys.executable, "-m", "scripts.benching.bare", url, str(workflows), str(CALLS)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


async def over_bare(workflows: int) -> float:
    """How many times as long the evaluation takes; the better of two each, in turn."""

    def measure() -> float:
        with endpoint(LATENCY) as url:
            rounds = [(bare_seconds(url, workflows), seconds(url, workflows)) for _ in range(2)]
        return min(whole for _, whole in rounds) / min(bare for bare, _ in rounds)

    return await asyncio.to_thread(measure)


async def evaluating() -> float:
    """Seconds of it."""
    with endpoint(LATENCY) as url:
        return await asyncio.to_thread(seconds, url, WORKFLOWS)


async def cpu() -> float:
    """CPU time of one workflow with its grading, interpreters and writing included, milliseconds."""

    def spent(url: str, workflows: int) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds(url, workflows)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with endpoint(LATENCY) as url:
        alone = await asyncio.to_thread(spent, url, 1)
        return (await asyncio.to_thread(spent, url, WORKFLOWS) - alone) / (WORKFLOWS - 1) * 1e3


async def memory() -> float:
    """The most that the evaluation and its interpreters hold together, MiB."""

    def measure() -> float:
        most = 0
        with endpoint(LATENCY) as url, evaluation(url, 4 * WORKFLOWS) as (process, _):
            while process.poll() is None:
                most = max(most, held_bytes(process.pid))
                try:
                    process.wait(1.0)
                except subprocess.TimeoutExpired:
                    continue
        return most / 2**20

    return await asyncio.to_thread(measure)


def held_bytes(pid: int) -> int:
    """Proportional set size of a process and its children: what they share counts once."""
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in tree:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:  # it has ended, or is another user's: a sandbox worker's
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0) * 1024
    return total


STAGES = [
    Stage(f"{WORKFLOWS} x {CALLS} calls through evaluate.py", evaluating, "s", "with grading; ideal 2, goal 4.5"),
    Stage(
        f"... over the same {WORKFLOWS} x {CALLS} calls alone",
        lambda: over_bare(WORKFLOWS),
        "times",
        "bare asyncio, same client; goal 1.25",
    ),
    Stage(f"... {4 * WORKFLOWS} at once, over the calls alone", lambda: over_bare(4 * WORKFLOWS), "times", "goal 1.25"),
    Stage(f"CPU of a workflow of {CALLS} calls, graded", cpu, "ms"),
    Stage(f"... {4 * WORKFLOWS} at once hold", memory, "MiB", "goal 1500"),
]
