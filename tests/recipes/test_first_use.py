"""The recipes' own problems: training sets of benchmarks, fetched at first use; test sets stay untouched."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from aflow_ops.errors import InfraError, UsageError
from data import registry
from data.benchmarks import benchmark
from data.registry import is_test_set
from recipes.settings.arguments import RecipeArguments
from recipes.settings.checks import check_sources
from recipes.training.problems import training_and_heldout_problems
from tests.fake_hub import NOWHERE, FakeHub, use_hub
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
LOAD = """
import json, sys
from recipes.settings.arguments import RecipeArguments
from recipes.training.problems import training_and_heldout_problems
recipe = RecipeArguments(sources=sys.argv[1:], domain_mix="math=1", num_train_problems=20, num_heldout_problems=10)
parts = training_and_heldout_problems(recipe, 0)
print(json.dumps([[[problem.source, problem.question] for problem in part] for part in parts]))
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def gsm8k(numbers: range) -> bytes:
    return parquet([{"question": f"What is {n} apples and {n * n} pears?", "answer": f"#### {n}"} for n in numbers])


def competition(numbers: range, **more: str) -> list[dict[str, Any]]:
    return [{"problem": f"Find the root of x - {n} = {n % 7}.", "solution": f"\\boxed{{{n}}}", **more} for n in numbers]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    train, test = (benchmark("gsm8k").splits[split][0] for split in ("train", "test"))
    math = {
        path: parquet(competition(range(100 * i, 100 * i + 20), level="Level 1", type="Algebra"))
        for i, path in enumerate(benchmark("math").splits["train"])
    }
    # The first rows of MATH-500 are training rows of MATH here.
    tests = [{**row, "answer": "1", "unique_id": f"test/{i}"} for i, row in enumerate(competition(range(0, 5)))]
    with FakeHub() as server:
        server.add(benchmark("gsm8k"), {train: gsm8k(range(60)), test: gsm8k(range(1000, 1010))})
        server.add(benchmark("math"), math)
        server.add(benchmark("math500"), {"test.jsonl": "\n".join(map(json.dumps, tests)).encode()}, lfs=False)
        yield server


def start(tmp_path: Path, endpoint: str, *sources: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, *sources],
        cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.long
def test_training_sets_are_fetched_once_and_held_out_from_and_test_sets_left_alone(
    hub: FakeHub, tmp_path: Path
) -> None:
    runs = [start(tmp_path, hub.url, "gsm8k", "math") for _ in range(2)]  # two processes of one launch
    said = [run.communicate(timeout=PATIENCE) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(hub.fetched()) == len(set(hub.fetched())) == 10
    train, heldout = (
        {(source, question) for source, question in part} for part in json.loads(said[0][0].splitlines()[-1])
    )
    assert {source for source, _ in train} == {source for source, _ in heldout} == {"gsm8k", "math"}
    assert len(train) == 20
    assert not train & heldout
    tested = {json.loads(line)["question"] for line in processed(tmp_path, "gsm8k", "test")}
    assert len(tested) == 10
    assert not tested & {question for _, question in train | heldout}
    assert len(processed(tmp_path, "math", "train")) == 7 * 20 - 5  # without what MATH-500 has


def processed(tmp_path: Path, name: str, split: str) -> list[str]:
    return (tmp_path / "data/cache/processed" / name / f"{split}.jsonl").read_text().splitlines()


def test_without_a_network_it_says_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, NOWHERE, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InfraError, match=r"datasets/openai/gsm8k.*HF_ENDPOINT.*download_datasets.py") as failed:
        training_and_heldout_problems(RecipeArguments(sources=["gsm8k"], domain_mix="math=1"), 0)
    assert "--sources gsm_symbolic" in str(failed.value)


def test_a_dry_run_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", tmp_path)
    recipe = RecipeArguments(sources=["gsm8k", "mbpp"], dry_run=True)
    assert training_and_heldout_problems(recipe, 0) == ([], [])
    assert "gsm8k, mbpp: not in" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_test_set_is_refused_unless_it_is_asked_for() -> None:
    assert [name for name in ("humaneval", "math500", "gsm8k", "aime24", "arithmetic") if is_test_set(name)] == [
        "humaneval",
        "math500",
    ]
    with pytest.raises(UsageError, match=r"humaneval is a test set.*mbpp.*--train_on_test_set"):
        check_sources(["mbpp", "humaneval"], allowed=False)
    check_sources(["mbpp", "humaneval"], allowed=True)


def test_both_parts_of_a_benchmark_come_from_its_training_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", tmp_path)
    (tmp_path / "gsm8k").mkdir()
    for split, first in (("train", 0), ("test", 100)):
        rows = [{"question": f"What is {n}?", "answer": str(n), "source": "gsm8k"} for n in range(first, first + 50)]
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = [
        {int(problem.answer) for problem in registry.load_problems("gsm8k", part, 99, 0)}
        for part in ("train", "heldout")
    ]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == set(range(50))
