"""An evaluation that is killed again and again ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.patience import PATIENCE
from tests.stub_endpoint import Messages, StubEndpoint

ROOT = Path(__file__).parents[2]
KILLS, PROBLEMS, CONCURRENCY = 10, 60, 4
WORKFLOW = """\
async def workflow(problem):
    first = await custom(input=problem)
    second = await custom(input=problem + first["response"])
    return second["response"]"""


def start(url: str, tmp_path: Path, name: str, processes: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts/evaluate.py"), "--data", str(tmp_path / "rows.jsonl")]
    command += ["--workflow", str(tmp_path / "workflow.py"), "--output", str(tmp_path / name)]
    command += ["--executor_base_url", url, "--executor_cache_dir", str(tmp_path / f"cache_{name}")]
    command += ["--executor_max_concurrency", str(CONCURRENCY), "--num_samples", "2", "--processes", str(processes)]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(messages: Messages) -> str:
    """Right for most questions, the same for the same question."""
    text = messages[-1]["content"]
    return str(len(text) * 7919 % 5)


@pytest.mark.long
def test_ten_kills_change_neither_the_rows_nor_what_was_paid(tmp_path: Path) -> None:
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    rows = [{"question": f"What is {'1 + ' * (i % 17)}{i}?", "answer": "3", "source": "gsm8k"} for i in range(PROBLEMS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with StubEndpoint(answer, latency=0.15) as stub:
        whole = start(stub.url, tmp_path, "whole")
        _, err = whole.communicate(timeout=PATIENCE)
        assert whole.returncode == 0, err
        paid = len([request for request in stub.requests if request["max_tokens"] > 1])
        assert paid == 4 * PROBLEMS
        stub.requests.clear()
        dice, kills = random.Random(1), 0
        while kills < KILLS:
            process = start(stub.url, tmp_path, "killed", processes=1 + kills % 2)
            seen = len(stub.requests)
            while len(stub.requests) < seen + 2 and process.poll() is None:  # the check, and the first call
                time.sleep(0.02)
            time.sleep(dice.uniform(0, 0.6))
            assert process.poll() is None, process.communicate()[1]
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=PATIENCE)
            kills += 1
        last = start(stub.url, tmp_path, "killed")
        _, err = last.communicate(timeout=PATIENCE)
        assert last.returncode == 0, err
        asked = len([request for request in stub.requests if request["max_tokens"] > 1])
    assert (tmp_path / "killed/rows.jsonl").read_bytes() == (tmp_path / "whole/rows.jsonl").read_bytes()
    # Only what was on its way at a kill is asked for again.
    assert paid <= asked <= paid + KILLS * CONCURRENCY
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "killed")]
    for summary in summaries:
        summary["cost_usd"] = round(summary["cost_usd"], 12)  # a sum in another order
        for name in ("seconds", "latency_seconds", "cache", "fingerprint"):
            del summary[name]
    assert summaries[0] == summaries[1]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["rows.jsonl", "summary.json"]
