"""Every command as a user runs it: the stub endpoint, exit codes and what is left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import grpo_mixed
from recipes.run.command import run_command
from tests.commands import KEY, fails, run, run_process
from tests.patience import PATIENCE
from tests.stub_endpoint import Failure, Messages, StubEndpoint

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "tests" / "aflow_ops" / "published"
ROW = {"question": "What is 6 * 7?", "answer": "42", "source": "gsm8k"}


def executor_flags(stub: StubEndpoint, tmp_path: Path) -> list[object]:
    return ["--executor_base_url", stub.url, "--executor_cache_dir", tmp_path / "cache", "--executor_max_retries", 0]


# run_workflow.py


@pytest.mark.parametrize("name", ["three_customs", "program_review_revise", "humaneval"])
def test_a_published_workflow_and_its_prompt_file_run_from_the_command_line(
    name: str, stub: StubEndpoint, tmp_path: Path
) -> None:
    entry = ["--entry_point", "f"] if name == "humaneval" else []
    start = run_process if name == "three_customs" else run  # one of them as a file
    done = start(
        "scripts/run_workflow.py", PUBLISHED / name / "graph.py", "--question", "What is 6 * 7?", "--json", *entry,
        *executor_flags(stub, tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trace = json.loads(done.stdout)
    assert set(trace) == {
        "answer", "outcome", "error", "calls", "prompt_tokens", "completion_tokens", "cost_usd", "seconds",
        "lost_seconds", "interpreter", "workflow",
    }  # fmt: skip
    assert trace["outcome"] == "ok"
    assert trace["calls"]
    assert trace["cost_usd"] == pytest.approx(sum(call["cost_usd"] for call in trace["calls"]))


def test_the_table_shows_the_calls_and_the_answer(stub: StubEndpoint, tmp_path: Path) -> None:
    done = run(
        "scripts/run_workflow.py", "-", "--question", "What is [bold]6[/bold] * 7?", *executor_flags(stub, tmp_path),
        stdin="custom -> Format",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Custom" in done.stdout and "Format" in done.stdout
    assert "answer: 42" in done.stdout
    assert "repaired: " in done.stdout


def test_a_workflow_that_fails_exits_with_1_and_still_prints_its_trace(stub: StubEndpoint, tmp_path: Path) -> None:
    done = run(
        "scripts/run_workflow.py", "-", "--question", "?", "--json", *executor_flags(stub, tmp_path),
        stdin="async def workflow(problem):\n    await custom(input=problem)\n    return 1 / 0",
    )  # fmt: skip
    fails(done, 1, "policy_error")
    assert json.loads(done.stdout)["error"]["class"] == "ZeroDivisionError"


def test_run_workflow_says_what_is_wrong(stub: StubEndpoint, tmp_path: Path) -> None:
    flags = executor_flags(stub, tmp_path)
    script = "scripts/run_workflow.py"
    fails(run(script, tmp_path / "absent.py", "--question", "?", *flags), 2, "absent.py")
    fails(run(script, "-", "--question", "?", *flags, stdin="Custom -> Oracle"), 2, "Oracle")
    fails(run(script, "-", "--question", "?", "--no_such_flag", stdin="Custom"), 2, "--no_such_flag")
    fails(run(script, "-", "--question", "?", stdin="Custom", key=None), 2, "OPENAI_API_KEY", "--executor local")
    stub.answer = lambda messages: Failure(401, f"Incorrect API key provided: {KEY}")
    fails(run(script, "-", "--question", "?", *flags, stdin="Custom"), 1, "refuses the key")
    dead = ["--executor_base_url", "http://127.0.0.1:9/v1", "--executor_max_retries", 0]
    fails(run(script, "-", "--question", "?", *dead, stdin="Custom"), 1, "cannot be reached")


# evaluate.py


def rows_file(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def workflow_file(tmp_path: Path) -> Path:
    path = tmp_path / "workflow.py"
    path.write_text("async def workflow(problem):\n    return (await custom(input=problem))['response']")
    return path


def test_evaluate_writes_rows_and_summary(stub: StubEndpoint, tmp_path: Path) -> None:
    data = rows_file(tmp_path, ROW, {**ROW, "answer": "7"}, {"question": "Who?", "answer": "42", "source": "squad"})
    out = tmp_path / "out"
    flags = executor_flags(stub, tmp_path)
    command = ["--data", data, "--workflow", workflow_file(tmp_path), "--output", out, "--num_samples", 2]
    done = run("scripts/evaluate.py", *command, *flags)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary) == {
        "n", "reward", "correct", "valid", "by_domain", "outcomes", "pass_at_k", "cost_usd", "tokens", "calls",
        "cache_hits", "seconds", "latency_seconds", "reward_ci95", "correct_ci95", "metrics", "per_problem", "cache",
        "fingerprint",
    }  # fmt: skip
    assert summary["metrics"]["squad"]["f1"] == {"mean": 1.0, "ci95": [1.0, 1.0], "n": 1}
    assert summary["n"] == 2  # two rows ask the same question
    assert set(summary["pass_at_k"]) == {"1", "2"}
    assert set(summary["seconds"]) == {"startup", "run"}
    assert len((out / "rows.jsonl").read_text().splitlines()) == 6
    assert sorted(path.name for path in out.iterdir()) == ["rows.jsonl", "summary.json"]


def test_a_replay_costs_nothing_and_gives_the_same_bytes(stub: StubEndpoint, tmp_path: Path) -> None:
    data = rows_file(tmp_path, *({**ROW, "question": f"What is 6 * {i}?"} for i in range(4)))
    command = ["--data", data, "--workflow", workflow_file(tmp_path), *executor_flags(stub, tmp_path)]
    written = []
    for name in ("first", "second", "third"):
        done = run("scripts/evaluate.py", *command, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / name / "rows.jsonl").read_bytes())
    asked = [request for request in stub.requests if request["max_tokens"] > 1]  # not the check at the start
    assert len(asked) == 4
    assert written[0] == written[1] == written[2]
    summary = json.loads((tmp_path / "third" / "summary.json").read_text())
    assert (summary["cost_usd"], summary["cache_hits"]) == (0, 4)


def test_the_key_is_in_nothing_that_a_run_writes(stub: StubEndpoint, tmp_path: Path) -> None:
    def answer(messages: Messages) -> str | Failure:
        # an endpoint that repeats the key, in a reply and in an error
        return f"42 {KEY[:4]}" if len(stub.requests) % 3 else Failure(500, f"Incorrect API key provided: {KEY}")

    stub.answer = answer
    data = rows_file(tmp_path, *({**ROW, "question": f"What is 6 * {i}?"} for i in range(6)))
    command = ["--data", data, "--workflow", workflow_file(tmp_path), "--output", tmp_path / "out"]
    done = run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path), "--judge")
    assert KEY not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []


def test_an_interrupted_evaluation_goes_on_where_it_stopped(stub: StubEndpoint, tmp_path: Path) -> None:
    data = rows_file(tmp_path, *({**ROW, "question": f"What is 6 * {i}?"} for i in range(6)))
    out = tmp_path / "out"
    flags = ["--executor_base_url", stub.url, "--executor_cache_dir", "none", "--executor_max_retries", 0]
    command = ["--data", data, "--workflow", workflow_file(tmp_path), "--output", out, *flags]

    def answer(messages: Messages) -> str | Failure:
        # the check at the start and three problems pass, then the key is refused
        return "42" if len(stub.requests) <= 4 else Failure(401)

    stub.answer = answer
    fails(run("scripts/evaluate.py", *command, "--executor_max_concurrency", 1), 1, "refuses the key")
    assert [path.name for path in out.iterdir()] == ["rows.partial.jsonl"]
    kept = (out / "rows.partial.jsonl").read_text().count('{"row"')  # at most three: some were still being graded
    stub.answer = lambda messages: "42"
    stub.requests.clear()
    done = run("scripts/evaluate.py", *command, "--executor_max_concurrency", 1)
    assert done.returncode == 0, done.stderr
    assert len(stub.requests) == 1 + 6 - kept
    assert json.loads((out / "summary.json").read_text())["n"] == 6


def test_evaluate_says_what_is_wrong(stub: StubEndpoint, tmp_path: Path) -> None:
    script, flags = "scripts/evaluate.py", executor_flags(stub, tmp_path)
    out, workflow = tmp_path / "out", workflow_file(tmp_path)
    good = rows_file(tmp_path, ROW)
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(ROW) + '\n{"question": "no answer"}\n')
    base = ["--workflow", workflow, "--output", out, *flags]
    fails(run(script, "--data", tmp_path / "absent.jsonl", *base), 2, "absent.jsonl", "no such file")
    fails(run(script, "--data", bad, *base), 2, "bad.jsonl, line 2")
    fails(run(script, "--data", good, "--workflow", tmp_path / "no.py", "--output", out, *flags), 2, "no.py")
    fails(run(script, "--data", good, "--workflow", workflow, "--output", out, key=None), 2, "OPENAI_API_KEY")
    fails(run(script, "--data", good, *base, "--num_samples", 0), 2, "--num_samples")
    fails(run(script, "--data", good, *base, "--pass_k", 2), 2, "--pass_k 2", "--num_samples 1")
    fails(run(script, "--data", "gsm8k", *base, cwd=tmp_path), 2, "download_datasets.py gsm8k")
    assert not out.exists()


def baseline_run(stub: StubEndpoint, tmp_path: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    code = {"question": "Write f.", "answer": "", "source": "mbpp", "tests": ["assert f(1) == 1"], "entry_point": "f"}
    data = rows_file(tmp_path, ROW, {"question": "Who?", "answer": "42", "source": "squad", "context": "42."}, code)
    command = ["--data", data, "--baseline", "all", "--output", tmp_path / "out", *flags]
    return run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path))


def test_every_published_baseline_runs_and_runs_are_compared(stub: StubEndpoint, tmp_path: Path) -> None:
    done = baseline_run(stub, tmp_path)
    assert done.returncode == 0, done.stderr
    names = {"io", "cot", "cot_sc", "self_refine", "programmer", "aflow_round_1"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for name in names:
        summary = json.loads((tmp_path / "out" / name / "summary.json").read_text())
        assert summary["valid"] == 1.0
        assert summary["outcomes"]["ok"] == 3
    compared = run("scripts/compare.py", tmp_path / "out", "--markdown", tmp_path / "table.md")
    assert compared.returncode == 0, compared.stderr
    table = (tmp_path / "table.md").read_text()
    assert compared.stdout == table
    assert table.startswith("| run | problems | reward | vs first | correct | valid | gsm8k accuracy | mbpp pass |")
    assert all(f"| out/{name} | 3 |" in table for name in names)


def test_a_finished_evaluation_is_not_run_again(stub: StubEndpoint, tmp_path: Path) -> None:
    assert baseline_run(stub, tmp_path).returncode == 0
    (tmp_path / "out" / "cot" / "summary.json").unlink()
    before = len(stub.requests)
    again = baseline_run(stub, tmp_path)
    assert again.returncode == 0
    assert again.stderr.count("has this evaluation already") == 5
    assert len(stub.requests) == before + 1  # the check; the rest of that one is in the cache
    assert (tmp_path / "out" / "cot" / "summary.json").is_file()
    before = len(stub.requests)
    changed = baseline_run(stub, tmp_path, "--limit", 2)
    assert "has this evaluation already" not in changed.stderr


def test_a_folder_of_workflows_is_evaluated_one_by_one(stub: StubEndpoint, tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "a.py").write_text(workflow_file(tmp_path).read_text())
    (folder / "a.dsl").write_text("Custom -> Format")
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "graph.py").write_text(workflow_file(tmp_path).read_text())
    command = ["--data", rows_file(tmp_path, ROW), "--workflow", folder, "--output", tmp_path / "out"]
    done = run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.dsl", "a.py", "one_graph", "two_graph"]
    shutil.rmtree(folder)
    folder.mkdir()
    fails(run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path)), 2, "no workflow")


def test_an_evaluation_says_why_a_workflow_is_none(stub: StubEndpoint, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("async def workflow(problem):\n    return await guess(input=problem)")
    command = ["--data", rows_file(tmp_path, ROW), "--workflow", tmp_path / "broken.py", "--output", tmp_path / "out"]
    done = run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "1 of 1 rows have no valid workflow, most often: " in done.stderr and "guess" in done.stderr


def test_samples_of_one_workflow_are_independent_runs(stub: StubEndpoint, tmp_path: Path) -> None:
    command = ["--data", rows_file(tmp_path, ROW), "--workflow", workflow_file(tmp_path), "--num_samples", 4]
    command += ["--pass_k", 3, "--output", tmp_path / "out"]
    done = run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path))
    assert done.returncode == 0, done.stderr
    assert len([request for request in stub.requests if request["max_tokens"] > 1]) == 4
    assert set(json.loads((tmp_path / "out" / "summary.json").read_text())["pass_at_k"]) == {"3"}


def test_a_policy_behind_a_server_writes_the_workflows(stub: StubEndpoint, tmp_path: Path) -> None:
    text = workflow_file(tmp_path).read_text()
    with StubEndpoint(lambda messages: f"```python\n{text}\n```") as policy:
        command = ["--data", rows_file(tmp_path, ROW), "--model", "my-policy", "--model_base_url", policy.url]
        command += ["--output", tmp_path / "out", "--num_samples", 2, "--temperature", 0.8]
        done = run("scripts/evaluate.py", *command, *executor_flags(stub, tmp_path))
        assert done.returncode == 0, done.stderr
        assert [request["model"] for request in policy.requests] == ["my-policy"] * 2
        assert "42" not in json.dumps(policy.requests[0]["messages"][1:])  # the gold answer
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["valid"], summary["correct"]) == (1.0, 1.0)


def test_compare_says_what_is_wrong(tmp_path: Path) -> None:
    fails(run("scripts/compare.py", tmp_path), 2, "no rows.jsonl")
    (tmp_path / "rows.jsonl").write_text("{")
    (tmp_path / "summary.json").write_text("{}")
    fails(run("scripts/compare.py", tmp_path), 2, "not a whole evaluation")


# recipes


def test_a_recipe_without_a_key_stops_at_once_and_says_both_ways_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    fails(run("recipes/grpo_mixed.py", "--output_dir", out, key=None), 2, "OPENAI_API_KEY", "--executor local")
    assert not out.exists()


def test_a_recipe_says_what_is_wrong(
    stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("data.registry.PROCESSED_FOLDER", tmp_path / "processed")
    out = tmp_path / "out"
    quickstart = ROOT / "recipes" / "configs" / "quickstart.yaml"

    def recipe(*flags: object) -> subprocess.CompletedProcess[str]:
        # in this process: importing torch and trl takes seconds
        command = ["grpo_mixed.py", "--config", quickstart, "--output_dir", out, *flags]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        code = run_command(grpo_mixed.main)
        return subprocess.CompletedProcess(command, code, *capsys.readouterr())

    fails(recipe("--no_such_flag", "1"), 2, "no_such_flag")
    fails(recipe("--config", tmp_path / "absent.yaml"), 2, "absent.yaml")
    fails(recipe("--gpu", "gtx970"), 2, "gtx970", "a100_40gb")
    fails(recipe("--wa_alpha", "0.5"), 2, "wa_alpha")
    fails(recipe("--sources", tmp_path / "absent.jsonl"), 2, "absent.jsonl")
    fails(recipe("--domain_mix", "poetry=1"), 2, "poetry")
    fails(recipe("--sources", "humaneval"), 2, "humaneval is a test set", "--train_on_test_set")
    stub.answer = lambda messages: Failure(401)
    fails(recipe("--executor", "openai", "--executor_base_url", stub.url), 1, "refuses the key")
    assert not out.exists()


def test_a_full_disk_is_one_line(stub: StubEndpoint, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/run_workflow.py"), "-", "--question", "?", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, *map(str, executor_flags(stub, tmp_path))],
            input="Custom", stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"


def test_compare_teaches() -> None:
    done = run("scripts/compare.py", "--help")
    assert done.returncode == 0 and "python scripts/compare.py" in done.stdout


@pytest.mark.parametrize("script", ["scripts/run_workflow.py", "scripts/evaluate.py"])
def test_help_teaches(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    for word in ("python scripts/", "--executor_budget_usd", "OPENAI_API_KEY"):
        assert word in done.stdout


def test_numbers_out_of_range_are_usage_errors(stub: StubEndpoint, tmp_path: Path) -> None:
    flags = executor_flags(stub, tmp_path)
    base = ["-", "--question", "?", *flags]
    for wrong in (
        ("--executor_rpm", "-3"),
        ("--executor_budget_usd", "nan"),
        ("--executor_base_url", "localhost:8000/v1"),
        ("--workflow_timeout", "nan"),
    ):
        fails(run("scripts/run_workflow.py", *base, *wrong, stdin="Custom"), 2, wrong[0].removeprefix("--"))


def test_an_evaluation_never_replaces_a_training_runs_summary(stub: StubEndpoint, tmp_path: Path) -> None:
    out, data, workflow = tmp_path / "run", rows_file(tmp_path, ROW), workflow_file(tmp_path)
    out.mkdir()
    (out / "summary.json").write_text('{"run": "run", "heldout": {}}')
    command = ["--data", data, "--workflow", workflow, *executor_flags(stub, tmp_path)]
    fails(run("scripts/evaluate.py", *command, "--output", out), 2, "summary.json", "choose another folder")
    assert json.loads((out / "summary.json").read_text())["run"] == "run"


def test_a_row_that_is_given_twice_is_evaluated_once(stub: StubEndpoint, tmp_path: Path) -> None:
    data, out = rows_file(tmp_path, ROW), tmp_path / "out"
    command = ["--data", data, data, "--workflow", workflow_file(tmp_path), *executor_flags(stub, tmp_path)]
    done = run("scripts/evaluate.py", *command, "--output", out)
    assert done.returncode == 0, done.stderr
    assert "1 repeated rows are left out" in done.stderr
    assert set(json.loads((out / "summary.json").read_text())["pass_at_k"]) == {"1"}


def test_an_evaluation_that_graded_nothing_says_why_and_fails(tmp_path: Path, stub: StubEndpoint) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2", "source": "gsm8k"}\n')
    (tmp_path / "w.dsl").write_text("Custom")
    stub.answer = lambda messages: Failure(503) if len(stub.requests) > 1 else "OK"  # the first call is the check
    done = run(
        "scripts/evaluate.py", "--data", tmp_path / "rows.jsonl", "--workflow", tmp_path / "w.dsl",
        "--output", tmp_path / "out", "--executor_base_url", stub.url, "--executor_cache_dir", "none",
        "--executor_max_retries", "0", "--executor_outage_seconds", "1",
    )  # fmt: skip
    assert done.returncode == 1 and "nothing could be graded" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "out" / "summary.json").is_file()
