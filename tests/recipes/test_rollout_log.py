"""`rollouts.jsonl` in parts: whatever the cuts and the kills, its rows in order are those of one long file."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.errors import InfraError
from recipes.run.rollout_log import RolloutLog, open_part, rollout_files
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
STEPS = 60
PART_BYTES = 3_000
# A child writes steps of rows, a checkpoint of the position every other step, and goes on from the last one. So many
# are killed, and one more is let through; says how many did not come to their end.
WRITERS = """
import json, os, random, signal, sys, time
from pathlib import Path
from recipes.run.rollout_log import RolloutLog

def write(run, steps, part_bytes, ready):
    log, saved = RolloutLog(run, part_bytes), run / "position.json"
    step, size = json.loads(saved.read_text()) if saved.exists() else (0, 0)
    os.write(ready, b"x")
    log.cut_back(size)
    for step in range(step, steps):
        if step % 2 == 0:
            Path(str(saved) + ".new").write_text(json.dumps([step, log.size]))
            os.replace(str(saved) + ".new", saved)
        log.write(step, [{"row": row, "text": "ä" * (step * 7 % 300)} for row in range(4)])
    log.close()

run, steps, part_bytes, kills = Path(sys.argv[1]), *map(int, sys.argv[2:])
dice, killed = random.Random(5), 0
for turn in range(kills + 1):
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        write(run, steps, part_bytes, tell)
        os._exit(0)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    if turn < kills:
        time.sleep(dice.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    killed += os.WIFSIGNALED(status)
print(killed)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def rows_in(run: Path) -> list[dict[str, Any]]:
    rows = []
    for path in rollout_files(run / "rollouts.jsonl"):
        with open_part(path) as file:
            rows += [json.loads(line) for line in file]
    return rows


def expected_rows(steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "row": row, "text": "ä" * (step * 7 % 300)} for step in range(steps) for row in range(4)]


def write(log: RolloutLog, steps: range) -> None:
    for step in steps:
        log.write(step, [{"row": row, "text": "ä" * (step * 7 % 300)} for row in range(4)])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RolloutLog]:
    opened = RolloutLog(tmp_path, PART_BYTES)
    yield opened
    opened.close()


def test_parts_and_live_file_in_order_are_everything_that_was_written(log: RolloutLog, tmp_path: Path) -> None:
    write(log, range(STEPS))
    log.close()
    files = rollout_files(log.live)
    assert len(files) > 5
    assert [path.name for path in files[:2]] == ["rollouts-00001.jsonl.gz", "rollouts-00002.jsonl.gz"]
    assert files[-1] == log.live and log.live.stat().st_size < 2 * PART_BYTES
    assert rows_in(tmp_path) == expected_rows(STEPS)
    assert not list(tmp_path.glob(".*"))


def test_no_step_is_in_two_parts(log: RolloutLog) -> None:
    for step in range(20):
        for _ in range(3):  # generated in three batches
            log.write(step, [{"text": "x" * PART_BYTES}])
    log.close()
    steps = []
    for path in rollout_files(log.live):
        with open_part(path) as file:
            steps.append({json.loads(line)["step"] for line in file})
    assert steps == [{step} for step in range(20)]


def test_it_is_cut_back_to_any_position_it_ever_had(tmp_path: Path) -> None:
    dice, log, positions = random.Random(3), RolloutLog(tmp_path, PART_BYTES), {}
    back = 0
    for _ in range(25):
        for step in range(back, back + 6):
            positions[step] = log.size
            write(log, range(step, step + 1))
        back = dice.choice(list(positions))
        log.cut_back(positions[back])
        assert log.size == positions[back]
        assert rows_in(tmp_path) == expected_rows(back)
        positions = {at: place for at, place in positions.items() if at < back}
    log.close()


def test_a_kill_at_any_moment_and_a_resume_change_nothing(tmp_path: Path) -> None:
    steps, kills = 1_200, 20
    command = [sys.executable, "-c", WRITERS, str(tmp_path), str(steps), "10000", str(kills)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert int(done.stdout) >= 5
    assert rows_in(tmp_path) == expected_rows(steps)
    files = rollout_files(tmp_path / "rollouts.jsonl")
    assert len(files) > 20 and all(path.suffix == ".gz" for path in files[:-1])
    assert not list(tmp_path.glob(".*"))


def test_a_part_that_cannot_be_compressed_stays_and_is_read(
    log: RolloutLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".rollouts-00001.jsonl.partial").symlink_to("/dev/full")
    write(log, range(STEPS))
    log.close()
    assert capsys.readouterr().err.count("rollouts-00001.jsonl stays uncompressed") == 1
    assert [path.name for path in rollout_files(log.live)][:2] == ["rollouts-00001.jsonl", "rollouts-00002.jsonl.gz"]
    assert rows_in(tmp_path) == expected_rows(STEPS)
    log.cut_back(log.size)
    log.close()
    assert (tmp_path / "rollouts-00001.jsonl.gz").is_file() and rows_in(tmp_path) == expected_rows(STEPS)


def test_a_damaged_part_is_named(log: RolloutLog, tmp_path: Path) -> None:
    write(log, range(STEPS))
    log.close()
    part = tmp_path / "rollouts-00002.jsonl.gz"
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(InfraError, match=r"rollouts-00002\.jsonl\.gz cannot be read.*move it"):
        log.cut_back(PART_BYTES + 2_000)


def test_a_fresh_run_leaves_nothing_of_an_earlier_one(log: RolloutLog, tmp_path: Path) -> None:
    write(log, range(STEPS))
    log.close()
    (tmp_path / "rollouts-00001.jsonl").write_text("")
    (tmp_path / ".rollouts-00003.jsonl.partial").write_text("")
    (tmp_path / "metrics.csv").write_text("")
    log.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_place_in_it_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path / "parts", PART_BYTES)
    write(log, range(STEPS // 2))
    size = log.size
    write(log, range(STEPS // 2, STEPS))
    log.close()
    (tmp_path / "one").mkdir()
    with (tmp_path / "one" / "rollouts.jsonl").open("wb") as one:
        for path in rollout_files(log.live):
            with open_part(path) as part:
                one.write(part.read())
    for run in ("parts", "one"):
        again = RolloutLog(tmp_path / run, PART_BYTES)
        again.cut_back(size)
        write(again, range(STEPS // 2, STEPS))
        again.close()
        assert rows_in(tmp_path / run) == expected_rows(STEPS)


def test_the_twin_that_is_whole_counts_once(tmp_path: Path) -> None:
    """A kill between the compressed part's arrival and the plain one's end leaves both."""
    (tmp_path / "rollouts-00001.jsonl").write_text('{"step": 0}\n')
    with gzip.open(tmp_path / "rollouts-00001.jsonl.gz", "wt") as file:
        file.write('{"step": 0}\n')
    assert rows_in(tmp_path) == [{"step": 0}]
