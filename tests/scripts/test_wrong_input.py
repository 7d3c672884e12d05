"""What is wrong with a command line or a file is said on one line, before anything is started."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aflow_ops.terminal import printable
from recipes.run.command import run_command
from scripts import evaluate, grade, run_workflow
from tests.patience import PATIENCE
from tests.stub_endpoint import StubEndpoint

WORKFLOW = 'async def workflow(problem):\n    return (await custom(input=problem))["response"]'
ESCAPES = "\x1b[2J\x1b]0;title\x07 42 \x9b1m \u202e é 中"


@pytest.fixture
def workflow(tmp_path: Path) -> str:
    path = tmp_path / "workflow.py"
    path.write_text(WORKFLOW)
    return str(path)


def complaint(
    main: Callable[[], None], arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """What a command says; it must be one line, with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    monkeypatch.setenv("OPENAI_API_KEY", "k")  # short, and in every word with a k
    try:
        code = run_command(main)
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr().err
    assert code == 2, said
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--executor_base_url", "http://localhost:abc/v1"], "'abc'"),
        (["--executor_base_url", "localhost:8000"], "must start with http"),
        (["--executor_base_url", "http://"], "is no URL"),
        (["--executor_budget_usd", "1", "--executor_model", "unknown-model"], "--executor_price IN OUT"),
        (["--executor_api_key_env", "NO_SUCH_KEY", "--executor_base_url", "http://h/v1"], "NO_SUCH_KEY is not set"),
        (["--workflow_timeout", "nan"], "--workflow_timeout"),
        (["--question", "  "], "--question is empty"),
        (["--questoin", "x"], "unrecognized arguments: --questoin"),
        (["--executor_price", "1"], "expected 2 arguments"),
        (["--executor_max_concurrency", "0"], "must be above 0"),
        (["--executor_max_retries", "-1"], "must not be negative"),
        (["--executor_temperature", "nan"], "executor_temperature=nan"),
        (["--executor_temperature", "-1"], "executor_temperature=-1.0"),
        (["--executor_model", ""], "executor_model is empty"),
        (["--executor_api_key_env", "sk-0123"], "never the key itself"),
        (["--entry_point", "f(x)"], "--entry_point f(x) is no function's name"),
        (["--context_file", "nowhere.txt"], "--context_file nowhere.txt: cannot be read"),
        (["--domain", "maths"], "choose from 'math'"),
    ],
)
def test_flags(
    flags: list[str],
    said: str,
    workflow: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert said in complaint(run_workflow.main, [workflow, "--question", "x", *flags], capsys, monkeypatch)


def test_an_address_of_the_environment_is_named(
    workflow: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    assert "$OPENAI_BASE_URL" in complaint(run_workflow.main, [workflow, "--question", "x"], capsys, monkeypatch)


def test_a_misspelt_required_flag_is_named(
    workflow: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = complaint(evaluate.main, ["--dta", "x", "--workflow", workflow, "--output", "o"], capsys, monkeypatch)
    assert "required: --data" in said and "--dta (did you mean --data?)" in said


@pytest.mark.parametrize("answer", ["NaN", "Infinity", "1e999", "[1, NaN]"])
def test_an_answer_that_is_no_number(
    answer: str, workflow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(f'{{"question": "What?", "answer": {answer}, "source": "gsm8k"}}\n')
    arguments = ["--data", str(rows), "--workflow", workflow, "--output", str(tmp_path / "out")]
    assert "rows.jsonl, line 1" in complaint(evaluate.main, arguments, capsys, monkeypatch)


def test_a_variable_that_nobody_set_is_no_folder(
    workflow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "rows.jsonl", "--workflow", workflow, "--output", ""]
    assert "--output: is empty; name a file or a folder" in complaint(evaluate.main, arguments, capsys, monkeypatch)
    assert not list(tmp_path.glob("*.json*"))


def test_rows_without_a_prediction_name_what_they_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "What?", "answer": 1, "response": "1", "source": "gsm8k"}\n')
    said = complaint(grade.main, [str(rows), str(tmp_path / "graded.jsonl")], capsys, monkeypatch)
    assert '"prediction"' in said and "question, answer, response, source" in said


def test_a_place_that_cannot_be_written_is_told_before_the_executor_is_asked(
    stub: StubEndpoint, workflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "What?", "answer": 1, "source": "gsm8k"}\n')
    flags = ["--data", str(rows), "--workflow", workflow, "--executor_base_url", stub.url]
    monkeypatch.setattr(sys, "argv", ["command", *flags, "--output", workflow])
    assert run_command(evaluate.main) == 2
    assert stub.requests == []


@pytest.mark.parametrize("key", ["a key", "sk-\nx", '"sk-0123456789"', "“sk-0123456789”", " "])
def test_a_key_that_cannot_be_sent(
    key: str, workflow: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    flags = [workflow, "--question", "x", "--executor_api_key_env", "MY_KEY", "--executor_base_url", "http://h/v1"]
    said = complaint(run_workflow.main, flags, capsys, monkeypatch)
    assert "MY_KEY" in said and "0123456789" not in said


def run(stub: StubEndpoint, workflow: str, *flags: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "scripts/run_workflow.py", workflow, "--question", "What?", *flags]
    command += ["--executor_base_url", stub.url.replace("http", "HTTP"), "--executor_cache_dir", "none"]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, timeout=PATIENCE, check=False
    )


def test_a_terminal_of_ascii_and_no_columns_gets_text_without_escapes(stub: StubEndpoint, workflow: str) -> None:
    stub.answer = lambda messages: ESCAPES
    ended = run(stub, workflow, COLUMNS="0", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert b"42" in ended.stdout and b"\x1b" not in ended.stdout and ended.stdout.isascii()


def test_closed_standard_streams_are_no_error(stub: StubEndpoint, workflow: str) -> None:
    command = f"{sys.executable} scripts/run_workflow.py {workflow} --question x --executor_base_url {stub.url}"
    shell = f"{command} --executor_cache_dir none <&- >&- 2>&-"
    assert subprocess.run(shell, shell=True, timeout=PATIENCE, check=False).returncode == 0


def test_no_escape_sequence_is_printable() -> None:
    shown = printable(ESCAPES)
    assert shown == "\\x1b[2J\\x1b]0;title\\x07 42 \\x9b1m \\u202e é 中"
    io.TextIOWrapper(io.BytesIO(), encoding="utf-8").write(printable("\ud800"))
