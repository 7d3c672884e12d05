"""A backup is whole or not there, and whatever happens to it, the run goes on."""

import gzip
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from recipes.backup import open as backup_opening
from recipes.backup.backup import Backup
from recipes.backup.files import local_files, public_command
from recipes.backup.jobs import Patience
from recipes.backup.manifest import Entry, FileRecord
from recipes.backup.open import open_backup
from recipes.backup.store import UPLOAD_BYTES, BackupStore
from recipes.run.checkpoints import seal
from recipes.run.role_adapters import write_role_adapters
from recipes.run.rollout_log import RolloutLog, open_part, rollout_files
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.settings.urls import check_url
from recipes.training.collapse import Collapse
from recipes.training.phases import roll_back, train_policy
from tests.conftest import KEY
from tests.patience import PATIENCE
from tests.recipes.faulty_store import FaultyFileSystem
from tests.recipes.test_training_signals import ROOT, tiny_config
from tests.recipes.tiny_run import ASK, drawn_completions, make_trainer
from tests.stub_endpoint import StubEndpoint

QUICK = Patience(stall_seconds=0.3, first_delay=0.01, last_delay=0.05)
URL = "faulty://bucket/run"


@pytest.fixture(autouse=True)
def store() -> Iterator[BackupStore]:
    FaultyFileSystem.reset()
    yield BackupStore(URL)
    FaultyFileSystem.reset()  # lets hanging threads go


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def checkpoint(run: Path, step: int, content: str | None = None) -> Path:
    """A sealed checkpoint with a nested file, and the rollouts up to it."""
    with (run / "rollouts.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "text": "x" * 200}) + "\n")
    folder = run / f"checkpoint-{step}"
    (run / "best").mkdir(exist_ok=True)
    (run / "best" / "best.json").write_text(f'{{"step": {step}}}')
    (folder / "global_step").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_text(content or f"weights of {step}")
    (folder / "global_step" / "rank_1.pt").write_text(f"optimizer of {step}")
    seal(folder, {"rollouts_bytes": (run / "rollouts.jsonl").stat().st_size})
    return folder


def sealed(run: Path, step: int, rollouts_bytes: int) -> Path:
    """A checkpoint of nothing but a place in the rollouts."""
    folder = run / f"checkpoint-{step}"
    folder.mkdir()
    seal(folder, {"rollouts_bytes": rollouts_bytes})
    return folder


def write_rows(log: RolloutLog, steps: range) -> None:
    for step in steps:
        log.write(step, [{"text": random.Random(step).randbytes(100).hex()}] * 2)


def no_links(*_: object) -> None:
    raise PermissionError("no hard links here")


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def steps(store: BackupStore, kind: str = "checkpoint") -> list[int]:
    return [entry.step for entry in store.entries() if entry.kind == kind and store.fault(entry) is None]


def newest(store: BackupStore) -> Entry:
    return store.entries()[-1]


def stored_rollouts(store: BackupStore) -> bytes:
    """The rollouts of the newest backup, uncompressed."""
    entry = newest(store)
    names = sorted(name for name in entry.files if name.startswith("rollouts"))  # the live file's behind the parts
    return b"".join(gzip.decompress(store.fs.cat_file(f"{store.root}/{entry.place(name)}")) for name in names)


def local_rollouts(run: Path) -> bytes:
    content = b""
    for path in rollout_files(run / "rollouts.jsonl"):
        with open_part(path) as file:
            content += file.read()
    return content


@pytest.mark.parametrize("scheme", ["faulty://bucket/deep/run", "file://{}", "{}"])
def test_a_checkpoint_is_there_with_its_rollouts_and_what_was_spent(scheme: str, run: Path, tmp_path: Path) -> None:
    url = scheme.format(tmp_path / "mounted drive" / "run")
    store, backup = BackupStore(url), Backup(url, run, patience=QUICK)
    (run / ".spent-0.json").write_text('{"cost_usd": 1.5}')
    backup.checkpoint(checkpoint(run, 2))
    assert until(lambda: steps(store) == [2])
    backup.checkpoint(checkpoint(run, 4))
    backup.close(10)
    assert steps(store) == [2, 4]
    entry = newest(store)
    checkpoint_files = {"adapter_model.safetensors", "global_step/rank_1.pt", "complete.json"}
    assert set(entry.files) == checkpoint_files | {"best/best.json", "rollouts.jsonl.gz"}
    assert entry.spent == {".spent-0.json": {"cost_usd": 1.5}}
    assert stored_rollouts(store) == (run / "rollouts.jsonl").read_bytes()


def test_a_log_in_parts_is_backed_up_as_one(store: BackupStore, run: Path, tmp_path: Path) -> None:
    log, backup = RolloutLog(run, part_bytes=400), Backup(URL, run, patience=QUICK)
    for step in range(2, 8):
        write_rows(log, range(step, step + 1))
        backup.checkpoint(sealed(run, step, log.size))
        assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
    backup.close(10)
    log.close()
    assert len(rollout_files(log.live)) > 3
    assert stored_rollouts(store) == local_rollouts(run)


@pytest.mark.parametrize("links", [True, False])
def test_the_rollouts_are_those_of_the_checkpoint_whatever_becomes_of_them_meanwhile(
    links: bool, store: BackupStore, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live file that the checkpoint ends in is closed, and compressed, before the store answers."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    log, backup = RolloutLog(run, part_bytes=400), Backup(URL, run, patience=Patience())
    write_rows(log, range(2, 5))
    folder = sealed(run, 4, log.size)
    expected = local_rollouts(run)
    FaultyFileSystem.hang.clear()
    backup.checkpoint(folder)
    write_rows(log, range(5, 9))
    log.close()
    assert len(local_rollouts(run)) > len(expected)
    FaultyFileSystem.hang.set()
    backup.close(10)
    assert steps(store) == [4] and stored_rollouts(store) == expected


def test_without_links_a_part_that_is_closed_while_it_is_read_is_read_again(
    store: BackupStore, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    log, backup, release = RolloutLog(run, part_bytes=400), Backup(URL, run, patience=QUICK), threading.Event()
    write_rows(log, range(2, 5))
    expected, folder = local_rollouts(run), sealed(run, 4, log.size)
    put = store.__class__.put

    def late(self: BackupStore, source: Path, name: str, count: int | None = None) -> FileRecord:
        if count is not None and not release.is_set():
            write_rows(log, range(5, 9))  # the file of that name is another one now, and as long
            release.set()
        return put(self, source, name, count)

    monkeypatch.setattr(BackupStore, "put", late)
    backup.checkpoint(folder)
    backup.close(10)
    log.close()
    assert steps(store) == [4] and stored_rollouts(store) == expected


def test_a_compressed_part_is_read_and_sent_once(
    store: BackupStore, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    of = FileRecord.of
    monkeypatch.setattr(FileRecord, "of", lambda path: read.append(path.name) or of(path))
    log = RolloutLog(run, part_bytes=400)
    for fresh, first in ((True, 2), (False, 8)):
        backup = Backup(URL, run, fresh=fresh, patience=QUICK)
        for step in range(first, first + 6):
            write_rows(log, range(step, step + 1))
            log.close()
            backup.checkpoint(sealed(run, step, log.size))
            assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
        backup.close(10)
    parts = {path.name for path in rollout_files(log.live)[:-1]}
    assert len(parts) > 8
    sent = [place.split("-", 1)[1] for place in store.parts()]
    assert sorted(name for name in sent if name != "rollouts.jsonl.gz") == sorted(parts)
    assert all(read.count(name) <= 2 for name in parts)  # once in each life of the run
    assert stored_rollouts(store) == local_rollouts(run)


def test_a_reopened_part_is_another_one(store: BackupStore, run: Path) -> None:
    log, backup = RolloutLog(run, part_bytes=900), Backup(URL, run, patience=QUICK)
    write_rows(log, range(2, 4))
    size = log.size
    write_rows(log, range(4, 8))
    log.close()
    backup.checkpoint(sealed(run, 8, log.size))
    assert until(lambda: steps(store) == [8])
    backup.forget_after(3)
    log.cut_back(size)
    write_rows(log, range(14, 20))
    log.close()
    backup.checkpoint(sealed(run, 10, log.size))
    backup.close(10)
    assert steps(store) == [10] and len(newest(store).files) > 3
    assert stored_rollouts(store) == local_rollouts(run)


def test_a_part_that_is_gone_from_the_store_is_sent_again(store: BackupStore, run: Path) -> None:
    log, backup = RolloutLog(run, part_bytes=400), Backup(URL, run, patience=QUICK)
    for step in (4, 6):
        write_rows(log, range(step, step + 2))
        log.close()
        backup.checkpoint(sealed(run, step, log.size))
        assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
        store.fs.rm(f"{store.root}/rollouts", recursive=True)
    write_rows(log, range(8, 9))
    backup.checkpoint(sealed(run, 8, log.size))
    backup.close(10)
    log.close()
    assert steps(store) == [8] and stored_rollouts(store) == local_rollouts(run)


def test_only_the_newest_are_kept_and_nothing_lies_around(store: BackupStore, run: Path) -> None:
    backup = Backup(URL, run, keep=2, patience=QUICK)
    for step in (2, 4, 6, 8):
        backup.checkpoint(checkpoint(run, step))
        assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
    backup.close(10)
    assert steps(store) == [6, 8]
    assert sorted(store._listed("")) == [
        "000003-checkpoint-6", "000003-checkpoint-6.json", "000004-checkpoint-8", "000004-checkpoint-8.json", "rollouts"
    ]  # fmt: skip
    assert sorted(store.parts()) == ["rollouts/000003-rollouts.jsonl.gz", "rollouts/000004-rollouts.jsonl.gz"]
    assert [path.name for path in (run / "_backup").iterdir()] == ["id"]


def test_the_newest_checkpoint_wins_when_the_store_is_slow(store: BackupStore, run: Path) -> None:
    backup = Backup(URL, run, patience=Patience(stall_seconds=30))
    FaultyFileSystem.hang.clear()
    for step in (2, 4, 6, 8):  # none of them waits for the store, which hangs
        folder = checkpoint(run, step)
        backup.checkpoint(folder)
        if step == 2:
            time.sleep(0.1)  # is on its way
        for path in sorted(folder.rglob("*"), reverse=True):  # the run rotates it away at once
            path.unlink() if path.is_file() else path.rmdir()
    FaultyFileSystem.hang.set()
    backup.close(10)
    assert steps(store) == [2, 8]


def test_a_network_that_fails_half_of_the_time_gets_everything_through(store: BackupStore, run: Path) -> None:
    FaultyFileSystem.failing = 0.5
    backup = Backup(URL, run, patience=QUICK)
    backup.checkpoint(checkpoint(run, 2))
    backup.close(20)
    FaultyFileSystem.failing = 0.0
    assert steps(store) == [2]


@pytest.mark.parametrize("fault", ["down", "read-only", "hangs"])
def test_one_warning_when_it_breaks_and_one_line_when_it_works_again(
    fault: str, store: BackupStore, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = Backup(URL, run, patience=QUICK)

    def broken(on: bool) -> None:
        FaultyFileSystem.failing = float(on and fault == "down")
        FaultyFileSystem.read_only = on and fault == "read-only"
        FaultyFileSystem.hang.clear() if on and fault == "hangs" else FaultyFileSystem.hang.set()

    broken(True)
    for step in (2, 4, 6):
        backup.checkpoint(checkpoint(run, step))
        time.sleep(0.2)
    assert until(lambda: backup._broken)
    broken(False)
    assert until(lambda: 6 in steps(store) and not backup._broken)
    backup.close(10)
    err = capsys.readouterr().err
    assert err.count("does not work") == 1 and err.count("works again") == 1
    assert "training goes on" in err


def test_the_end_of_a_run_waits_so_long_and_says_what_is_missing(
    store: BackupStore, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FaultyFileSystem.hang.clear()
    with open_backup(None, run, wait_seconds=9, keep=2, fresh=True, main_process=True) as none:
        assert none is None
    backup = Backup(URL, run)
    backup.checkpoint(checkpoint(run, 20))
    backup.results(20)
    backup.close(0.3)
    assert "not backed up to faulty://bucket/run: checkpoint-20 and the results" in capsys.readouterr().err
    FaultyFileSystem.hang.set()
    time.sleep(0.1)
    assert steps(store) == []  # nothing is written behind the run's back


def test_a_backup_that_stops_in_the_middle_leaves_the_one_before(store: BackupStore, run: Path) -> None:
    backup = Backup(URL, run, patience=QUICK)
    backup.checkpoint(checkpoint(run, 2))
    assert until(lambda: steps(store) == [2])
    for files in range(4):  # two files, the checkpoint's manifest, the rollouts; then the backup's own manifest
        FaultyFileSystem.dies_at = FaultyFileSystem.writes + files
        stopped = Backup(URL, run, fresh=False, patience=QUICK)
        stopped.checkpoint(checkpoint(run, 10 + files))
        stopped.close(0.2)
        assert steps(store) == [2]
    FaultyFileSystem.dies_at = None
    after = Backup(URL, run, fresh=False, patience=QUICK)
    after.checkpoint(checkpoint(run, 20))
    after.close(10)
    assert steps(store) == [2, 20]
    folders = [name for name in store._listed("") if not name.endswith(".json") and name != "rollouts"]
    assert len(folders) == 2  # what the others left unfinished is gone


def test_a_checkpoint_that_changes_on_the_way_is_not_taken_for_whole(
    store: BackupStore, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(run, 2)
    (folder / "adapter_model.safetensors").write_text("rotten")
    backup = Backup(URL, run, patience=QUICK)
    backup.checkpoint(folder)
    backup.close(10)
    assert steps(store) == []
    assert "checkpoint-2 is not backed up" in capsys.readouterr().err


def test_a_roll_back_is_a_roll_back_there_too(store: BackupStore, run: Path) -> None:
    backup = Backup(URL, run, patience=QUICK)
    for step in (3, 6, 9):
        backup.checkpoint(checkpoint(run, step))
        assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
    backup.forget_after(3)
    assert until(lambda: steps(store) == [3])
    os.truncate(run / "rollouts.jsonl", len(stored_rollouts(store)))
    (run / "checkpoint-6").rename(run / "old")
    backup.checkpoint(checkpoint(run, 6, "other weights"))
    backup.close(10)
    assert steps(store) == [3, 6]
    assert stored_rollouts(store) == (run / "rollouts.jsonl").read_bytes()


def test_a_roll_back_gets_through_a_network_that_fails_and_an_append_only_store_goes_on(
    store: BackupStore, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = Backup(URL, run, patience=QUICK)
    for step in (3, 6):
        backup.checkpoint(checkpoint(run, step))
        assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
    remove, failures = FaultyFileSystem.rm, [ConnectionError("the connection broke"), OSError("Forbidden")]

    def failing(self: FaultyFileSystem, *args: Any, **kwargs: Any) -> None:
        if failures:
            raise failures.pop()
        remove(self, *args, **kwargs)

    monkeypatch.setattr(FaultyFileSystem, "rm", failing)
    backup.forget_after(3)
    assert until(lambda: steps(store) == [3])
    failures += [OSError("Forbidden")] * 100
    backup.forget_after(1)
    backup.checkpoint(checkpoint(run, 4))
    backup.close(10)
    assert 4 in steps(store)


def test_the_local_policy_is_backed_up_once(store: BackupStore, run: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "training_args.bin", "executor.log"):
        (policy / name).write_text(name)
    for fresh in (True, False):
        backup = Backup(URL, run, fresh=fresh, patience=QUICK)
        backup.policy(policy)
        backup.close(10)
    (entry,) = store.entries()
    assert set(entry.files) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (entry.number, entry.target) == (1, str(policy))


def test_the_backups_of_another_run_are_not_touched(store: BackupStore, run: Path, tmp_path: Path) -> None:
    first = Backup(URL, run, patience=QUICK)
    first.checkpoint(checkpoint(run, 2))
    first.close(10)
    Backup(URL, run, fresh=False, patience=QUICK).check()
    other = Backup(URL, tmp_path / "other", patience=QUICK)
    with pytest.raises(UsageError, match=r"backups of another run \(.*run, step 2\).*scripts/restore\.py"):
        other.check()
    other.checkpoint(checkpoint(tmp_path / "other", 4))
    other.close(0.3)
    assert steps(store) == [2]


def test_a_store_that_is_down_at_the_start_does_not_stop_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FaultyFileSystem.failing = 1.0
    with open_backup(URL, run, wait_seconds=5, keep=2, fresh=True, main_process=True) as backup:
        assert backup is not None
        assert "does not work (ConnectionError: the network is down)" in capsys.readouterr().err
        FaultyFileSystem.failing = 0.0
    with open_backup(URL, run, wait_seconds=5, keep=2, fresh=True, main_process=False) as backup:
        assert backup is None


def test_a_url_that_cannot_work_is_refused_with_the_package_it_needs(run: Path) -> None:
    with pytest.raises(UsageError, match="unknown protocol 'nope'"):
        check_url("--backup_url", "nope://x")
    with (
        pytest.raises(UsageError, match=r"--backup_url s3://<hidden>@bucket/run: .*pip install s3fs"),
        open_backup("s3://me:pass@bucket/run", run, wait_seconds=1, keep=2, fresh=True, main_process=False),
    ):
        pass


def test_an_interrupted_run_waits_a_moment_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_opening, "INTERRUPTED_SECONDS", 0.5)
    start = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        open_backup(URL, run, wait_seconds=10 * PATIENCE, keep=2, fresh=True, main_process=True) as backup,
    ):
        assert backup is not None
        FaultyFileSystem.hang.clear()
        backup.checkpoint(checkpoint(run, 2))
        raise KeyboardInterrupt
    assert 0.4 < time.monotonic() - start < PATIENCE


def test_a_training_run_is_backed_up_and_nothing_secret_with_it(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    run_dir = tmp_path / "run"
    trainer = make_trainer(
        config, run_dir, max_steps=2, save_strategy="steps", save_steps=2, hub_token="hf_secret", push_to_hub=False
    )
    trainer._generate_single_turn = drawn_completions(trainer, [ASK, "nonsense"])  # type: ignore[method-assign]
    command = ["recipes/grpo_mixed.py", "--hub_token", "hf_secret", "--hub-token=hf_secret", "--beta", "0"]
    trainer.backup = Backup(URL, run_dir, command=command, patience=QUICK)
    (run_dir / "executor.log").write_text(KEY)
    train_policy(trainer, None)
    trainer.save_model()
    (run_dir / "summary.json").write_text("{}")
    trainer.backup.results(2)
    trainer.backup.close(30)
    trainer.close()
    assert steps(store)[-1] == 2 and steps(store, "results") == [2]
    kept = {name.rpartition("/")[2] for name in newest(store).files}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "summary.json"} <= kept
    assert not {"executor.log", "training_args.bin", ".executor.lock"} & kept
    assert newest(store).origin.command == ("recipes/grpo_mixed.py", "--beta", "0")
    for path, file in FaultyFileSystem.store.items():
        assert not any(secret in file.getvalue() for secret in (KEY.encode(), b"hf_secret", b"hf_environment")), path
    assert trainer.args.hub_token == "hf_secret"


def test_a_trainer_that_rolls_back_says_so_to_its_backup(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, store: BackupStore
) -> None:
    trainer = make_trainer(config, tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=2)
    trainer._generate_single_turn = drawn_completions(trainer, [ASK, "nonsense"])  # type: ignore[method-assign]
    trainer.backup = Backup(URL, tmp_path / "run", patience=QUICK)
    train_policy(trainer, None)
    assert until(lambda: steps(store)[-1:] == [2])
    assert roll_back(trainer, Collapse(since_step=1, level=0.8, now=0.1), last=False).step == 0
    assert until(lambda: 2 not in steps(store))
    trainer.backup.close(10)
    trainer.close()


@pytest.mark.long
def test_a_recipe_backs_up_what_it_trains_from_where_it_is_told(stub: StubEndpoint, tmp_path: Path) -> None:
    flags = ["--executor", "openai", "--executor_base_url", stub.url, "--num_heldout_problems", "3", "--max_steps", "2"]
    flags += ["--save_strategy", "steps", "--save_steps", "2", "--backup_url", f"{tmp_path}/drive"]
    command = [sys.executable, str(ROOT / "tests/recipes/given_run.py"), "--config", str(tiny_config(tmp_path)), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    store = BackupStore(f"{tmp_path}/drive")
    assert steps(store)[-1] == 2 and steps(store, "policy") == [0] and steps(store, "results") == [2]
    assert {"summary.json", "heldout.jsonl", "metrics.csv", "reward_curve.png"} <= set(newest(store).files)
    assert newest(store).origin.command[-1] == f"{tmp_path}/drive"
    assert f"is on the disk of {tmp_path}/run" in done.stderr and f"the results at {tmp_path}/drive" in done.stderr


def test_training_args_keep_everything_but_the_tokens(tmp_path: Path) -> None:
    args = WorkflowGRPOConfig(output_dir=str(tmp_path), hub_token="hf_secret", use_cpu=True, bf16=False)
    torch.save(args, tmp_path / "args.bin")
    loaded = torch.load(tmp_path / "args.bin", weights_only=False)
    assert loaded.hub_token is None and loaded.learning_rate == args.learning_rate


def test_the_adapter_of_every_role_is_backed_up(run: Path) -> None:
    folder = checkpoint(run, 2)
    for place in (run, run / "critic", run / "best", run / "best" / "critic"):
        place.mkdir(exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (place / name).write_text("{}")
    write_role_adapters(run, {"writer": "default", "critic": "critic"})
    expected = {"critic/adapter_config.json", "critic/adapter_model.safetensors", "agents.json"}
    best = {f"best/{name}" for name in expected - {"agents.json"}}
    assert expected | best <= set(local_files("results", run, run).files)
    assert not any(name.startswith("checkpoint-") for name in local_files("results", run, run).files)
    assert best <= set(local_files("checkpoint", folder, run).files)


def test_threads_that_hang_do_not_pile_up(run: Path) -> None:
    FaultyFileSystem.hang.clear()
    backup = Backup(URL, run, patience=Patience(stall_seconds=0.05, first_delay=0.01, last_delay=0.02))
    backup.checkpoint(checkpoint(run, 2))
    time.sleep(1)
    assert sum(thread.name == "backup-attempt" for thread in threading.enumerate()) <= 2 + 2  # two tests' worth at most
    FaultyFileSystem.hang.set()
    backup.close(5)


def test_an_attempt_that_was_given_up_cannot_damage_what_came_after_it(store: BackupStore, run: Path) -> None:
    """Its write returns when the next attempt is through."""
    hold = threading.Event()
    FaultyFileSystem.held = ("adapter_model", hold)
    backup = Backup(URL, run, patience=Patience(stall_seconds=1, first_delay=0.01))
    backup.checkpoint(checkpoint(run, 2))
    assert until(lambda: steps(store) == [2])
    left_behind = backup._hung[0]
    hold.set()
    left_behind.join(5)
    assert not left_behind.is_alive() and steps(store) == [2]
    backup.close(5)


@pytest.mark.parametrize("kind", ["policy", "results"])
def test_what_waits_for_another_attempt_is_not_taken_for_what_a_killed_run_left(
    kind: str, store: BackupStore, run: Path, tmp_path: Path
) -> None:
    backup = Backup(URL, run, patience=QUICK)
    policy = run if kind == "results" else tmp_path / "policy"
    policy.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (policy / name).write_text(name)
    FaultyFileSystem.broken = "model.safetensors"
    backup.policy(policy) if kind == "policy" else backup.results(1)
    assert until(lambda: backup._broken)  # one file is there, the other one is not
    backup.checkpoint(sealed(run, 4, 0))
    assert until(lambda: steps(store) == [4])
    FaultyFileSystem.broken = None
    backup.close(10)
    assert len(steps(store, kind)) == 1


def test_backups_of_another_version_are_not_touched(store: BackupStore, run: Path) -> None:
    first = Backup(URL, run, patience=QUICK)
    first.checkpoint(checkpoint(run, 2))
    first.close(10)
    path = f"{store.root}/000001-checkpoint-2.json"
    store.fs.pipe_file(path, json.dumps({**json.loads(store.fs.cat_file(path)), "format": 1}).encode())
    later = Backup(URL, run, patience=QUICK)
    with pytest.raises(UsageError, match=r"another version of this program.*another URL"):
        later.check()
    later.checkpoint(checkpoint(run, 4))
    later.close(0.3)
    assert store.manifests() == ["000001-checkpoint-2"]


def test_a_slow_line_is_heard_of_often(store: BackupStore, run: Path) -> None:
    """An object store's own blocks, of 50 MB and more, take longer than a stall."""
    backup = Backup(URL, run, patience=QUICK)
    backup.checkpoint(checkpoint(run, 2))
    backup.close(10)
    assert FaultyFileSystem.block_sizes == {UPLOAD_BYTES} and 5 << 20 <= UPLOAD_BYTES <= 16 << 20


def test_a_command_keeps_no_secret() -> None:
    command = [
        "r.py",
        "--hub-token",
        "hf_x",
        "--wandb_api_key=abc",
        "--executor_base_url",
        "https://me:pw@host/v1?sig=1",
    ]
    assert public_command([*command, "--beta", "0"]) == (
        "r.py", "--executor_base_url", "https://<hidden>@host/v1?<hidden>", "--beta", "0"
    )  # fmt: skip


def test_what_a_store_says_is_shown_without_what_signs_it(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("403 for https://bucket.example/run?sv=2024&sig=sesame")

    monkeypatch.setattr(FaultyFileSystem, "ls", refused)
    with open_backup(URL, run, wait_seconds=0.1):
        pass
    err = capsys.readouterr().err
    assert "403 for https://bucket.example/run" in err and "sesame" not in err
