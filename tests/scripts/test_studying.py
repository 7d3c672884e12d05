"""What the studies do alike: rows of studies that run at the same time are all kept."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.files import write_atomically
from scripts.studying.running import ROOT, KeptRows


@dataclass(frozen=True)
class Made:
    name: str
    seed: int
    fingerprint: str = "present"

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.seed


def read(file: Path) -> list[Made]:
    return [Made(**json.loads(line)) for line in file.read_text().splitlines()] if file.is_file() else []


def kept_in(file: Path) -> KeptRows[Made]:
    def write(rows: Sequence[Made]) -> None:
        with write_atomically(file) as out:
            out.writelines(json.dumps(asdict(row)) + "\n" for row in rows)

    return KeptRows(file, read, lambda name: "present", write)


def test_a_study_keeps_the_rows_that_another_one_has_added_since_it_began(tmp_path: Path) -> None:
    first, second = kept_in(tmp_path / "rows.jsonl"), kept_in(tmp_path / "rows.jsonl")
    first.keep(Made("one", 0))
    second.keep(Made("other", 0))
    first.keep(Made("one", 1))
    assert {row.key for row in read(tmp_path / "rows.jsonl")} == {("one", 0), ("other", 0), ("one", 1)}
    assert ("other", 0) in first and len(second.rows) == 2
    assert len(second.read_again()) == 3  # what a page is written from at the end


def test_a_row_replaces_its_like_and_those_of_earlier_settings_go(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(asdict(Made("old", 3, "past"))) + "\n")
    kept = kept_in(tmp_path / "rows.jsonl")
    assert ("old", 3) not in kept
    kept.keep(Made("one", 0))
    kept.keep(Made("one", 0))
    assert read(tmp_path / "rows.jsonl") == [Made("one", 0)]


def test_rows_of_settings_that_are_newer_than_a_study_are_left_to_it(tmp_path: Path) -> None:
    older = kept_in(tmp_path / "rows.jsonl")
    newer = KeptRows(tmp_path / "rows.jsonl", read, lambda name: "newer", older._write)
    newer.keep(Made("one", 0, "newer"))
    older.keep(Made("other", 0))
    newer.keep(Made("one", 1, "newer"))
    assert {row.key for row in read(tmp_path / "rows.jsonl")} == {("one", 0), ("one", 1), ("other", 0)}


def test_processes_that_add_rows_at_once_lose_none(tmp_path: Path) -> None:
    many = 30
    words = f"from tests.scripts.test_studying import *; kept = kept_in(Path({str(tmp_path / 'rows.jsonl')!r}))\n"
    adds = [words + f"for seed in range({many}): kept.keep(Made({name!r}, seed))" for name in ("one", "other")]
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for code in adds]
    assert [process.wait(120) for process in running] == [0, 0]
    assert len(read(tmp_path / "rows.jsonl")) == 2 * many
