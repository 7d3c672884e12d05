"""Every command as a user runs it: real processes, the stub endpoint, exit codes and what is left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.stub_endpoint import Failure, Messages, StubEndpoint

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "tests" / "aflow_ops" / "published"
ROW = {"question": "What is 6 * 7?", "answer": "42", "source": "gsm8k"}


def run(
    script: str, *arguments: object, key: str | None = KEY, stdin: str = "", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    if key is not None:
        environment["OPENAI_API_KEY"] = key
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=cwd,
    )


def fails(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It failed with this code and one clear message."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert KEY not in done.stderr + done.stdout


def executor_flags(stub: StubEndpoint, tmp_path: Path) -> list[object]:
    return ["--executor_base_url", stub.url, "--executor_cache_dir", tmp_path / "cache", "--executor_max_retries", 0]


# run_workflow.py


@pytest.mark.parametrize("name", ["three_customs", "program_review_revise", "humaneval"])
def test_a_published_workflow_and_its_prompt_file_run_from_the_command_line(
    name: str, stub: StubEndpoint, tmp_path: Path
) -> None:
    entry = ["--entry_point", "f"] if name == "humaneval" else []
    done = run(
        "scripts/run_workflow.py", PUBLISHED / name / "graph.py", "--question", "What is 6 * 7?", "--json", *entry,
        *executor_flags(stub, tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trace = json.loads(done.stdout)
    assert set(trace) == {
        "answer", "outcome", "error", "calls", "prompt_tokens", "completion_tokens", "cost_usd", "seconds",
        "lost_seconds",
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
        "cache_hits", "seconds", "latency_seconds",
    }  # fmt: skip
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
    assert written[1] == written[2]
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
    stub.answer = lambda messages: "42"
    stub.requests.clear()
    done = run("scripts/evaluate.py", *command, "--executor_max_concurrency", 1)
    assert done.returncode == 0, done.stderr
    assert len(stub.requests) == 1 + 3
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
    assert not out.exists()


# recipes


@pytest.mark.slow
def test_a_recipe_without_a_key_stops_at_once_and_says_both_ways_forward(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fails(run("recipes/grpo_mixed.py", "--output_dir", out, key=None), 2, "OPENAI_API_KEY", "--executor local")
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_recipe_says_what_is_wrong(stub: StubEndpoint, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quickstart = ROOT / "recipes" / "configs" / "quickstart.yaml"

    def recipe(*flags: object) -> subprocess.CompletedProcess[str]:
        return run("recipes/grpo_mixed.py", "--config", quickstart, "--output_dir", out, *flags)

    fails(recipe("--no_such_flag", "1"), 2, "no_such_flag")
    fails(recipe("--config", tmp_path / "absent.yaml"), 2, "absent.yaml")
    fails(recipe("--gpu", "gtx970"), 2, "gtx970", "a100_40gb")
    fails(recipe("--wa_alpha", "0.5"), 2, "wa_alpha")
    fails(recipe("--sources", tmp_path / "absent.jsonl"), 2, "absent.jsonl")
    fails(recipe("--domain_mix", "poetry=1"), 2, "poetry")
    stub.answer = lambda messages: Failure(401)
    fails(recipe("--executor", "openai", "--executor_base_url", stub.url), 1, "refuses the key")
    assert not out.exists()


def test_a_full_disk_is_one_line(stub: StubEndpoint, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/run_workflow.py"), "-", "--question", "?", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, *map(str, executor_flags(stub, tmp_path))],
            input="Custom", stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("script", ["scripts/run_workflow.py", "scripts/evaluate.py"])
def test_help_teaches(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    for word in ("python scripts/", "--executor_budget_usd", "OPENAI_API_KEY"):
        assert word in done.stdout
