"""Fetching and processing benchmarks as a user does it: exit codes, what is printed and left behind."""

import gzip
import json
from pathlib import Path

import pytest

from data.benchmarks import benchmarks
from tests.commands import fails, run

DOWNLOAD, PROCESS = "scripts/download_datasets.py", "scripts/process_datasets.py"


def rows(start: int, count: int) -> str:
    made = [
        {"question": f"Ada has {n} coins and finds {n + 1} more. How many?", "answer": f"#### {2 * n + 1}"}
        for n in range(start, start + count)
    ]
    return "".join(json.dumps(row) + "\n" for row in made)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a little benchmark."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "gsm8k_train.jsonl").write_text(rows(100, 40))
    (folder / "gsm8k_test.jsonl").write_text(rows(900, 10))
    return folder


def test_from_a_folder_to_problems_and_a_mixed_set(source: Path, tmp_path: Path) -> None:
    done = run(DOWNLOAD, "gsm8k", "--source_dir", source, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gsm8k: train, test; 0.0 MB in data/cache/raw/gsm8k/" in done.stdout
    done = run(PROCESS, "--mix", 20, "--mix_ratio", "math=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gsm8k" in done.stdout and "mixed: 20 rows in data/cache/processed/mixed/train.jsonl" in done.stdout
    processed = tmp_path / "data" / "cache" / "processed"
    assert len((processed / "gsm8k" / "train.jsonl").read_text().splitlines()) == 40
    assert len((processed / "mixed" / "train.jsonl").read_text().splitlines()) == 20
    assert {path.name for path in (processed / "gsm8k").iterdir()} == {
        "README.md", "report.json", "test.jsonl", "train.jsonl",
    }  # fmt: skip
    again = run(DOWNLOAD, "gsm8k", cwd=tmp_path)  # nothing is asked of the Hub
    assert again.returncode == 0, again.stderr


def test_a_benchmark_that_fails_does_not_stop_the_others(source: Path, tmp_path: Path) -> None:
    done = run(DOWNLOAD, "squad", "gsm8k", "--source_dir", source, "--output_dir", tmp_path / "raw")
    fails(done, 1, f"squad: {source} has none of its files", "error: not fetched: squad;")
    assert "gsm8k: train, test" in done.stdout
    assert (tmp_path / "raw" / "gsm8k" / "manifest.json").is_file()


def test_download_says_what_is_wrong(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw"
    fails(run(DOWNLOAD, "gsm8k", "gsm9k", "--source_dir", source, "--output_dir", out), 2, "'gsm9k'", "gsm8k, math")
    assert not out.exists()
    fails(run(DOWNLOAD, "gsm8k", "--source_dir", tmp_path / "no", "--output_dir", out), 1, "no such folder")
    fails(run(DOWNLOAD, "--no_such_flag"), 2, "--no_such_flag")


def test_process_says_what_is_wrong(source: Path, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    folders = ["--input_dir", raw, "--output_dir", out]
    fails(run(PROCESS, *folders), 2, "python scripts/download_datasets.py first")
    fails(run(PROCESS, "squad", *folders), 2, "python scripts/download_datasets.py squad")
    fails(run(PROCESS, "gsm9k", *folders), 2, "'gsm9k'", "gsm8k, math")
    fails(run(PROCESS, tmp_path / "absent.jsonl", *folders), 2, "absent.jsonl: no such file")
    fails(run(PROCESS, "--max_prompt_tokens", 0, *folders), 2, "--max_prompt_tokens")
    fails(run(PROCESS, "--mix", "some", *folders), 2, "--mix")
    assert not list(out.glob("*/*"))


def test_bad_rows_are_named_and_stop_only_a_strict_call(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    good = json.dumps({"question": "What?", "answer": "4", "source": "gsm8k"})
    mine.write_text(f'{good}\n{{"question": "What?", "answer": "4", "source": "poems"}}\n')
    flags = ["--input_dir", tmp_path / "raw", "--output_dir", tmp_path / "out"]
    fails(run(PROCESS, mine, "--strict", *flags), 2, "mine.jsonl, line 2: source 'poems' has no known domain")
    assert not list(tmp_path.glob("out/*/*"))
    done = run(PROCESS, mine, *flags)
    assert done.returncode == 0
    assert "mine.jsonl, line 2: source 'poems'" in done.stderr
    assert len((tmp_path / "out" / "mine" / "train.jsonl").read_text().splitlines()) == 1


def test_unreadable_files_are_named_without_a_traceback(tmp_path: Path) -> None:
    flags = ["--input_dir", tmp_path / "raw", "--output_dir", tmp_path / "out"]
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(rows(0, 500).encode())[:-100])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing")
    fails(run(PROCESS, tmp_path / "cut.jsonl.gz", *flags), 2, "cut.jsonl.gz: cannot be read")
    fails(run(PROCESS, tmp_path / "bad.parquet", *flags), 2, "bad.parquet: not a readable parquet file")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (DOWNLOAD, ["python scripts/download_datasets.py gsm8k", "--source_dir", "HF_ENDPOINT", "process_datasets.py"]),
        (
            PROCESS,
            ["python scripts/process_datasets.py gsm8k", "--strict", "--mix", "--sources gsm8k", "question, answer"],
        ),
    ],
)
def test_help_teaches(script: str, words: list[str]) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    for word in words:
        assert word in done.stdout
    if script == DOWNLOAD:
        assert all(name in done.stdout for name in benchmarks())
