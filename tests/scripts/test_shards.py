"""An evaluation and a search in parts come to exactly what one run gives; parts that do not fit are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from aflow_ops.executor import executor_config_from
from data.problem import Problem
from scripts.evaluate import chosen_processes, parse_arguments
from scripts.evaluating.candidates import PolicySettings
from scripts.evaluating.evaluation import Evaluation
from scripts.evaluating.grading import Sample, parts_of
from scripts.evaluating.shards import Shard
from tests.commands import Done, fails, run, run_process
from tests.scripts.test_search import executor, sums
from tests.stub_endpoint import Failure, Messages, StubEndpoint

__all__ = ["sums"]  # a fixture

WORKFLOW = "async def workflow(problem):\n    return (await custom(input=problem))['response']"
OTHER = "AnswerGenerate -> Format"
# What depends on the day.
TIMES = ("seconds", "latency_seconds", "cache")


def answer(messages: Messages) -> str:
    """Right for some questions, the same for the same question."""
    return str(sum(messages[-1]["content"].encode()) % 3)


@pytest.fixture
def data(stub: StubEndpoint, tmp_path: Path) -> Path:
    stub.answer = answer
    rows = [{"question": f"What is {i} * {i}?", "answer": "1", "source": "gsm8k"} for i in range(11)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "one.py").write_text(WORKFLOW)
    (tmp_path / "workflows" / "two.dsl").write_text(OTHER)
    return tmp_path


def evaluate(stub: StubEndpoint, data: Path, name: str, *flags: object, run: Callable[..., Done] = run) -> Done:
    executed = ("--executor_base_url", stub.url, "--executor_cache_dir", "none")
    given = ("--data", data / "rows.jsonl", "--workflow", data / "workflows" / "one.py", "--num_samples", 2)
    return run("scripts/evaluate.py", *given, "--output", data / name, *executed, *flags)


def merge(data: Path, *names: str, into: str = "merged") -> Done:
    return run("scripts/evaluate.py", "--merge", *(data / name for name in names), "--output", data / into)


def lasting(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    summary["cost_usd"] = round(summary["cost_usd"], 12)  # a sum in another order
    return {name: value for name, value in summary.items() if name not in TIMES}


@pytest.fixture
def shards(stub: StubEndpoint, data: Path) -> list[str]:
    names = [f"shard{number}" for number in (1, 2, 3)]
    for number, name in enumerate(names, start=1):
        done = evaluate(stub, data, name, "--shard", f"{number}/3")
        assert done.returncode == 0, done.stderr
    return names


def test_merged_shards_are_what_one_run_gives(stub: StubEndpoint, data: Path, shards: list[str]) -> None:
    assert evaluate(stub, data, "whole").returncode == 0
    assert merge(data, *reversed(shards)).returncode == 0
    assert evaluate(stub, data, "processes", "--processes", 3, run=run_process).returncode == 0
    for name in ("merged", "processes"):
        assert (data / name / "rows.jsonl").read_bytes() == (data / "whole" / "rows.jsonl").read_bytes()
        assert lasting(data / name) == lasting(data / "whole")
    assert 0 < lasting(data / "whole")["correct"] < 1
    asked = len(stub.requests)
    again = evaluate(stub, data, "merged")
    assert again.returncode == 0 and "has this evaluation already" in again.stderr
    assert [request["max_tokens"] for request in stub.requests[asked:]] == [1]  # the check that the endpoint answers


def test_every_system_of_a_folder_is_merged(stub: StubEndpoint, data: Path) -> None:
    flags = ("--workflow", data / "workflows")
    for name, more in (("whole", ()), ("a", ("--shard", "1/2")), ("b", ("--shard", "2/2"))):
        assert evaluate(stub, data, name, *flags, *more).returncode == 0
    assert merge(data, "a", "b").returncode == 0
    for system in ("one", "two"):
        rows = [(data / name / system / "rows.jsonl").read_bytes() for name in ("merged", "whole")]
        assert rows[0] == rows[1]
        assert lasting(data / "merged" / system) == lasting(data / "whole" / system)


def test_what_does_not_fit_is_refused_by_name(stub: StubEndpoint, data: Path, shards: list[str]) -> None:
    fails(merge(data, "shard1", "shard3"), 2, "shard 2/3 is missing")
    fails(merge(data, "shard1", "shard1", "shard3"), 2, "shard1", "are both shard 1")
    fails(merge(data, "shard1", "elsewhere"), 2, "elsewhere has no shard.json")
    evaluate(stub, data, "hot", "--shard", "2/3", "--executor_temperature", 0.1)
    fails(merge(data, "shard1", "hot", "shard3"), 2, "hot was made with --executor_temperature 0.1")
    evaluate(stub, data, "four", "--shard", "2/4")
    fails(merge(data, "shard1", "four", "shard3"), 2, "four is one of 4 shards")
    rows = data / "shard2" / "rows.jsonl"
    before = rows.read_text()
    rows.write_text(before.replace('"correct": false', '"correct": true', 1))
    fails(merge(data, *shards), 2, "shard2/rows.jsonl was changed", "run shard 2/3 again")
    rows.write_text(before)
    manifest = data / "shard3" / "shard.json"
    sealed = manifest.read_text()
    manifest.write_text(sealed.replace('"own_seconds"', '"other_seconds"'))
    fails(merge(data, *shards), 2, "shard3/shard.json was changed")
    manifest.write_text(sealed)
    (data / "workflows" / "one.py").write_text(OTHER)
    evaluate(stub, data, "shard1", "--shard", "1/3")
    fails(merge(data, *shards), 2, "of different problems, workflows or weights")
    assert not (data / "merged" / "rows.jsonl").exists()


def test_several_processes_end_as_one_would(stub: StubEndpoint, data: Path) -> None:
    done = evaluate(stub, data, "out", "--processes", 2, "--executor_budget_usd", 1)
    fails(done, 2, "--processes 2 needs an executor that is served elsewhere, no --executor_budget_usd")
    stub.answer = lambda messages: Failure(401) if len(stub.requests) > 4 else "1"
    failed = evaluate(stub, data, "out", "--processes", 2, run=run_process)
    fails(failed, 1, "refuses the key in OPENAI_API_KEY")
    stub.answer = answer
    assert evaluate(stub, data, "out").returncode == 0
    assert sorted(path.name for path in (data / "out").iterdir()) == ["rows.jsonl", "summary.json"]


def chosen(monkeypatch: pytest.MonkeyPatch, samples: int, *flags: object, graded: int = 0) -> int:
    """How many processes an evaluation takes on four cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    given = ["--data", "rows.jsonl", "--output", "out", "--executor_max_concurrency", 100_000, *flags]
    given += [] if "--model" in flags else ["--workflow", "workflow.py"]
    monkeypatch.setattr("sys.argv", ["scripts/evaluate.py", *map(str, given)])
    arguments = parse_arguments()
    config, policy = executor_config_from(arguments), PolicySettings.of(arguments)
    evaluation = Evaluation(arguments, config, policy, [], range(samples), Console())
    return chosen_processes(evaluation, [SimpleNamespace(rows=dict.fromkeys(range(graded)))])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("samples", "processes"), [(1, 1), (256, 1), (511, 1), (512, 2), (1024, 4), (100_000, 4)], ids=str
)
def test_there_are_as_many_processes_as_are_kept_busy(
    samples: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(monkeypatch, samples) == processes


def test_what_is_not_under_way_at_once_keeps_no_process_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 5_000, "--executor_max_concurrency", 64) == 1
    assert chosen(monkeypatch, 5_000, graded=4_400) == 2


@pytest.mark.parametrize(
    "flags",
    [
        ("--executor", "local"),
        ("--executor", "mine.py:Mine"),
        ("--operators", "mine.py"),
        ("--executor_budget_usd", 5),
        ("--executor_rpm", 30_000),
        ("--executor_tpm", 30_000_000),
        ("--model", "policy"),
    ],
    ids=lambda flags: flags[0],
)
def test_one_process_where_there_can_or_need_be_no_more(
    flags: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(monkeypatch, 5_000, *flags) == 1
    assert chosen(monkeypatch, 5_000, "--processes", 1) == 1
    assert chosen(monkeypatch, 1, "--processes", 3) == 3


@pytest.mark.parametrize(
    ("problems", "repeats", "processes"), [(11, 2, 3), (3, 8, 2), (1, 50, 4), (2, 1, 8), (0, 1, 2)]
)
def test_a_process_has_whole_problems(problems: int, repeats: int, processes: int) -> None:
    rows = [Problem(question=f"{i}", answer="1", source="gsm8k", domain="math", id=f"{i}") for i in range(problems)]
    samples = [Sample(at, "", rows[at // repeats], at % repeats) for at in range(problems * repeats)]
    parts = parts_of(samples, processes)
    assert [sample for part in parts for sample in part] == samples
    assert len(parts) == max(1, min(problems, processes))
    owners = [{sample.problem.id for sample in part} for part in parts]
    assert sum(map(len, owners)) == problems
    assert max(map(len, parts)) - min(map(len, parts)) <= repeats


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/-2"])
def test_a_part_that_there_is_not_is_refused(shard: str, stub: StubEndpoint, data: Path) -> None:
    fails(evaluate(stub, data, "out", "--shard", shard), 2, "must be K/N with K from 1 to N")


def test_there_are_no_more_parts_than_problems(stub: StubEndpoint, data: Path) -> None:
    fails(evaluate(stub, data, "out", "--shard", "1/12"), 2, "--shard 1/12: there are 11 problems")
    fails(run("scripts/evaluate.py", "--merge", data, "--data", "x", "--output", data / "out"), 2, "leave out --data")


@pytest.mark.parametrize(("count", "of"), [(11, 3), (8, 8), (100, 7)])
def test_parts_follow_each_other(count: int, of: int) -> None:
    parts = [Shard(number, of).part(count) for number in range(1, of + 1)]
    assert [index for part in parts for index in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_search_in_parts_is_what_one_gives(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    stub.answer = executor
    flags = ["--per_problem", "--search_rounds", 3, "--parallel", 2, "--validation_problems", 5, "--data", sums]
    flags += ["--executor_base_url", stub.url, "--executor_cache_dir", "none", "--executor_temperature", 0]

    def search(name: str, *more: object) -> Done:
        return run("scripts/search.py", *flags, "--output", tmp_path / name, *more)

    for name, more in (("whole", ()), ("a", ("--shard", "1/2")), ("b", ("--shard", "2/2"))):
        done = search(name, *more)
        assert done.returncode == 0, done.stderr
    done = search("merged", "--merge", tmp_path / "b", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    nodes = [[json.loads(line) for line in read(tmp_path / name / "nodes.jsonl")] for name in ("whole", "merged")]
    for node in (*nodes[0], *nodes[1]):
        node.pop("seconds")
    assert nodes[0] == nodes[1] and len(nodes[0]) == 5 * 4
    trajectories = [(tmp_path / name / "trajectories.jsonl").read_bytes() for name in ("whole", "merged")]
    assert trajectories[0] == trajectories[1]
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "merged")]
    for summary in summaries:
        for name in ("search", "seconds", "seconds_by"):
            del summary[name]
    assert summaries[0] == summaries[1]
    fails(search("merged", "--merge", tmp_path / "a"), 2, "shard 2/2 is missing")
    fails(
        search("other", "--merge", tmp_path / "a", tmp_path / "b", "--seed", 1),
        2,
        "a was made with --seed 0, this has 1",
    )
    fails(run("scripts/search.py", "--data", sums, "--output", tmp_path / "x", "--shard", "1/2"), 2, "--per_problem")


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()
