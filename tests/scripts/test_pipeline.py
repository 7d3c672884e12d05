"""The whole way from raw files to a report, on the embedded executor: every stage is the real one."""

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "run_full_pipeline.sh"


def run(*flags: object, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    if key is not None:
        environment["OPENAI_API_KEY"] = key
    command = ["bash", str(SCRIPT), *map(str, flags)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)


def raw_files(folder: Path) -> Path:
    """Files in the Hub's schemas, under the names that --source_dir looks for."""
    letters = "abcdefghijklmnopqrst"
    gsm8k = [
        {
            "question": f"Tom has {n} pens and buys {n + 3} more. How many has he?",
            "answer": f"He has...\n#### {2 * n + 3}",
        }
        for n in range(20)
    ]
    math = [{"problem": f"What is ${n}^2$?", "solution": rf"\boxed{{{n * n}}}", "level": "Level 1"} for n in range(20)]
    math500 = [{"problem": f"What is ${n}^3$?", "answer": str(n**3), "unique_id": f"test/{n}"} for n in range(5)]
    humaneval = [
        {
            "task_id": f"Made/{n}",
            "prompt": f'def add_{name}(x):\n    """Add {n} to x."""\n',
            "canonical_solution": f"    return x + {n}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
            "entry_point": f"add_{name}",
        }
        for n, name in enumerate(letters[:4])
    ]
    mbpp = [
        {
            "task_id": n,
            "text": f"Write a function times_{name} that multiplies a number by {n}.",
            "code": f"def times_{name}(x):\r\n    return {n} * x",
            "test_list": [f"assert times_{name}(2) == {2 * n}", f"assert times_{name}(3) == {3 * n}"],
            "test_setup_code": "",
        }
        for n, name in enumerate(letters)
    ]
    hotpotqa = [
        {
            "id": name,
            "question": f"Who wrote the book {name.upper()}?",
            "answer": f"Writer {name}",
            "supporting_facts": {"title": [name], "sent_id": [0]},
            "context": {
                "title": [name, "Rain"],
                "sentences": [[f"Writer {name} wrote {name.upper()}."], ["It rained."]],
            },
        }
        for name in letters
    ]
    drop = [
        {
            "query_id": name,
            "passage": f"Team {name} scored {n} goals in the first half and {n + 1} in the second.",
            "question": f"How many goals did team {name} score in the second half?",
            "answers_spans": {"spans": [str(n + 1)], "types": ["number"]},
        }
        for n, name in enumerate(letters)
    ]
    splits: dict[str, list[dict[str, Any]]] = {
        "gsm8k_train": gsm8k[3:], "gsm8k_test": gsm8k[:3], "math_train": math, "math500_test": math500,
        "humaneval_test": humaneval, "mbpp_train": mbpp[3:], "mbpp_test": mbpp[:3], "hotpotqa_train": hotpotqa[3:],
        "hotpotqa_distractor_validation": hotpotqa[:3], "drop_train": drop[3:], "drop_validation": drop[:3],
    }  # fmt: skip
    for name, rows in splits.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


@pytest.mark.long
def test_the_whole_pipeline_runs_on_a_laptop_and_its_stages_only_once(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    flags = ["--executor", "local", "--limit", 2, "--steps", 1, "--baselines", "io", "--run_dir", tmp_path / "run"]
    flags += ["--source_dir", raw_files(tmp_path / "raw"), "--executor_cache_dir", tmp_path / "cache"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr[-3000:]
    table = (tmp_path / "run" / "comparison.md").read_text()
    for metric in ("gsm8k accuracy", "math accuracy", "humaneval pass", "mbpp pass", "hotpotqa f1", "drop em"):
        assert metric in table
    assert [line.split(" | ")[1] for line in table.splitlines()[2:]] == ["12"] * 3
    assert (tmp_path / "run" / "train" / "report.html").stat().st_size > 20_000
    assert (tmp_path / "run" / "train" / "adapter_model.safetensors").is_file()
    again = run(*flags)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 8
    (tmp_path / "run" / "stages" / "report").unlink()
    only_one = run(*flags)
    assert only_one.stdout.count("done before") == 7 and "== report\n" in only_one.stdout


def test_the_pipeline_says_what_is_wrong(tmp_path: Path) -> None:
    for flags, word in (
        (["--limit", "few"], "whole number"),
        (["--modle", "x"], "--modle"),
        (["--gpu", "gtx970", "--executor", "local"], "gtx970"),
        (["--source_dir", tmp_path / "absent", "--executor", "local"], "no such folder"),
        (["--model"], "needs a value"),
        ([], "OPENAI_API_KEY"),
    ):
        done = run(*flags, "--run_dir", tmp_path / "run") if flags != ["--model"] else run(*flags)
        assert done.returncode == 2, done
        assert word in done.stderr
    assert not (tmp_path / "run").exists()
    assert "--source_dir" in run("--help").stdout


@pytest.mark.long
def test_a_stage_that_fails_is_tried_again_by_the_same_command(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "gsm8k_train.jsonl").write_text("{}\n")
    flags = ["--executor", "local", "--limit", 2, "--source_dir", tmp_path / "raw", "--run_dir", tmp_path / "run"]
    done = run(*flags)
    assert done.returncode != 0
    assert "stage process failed" in done.stderr
    assert "no column 'question'" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(*flags).stdout.startswith("== download: done before\n== process\n")


def test_paths_are_the_callers_own(tmp_path: Path) -> None:
    command = ["bash", str(SCRIPT), "--executor", "local", "--source_dir", "raw"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, f"--source_dir {tmp_path / 'raw'}: no such folder" in done.stderr) == (2, True)
