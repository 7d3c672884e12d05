"""What a backup holds comes back exactly, or not at all."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aflow_ops.executor import ExecutorConfig
from recipes.backup.backup import Backup
from recipes.backup.open import open_backup
from recipes.backup.store import BackupStore
from recipes.run.checkpoints import checkpoint_to_resume, latest_checkpoint, read_checkpoint
from recipes.run.command import run_command
from recipes.run.rollout_log import RolloutLog, rollout_files
from recipes.settings.arguments import RecipeArguments
from recipes.training.phases import train_policy
from scripts import restore
from tests.recipes.faulty_store import FaultyFileSystem
from tests.recipes.test_backup import QUICK, URL, checkpoint, sealed, steps, until, write_rows
from tests.recipes.test_resume import TEXTS, answer, log, process, rollouts
from tests.recipes.tiny_run import drawn_completions, make_trainer
from tests.stub_endpoint import StubEndpoint


@pytest.fixture(autouse=True)
def store() -> Iterator[BackupStore]:
    FaultyFileSystem.reset()
    yield BackupStore(URL)
    FaultyFileSystem.reset()


@pytest.fixture
def backed_up(store: BackupStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with checkpoints 2 and 4 in the backup, whose machine is gone; returns where its folder was."""
    monkeypatch.chdir(tmp_path)
    run = Path("outputs/run")
    run.mkdir(parents=True)
    policy = Path(".cache/policies/tiny")
    policy.mkdir(parents=True)
    (policy / "config.json").write_text("{}")
    command = ["recipes/grpo_math.py", "--output_dir", "outputs/run", "--beta=0", "--backup_url", URL]
    backup = Backup(URL, run, command=command, patience=QUICK)
    backup.policy(policy)
    assert until(lambda: store.entries())
    for step, cost in ((2, 0.5), (4, 1.0)):
        (run / ".spent-0.json").write_text(json.dumps({"calls": step, "cost_usd": cost}))
        backup.checkpoint(checkpoint(run, step))
        assert until(lambda: steps(store)[-1:] == [step])  # noqa: B023 - called at once
    backup.close(10)
    shutil.rmtree("outputs")
    shutil.rmtree(".cache")
    return tmp_path / run


def run_restore(*arguments: str) -> int:
    sys.argv = ["restore.py", *arguments]
    return run_command(restore.main)


def damage(name: str, *, cut: int = 0) -> None:
    """Truncate a file of the backup, or flip a bit of it."""
    (path,) = [path for path in FaultyFileSystem.store if path.endswith(name)]
    file = FaultyFileSystem.store[path]
    content = file.getvalue()
    file.seek(0)
    file.truncate()
    file.write(content[:-cut] if cut else bytes([content[0] ^ 1]) + content[1:])


def test_the_newest_checkpoint_comes_back_with_all_that_belongs_to_it(
    backed_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_restore(URL) == 0
    assert read_checkpoint(backed_up / "checkpoint-4").step == 4
    assert [json.loads(line)["step"] for line in (backed_up / "rollouts.jsonl").open()] == [2, 4]
    assert json.loads((backed_up / "best/best.json").read_text()) == {"step": 4}
    assert not (backed_up / "checkpoint-4/best").exists()
    assert json.loads((backed_up / ".spent-0.json").read_text()) == {"calls": 4, "cost_usd": 1.0}
    assert Path(".cache/policies/tiny/config.json").read_text() == "{}"
    assert capsys.readouterr().out == (
        f"accelerate launch recipes/grpo_math.py --beta=0 --output_dir outputs/run --resume_from_checkpoint auto "
        f"--backup_url {URL}\n"
    )
    Backup(URL, backed_up, fresh=False).check()  # the same run, to the store


def test_an_older_step_and_another_folder(backed_up: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_restore(URL, "--step", "2", "--output_dir", str(tmp_path / "again")) == 0
    assert latest_checkpoint(tmp_path / "again") == read_checkpoint(tmp_path / "again/checkpoint-2")
    assert [json.loads(line)["step"] for line in (tmp_path / "again/rollouts.jsonl").open()] == [2]
    assert not backed_up.exists()
    assert run_restore(URL, "--step", "3") == 2
    assert "no such checkpoint in the backup; there are 2, 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "cut", "what"),
    [
        ("checkpoint-4/adapter_model.safetensors", 3, "bytes instead of"),
        ("checkpoint-4/adapter_model.safetensors", 0, "is damaged"),
        ("checkpoint-4/complete.json", 0, "is damaged"),
        ("checkpoint-4.json", 0, "000003-checkpoint-4 is not used: its manifest cannot be read"),
        ("checkpoint-4.json", 20, "000003-checkpoint-4 is not used: its manifest cannot be read"),
    ],
)
def test_a_damaged_backup_is_passed_over_for_the_one_before(
    name: str, cut: int, what: str, backed_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(name, cut=cut)
    assert run_restore(URL) == 0
    assert [path.name for path in backed_up.glob("checkpoint-*")] == ["checkpoint-2"]
    assert what in capsys.readouterr().err


def test_when_nothing_is_whole_nothing_is_restored(backed_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in [path for path in FaultyFileSystem.store if "/rollouts/" in path]:
        damage(part, cut=5)
    assert run_restore(URL) == 1
    assert "no backup at faulty://bucket/run is whole" in capsys.readouterr().err
    assert not list(backed_up.glob("checkpoint-*")) and not (backed_up / "rollouts.jsonl").exists()


def test_the_list_says_what_is_whole(
    backed_up: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    damage("checkpoint-4/global_step/rank_1.pt", cut=1)
    assert run_restore(URL, "--list") == 0
    lines = capsys.readouterr().out
    assert "bytes instead" in lines and "whole" in lines and ".cache/policies/tiny" in lines
    assert not backed_up.exists()
    assert run_restore("faulty://bucket/other") == 2
    assert "has no complete backup" in capsys.readouterr().err
    FaultyFileSystem.failing = 1.0
    assert run_restore(URL) == 1
    assert "cannot be read: ConnectionError" in capsys.readouterr().err


def test_a_newer_checkpoint_on_this_machine_is_not_lost(backed_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_restore(URL) == 0
    (backed_up / ".spent-0.json").write_text('{"calls": 1, "cost_usd": 7.0}')
    assert run_restore(URL) == 0  # the same checkpoint: nothing to lose
    checkpoint(backed_up, 6)
    assert run_restore(URL) == 2
    assert "has checkpoint-6, which is not older than the backup's checkpoint-4" in capsys.readouterr().err
    assert run_restore(URL, "--force") == 0
    newest = latest_checkpoint(backed_up)
    assert newest is not None and newest.step == 4
    assert json.loads((backed_up / ".spent-0.json").read_text()) == {"calls": 1, "cost_usd": 7.0}


def test_another_policy_is_not_replaced(backed_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(".cache/policies/tiny/config.json")
    config.parent.mkdir(parents=True)
    config.write_text('{"other": 1}')
    assert run_restore(URL) == 2
    assert "is not the policy that the run trains" in capsys.readouterr().err
    assert not (backed_up / "checkpoint-4").exists()
    assert run_restore(URL, "--force") == 0
    assert config.read_text() == "{}"


def test_a_damaged_policy_is_named_and_a_copy_of_it_does(backed_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage("policy-0/config.json")
    assert run_restore(URL) == 1
    told = capsys.readouterr().err
    assert "the policy that the run trains is not whole in the backup: 000001-policy-0/config.json is damaged" in told
    assert "put a copy of it in .cache/policies/tiny" in told
    copy = Path(".cache/policies/tiny/config.json")
    copy.parent.mkdir(parents=True)
    copy.write_text("{}")
    assert run_restore(URL) == 0
    assert (backed_up / "checkpoint-4").is_dir()


def test_a_manifest_cannot_write_outside_the_run(backed_up: Path, store: BackupStore) -> None:
    (path,) = [path for path in FaultyFileSystem.store if path.endswith("checkpoint-4.json")]
    row = json.loads(FaultyFileSystem.store[path].getvalue())
    row["files"]["../../evil"] = row["files"].pop("adapter_model.safetensors")
    with store.fs.open(path, "wb") as file:
        file.write(json.dumps(row).encode())
    assert run_restore(URL) == 0
    assert [folder.name for folder in backed_up.glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_manifest_cannot_choose_a_folder_outside_outputs(backed_up: Path, store: BackupStore) -> None:
    for path in [path for path in FaultyFileSystem.store if path.endswith("checkpoint-4.json")]:
        row = json.loads(FaultyFileSystem.store[path].getvalue())
        row["origin"]["output_dir"] = "/somewhere/.."
        store.fs.pipe_file(path, json.dumps(row).encode())
    Path("rollouts.jsonl").write_text("of something else")
    assert run_restore(URL) == 0
    assert Path("rollouts.jsonl").read_text() == "of something else"
    assert Path("outputs/restored/checkpoint-4").is_dir()


def test_results_come_back_when_the_run_had_ended(backed_up: Path, store: BackupStore) -> None:
    assert run_restore(URL) == 0
    (backed_up / "summary.json").write_text("{}")
    (backed_up / "rollouts.jsonl").open("a").write('{"step": 5}\n')
    backup = Backup(URL, Path("outputs/run"), fresh=False, patience=QUICK)
    backup.results(5)
    backup.close(10)
    shutil.rmtree(backed_up)
    assert run_restore(URL) == 0
    assert (backed_up / "summary.json").is_file() and (backed_up / "checkpoint-4").is_dir()
    assert [json.loads(line)["step"] for line in (backed_up / "rollouts.jsonl").open()] == [2, 4, 5]


def test_the_parts_of_the_rollouts_come_back_as_they_were_and_are_fetched_once(
    backed_up: Path, store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RolloutLog(backed_up, part_bytes=400)
    write_rows(log, range(6))
    log.close()
    run = Path("outputs/run")
    (run / "_backup").mkdir()
    (run / "_backup/id").write_text(store.entries()[0].origin.run_id)
    backup = Backup(URL, run, fresh=False, patience=QUICK)
    backup.checkpoint(sealed(run, 6, log.size))
    assert until(lambda: steps(store)[-1:] == [6])
    write_rows(log, range(6, 7))
    log.close()
    backup.results(7)
    backup.close(10)
    before = {path.name: path.read_bytes() for path in rollout_files(log.live)}
    shutil.rmtree(backed_up)
    fetched: list[str] = []
    get = BackupStore.get
    monkeypatch.setattr(BackupStore, "get", lambda *args: fetched.append(args[1]) or get(*args))
    assert run_restore(URL) == 0
    assert {path.name: path.read_bytes() for path in rollout_files(log.live)} == before
    assert len(before) > 3 and len(set(fetched)) == len(fetched)


# Exactness


def train(url: str, folder: Path, name: str, backup_url: str | None) -> None:
    """A whole start of a run, in a process of its own."""
    with (folder / "log").open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ["OPENAI_API_KEY"] = "sk-test"
    config = ExecutorConfig(executor_base_url=url, executor_cache_dir=str(folder / "cache"), executor_temperature=0)
    start = checkpoint_to_resume("auto", folder / name)
    parts = {"rollouts_part_mb": 0.01} if name == "killed" else {}
    recipe = RecipeArguments(prompt_style="brief", workflow_timeout=20, **parts)
    trainer = make_trainer(
        config, folder / name, recipe, max_steps=8, save_strategy="steps", save_steps=2, save_total_limit=2,
        start=start, num_iterations=2,
    )  # fmt: skip
    trainer._generate_single_turn = drawn_completions(trainer, TEXTS)  # type: ignore[method-assign]
    with open_backup(
        backup_url, folder / name, wait_seconds=30, keep=2, fresh=start is None, main_process=True
    ) as trainer.backup:
        train_policy(trainer, start)
        trainer.save_model()
        if trainer.backup is not None:
            trainer.backup.results(8)
    trainer.close()


@pytest.mark.long
def test_a_run_that_lost_its_machine_ends_as_if_it_had_not(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    with StubEndpoint(answer, latency=0.02) as stub:
        whole = process(stub.url, tmp_path, "whole", None, target=train)
        killed = process(stub.url, tmp_path, "killed", str(drive), target=train)
        assert until(lambda: max(steps(BackupStore(str(drive))), default=0) >= 2, 60), log(tmp_path)
        assert killed.is_alive()
        killed.kill()
        killed.join(30)
        shutil.rmtree(tmp_path / "killed")
        assert run_restore(str(drive), "--output_dir", str(tmp_path / "killed")) == 0
        restored = latest_checkpoint(tmp_path / "killed")
        assert restored is not None and 2 <= restored.step < 8
        last = process(stub.url, tmp_path, "killed", str(drive), target=train)
        last.join(60)
        whole.join(60)
        assert (whole.exitcode, last.exitcode) == (0, 0), log(tmp_path)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(value.abs().sum() > 0 for name, value in one.items() if "lora_B" in name)
    assert rollouts(tmp_path / "whole") == rollouts(tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed")
    assert run_restore(str(drive), "--output_dir", str(tmp_path / "killed")) == 0
    again: Any = load_file(tmp_path / "killed" / "adapter_model.safetensors")
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert rollouts(tmp_path / "whole") == rollouts(tmp_path / "killed")
