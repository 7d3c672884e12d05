"""scripts/grade.py as its users run it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import KEY, run, run_process
from tests.rewards.labelled_answers import rows
from tests.stub_endpoint import StubEndpoint

GOOD = {"question": "What is 2 + 2?", "answer": "4", "prediction": "It is 4.", "source": "gsm8k"}


def grade(folder: Path, given: list[Any], *flags: str, **environment: str) -> tuple[int, str, str]:
    source = folder / "answers.jsonl"
    source.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in given))
    done = run("scripts/grade.py", source, folder / "graded.jsonl", *flags, key=None, **environment)
    return done.returncode, done.stdout, done.stderr


def graded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "graded.jsonl").read_text().splitlines()]


def test_it_agrees_with_the_labels(tmp_path: Path) -> None:
    labelled = rows()
    assert len(labelled) >= 500
    code, out, err = grade(tmp_path, labelled)
    assert code == 0, err
    result = graded(tmp_path)
    assert [row["id"] for row in result] == [row["id"] for row in labelled]
    wrong = [(row["source"], row["prediction"], row["answer"], row["detail"]) for row in result if not row["agrees"]]
    assert wrong == []
    assert "100.00%" in out


def test_a_row_gains_its_grade_and_keeps_the_rest(tmp_path: Path) -> None:
    code, _, err = grade(tmp_path, [{**GOOD, "mine": [1]}, {**GOOD, "prediction": None}, {**GOOD, "label": "no"}])
    assert code == 0, err
    first, second, third = graded(tmp_path)
    assert first == {
        **GOOD,
        "mine": [1],
        "tier": 5,
        "reward": 1.0,
        "correct": True,
        "extracted": "4",
        "detail": "4 against 4",
    }
    assert second["tier"] == 1
    assert third["agrees"] is False


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{oops", "line 2: not valid JSON|line 2: Expecting"),
        ({**GOOD, "source": "poems"}, "poems"),
        ({**GOOD, "label": "perhaps"}, "perhaps"),
        ({**GOOD, "prediction": ["4"]}, "prediction"),
        ({"question": "?", "domain": "code", "prediction": "x"}, "answer"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path: Path, row: Any, reason: str) -> None:
    code, _, err = grade(tmp_path, [GOOD, row])
    assert code == 2
    assert "line 2" in err
    assert any(part in err for part in reason.split("|"))
    assert not (tmp_path / "graded.jsonl").exists()


def test_the_judge_can_be_asked(tmp_path: Path) -> None:
    row = {"question": "Who?", "answer": "Fitzwilliam Darcy", "prediction": "Mr Darcy", "source": "hotpotqa"}
    with StubEndpoint(lambda messages: "EQUAL") as stub:
        flags = ["--judge", "--executor_base_url", stub.url, "--executor_cache_dir", "none"]
        code, _, err = grade(tmp_path, [row], *flags, OPENAI_API_KEY=KEY)
    assert code == 0, err
    assert graded(tmp_path)[0]["detail"].endswith("judged equal")


def test_a_missing_file_a_bad_flag_and_a_missing_key_are_one_line(tmp_path: Path) -> None:
    done = run_process("scripts/grade.py", tmp_path / "absent.jsonl", tmp_path / "out.jsonl", key=None)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "absent.jsonl" in done.stderr
    code, _, err = grade(tmp_path, [GOOD], "--judge", "--executor_timeout", "0")
    assert (code, "executor_timeout" in err, "Traceback" in err) == (2, True, False)
    code, _, err = grade(tmp_path, [GOOD], "--judge", OPENAI_API_KEY="")
    assert (code, "OPENAI_API_KEY" in err, "Traceback" in err) == (2, True, False)


def test_a_place_that_cannot_be_written_is_said_before_anything_is_graded(tmp_path: Path) -> None:
    (tmp_path / "graded.jsonl").mkdir()
    code, _, error = grade(tmp_path, [GOOD])
    assert code == 2
    assert "graded.jsonl is a folder" in error
    assert "grading" not in error


def test_half_a_surrogate_pair_is_named_by_its_line(tmp_path: Path) -> None:
    code, _, error = grade(tmp_path, [GOOD, {**GOOD, "prediction": "4 \ud83d"}])
    assert (code, error.count("\n")) == (2, 1)
    assert "line 2" in error
