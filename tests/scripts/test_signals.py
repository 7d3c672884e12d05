"""Ctrl-C, SIGTERM and SIGKILL in the middle of the work: all that was started is gone soon, and the exit code tells."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.commands import KEY
from tests.patience import PATIENCE
from tests.stub_endpoint import Broken, StubEndpoint

ROOT = Path(__file__).parents[2]
WORKFLOW = """\
async def workflow(problem, entry_point):
    code = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="")
    tested = await test(problem=problem, solution=code["response"], entry_point=entry_point)
    more = await custom(input=problem)
    return tested["solution"]"""
ROW = {
    "question": "def f(x):\n    ...",
    "answer": "",
    "source": "mbpp",
    "entry_point": "f",
    "public_tests": ["assert f(1) == 1"],
    "tests": ["assert f(2) == 2"],
}


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)], ids=str
)
def test_a_signal_stops_everything_without_waiting_for_it(
    number: int, code: int, processes: int, tmp_path: Path
) -> None:
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**ROW, "id": str(i)}) + "\n" for i in range(8)))
    # The solution that the executor writes hangs, so sandbox workers are busy; further replies never come.
    with StubEndpoint() as stub:
        stub.slow_seconds = 10 * PATIENCE
        endless = "```python\ndef f(x):\n    while True: pass\n```"
        stub.answer = lambda messages: endless if len(stub.requests) <= 8 else Broken("slow")
        flags = ["--executor_base_url", stub.url, "--executor_cache_dir", "none", "--executor_timeout", str(PATIENCE)]
        flags += ["--workflow_timeout", "3600"]
        command = [sys.executable, str(ROOT / "scripts/evaluate.py"), "--data", str(tmp_path / "rows.jsonl")]
        command += ["--workflow", str(tmp_path / "workflow.py"), "--output", str(tmp_path / "out"), *flags]
        command += ["--processes", str(processes)]
        environment = {**os.environ, "OPENAI_API_KEY": KEY}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children: list[psutil.Process] = []
        deadline = time.monotonic() + PATIENCE
        while (len(stub.requests) < 9 or len(children) < 2) and time.monotonic() < deadline:
            time.sleep(0.05)
            children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2  # interpreters and sandbox workers
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert alive == []
