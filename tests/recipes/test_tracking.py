"""What trackers get of a run: everything worth seeing, nothing secret, and no word more than a line on the terminal."""

import csv
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
import wandb
from trl import ModelConfig
from wandb.proto.wandb_internal_pb2 import Record

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from aflow_ops.secrets import HIDDEN, without_secrets
from data.registry import load_problems
from recipes.run.progress import MetricsFile, progress_of
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.checks import check_trackers
from recipes.training import tracking
from recipes.training.tracking import POLICY_METRICS, flags, start_tracking
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.rollout import Rollout
from rewards.tiers import Grade
from rewards.workflow_reward import table_columns
from tests.recipes.tiny_run import COMPLETIONS, given_completions, make_trainer

SECRET = "hf_0123456789abcdefghij"
TABLE = ("prompt", "completion", "workflow", "tier", "outcome", "answer", "trace", "advantage")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_SILENT", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")  # as `quiet_libraries` does
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    yield
    wandb.finish()
    wandb.teardown()


def tracked_run(config: ExecutorConfig, folder: Path, tracker: str, **changes: Any) -> WorkflowGRPOTrainer:
    """Train for two steps as a recipe does."""
    trainer = make_trainer(config, folder, report_to=tracker, log_completions=True, hub_token=SECRET, **changes)
    trainer._generate_single_turn = given_completions(trainer, COMPLETIONS)  # type: ignore[method-assign]
    trainer.add_callback(MetricsFile(folder / "metrics.csv"))
    start_tracking(trainer, trainer.recipe, trainer.args, ModelConfig(), config)
    with progress_of(trainer, "GRPO", {}):
        trainer.train()
    trainer.close()
    return trainer


def records(run: Path) -> Iterator[Any]:
    """The records of an offline wandb run, in a file of LevelDB's log format behind seven bytes of its own."""
    wandb.teardown()  # its service writes the file, and has written all of it only when it is gone
    data = next(run.glob("wandb/offline-run-*/*.wandb")).read_bytes()
    assert data[:4] == b":W&B"
    position, pending = 7, b""
    while position + 7 <= len(data):
        if 32_768 - position % 32_768 < 7:  # the end of a block
            position += 32_768 - position % 32_768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        pending += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(pending)
            pending = b""
            yield record


def test_without_a_key_wandb_is_offline_in_one_line_and_has_all_of_the_run(
    config: ExecutorConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my-run"
    trainer = tracked_run(config, run, "wandb")
    wandb.finish()
    said = capfd.readouterr()
    assert said.out == ""
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["wandb", "GRPO"], said.err
    assert "offline: no API key (WANDB_API_KEY); upload with: wandb sync" in said.err
    found = list(records(run))
    assert [record.run.display_name for record in found if record.HasField("run")] == ["my-run"]
    assert {record.run.project for record in found if record.HasField("run")} == {"aflow-recipes"}
    logged = {"/".join(item.nested_key) or item.key for record in found for item in record.history.item}
    for name in (*POLICY_METRICS.values(), *POLICY_METRICS, "policy/temperature", "reward", "reward/tier_5"):
        if name.rpartition("/")[2] not in ("kl",):  # beta is 0
            assert f"train/{name}" in logged, sorted(logged)
    assert {"train/workflow/valid", "train/executor/tokens", "train/wa_grpo/zero_signal_before"} <= logged
    settings = {item.key: item.value_json for record in found for item in record.config.update}
    settings |= {item.key: item.value_json for record in found for item in record.run.config.update}
    assert json.loads(settings["wa_alpha"]) == 0.12 and json.loads(settings["executor_model"]) == "gpt-4o-mini"
    assert json.loads(settings["learning_rate"]) == trainer.args.learning_rate
    tables = [json.loads(path.read_text()) for path in run.glob("wandb/offline-run-*/files/media/table/*.json")]
    assert tables and set(TABLE) <= set(tables[0]["columns"])
    written = [path for path in run.rglob("*") if path.is_file() and path.suffix != ".bin"]
    assert not any(SECRET.encode() in path.read_bytes() for path in written)
    assert not list(run.glob("wandb/**/wandb-metadata.json"))


def test_a_server_that_never_answers_costs_seconds_and_a_line(
    config: ExecutorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "WANDB_INIT_SECONDS", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        trainer = make_trainer(config, tmp_path / "run", report_to="wandb")
        start_tracking(trainer, trainer.recipe, trainer.args, ModelConfig(), config)
        trainer.close()
    assert wandb.run is not None and wandb.run.settings.mode == "offline"
    said = capfd.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "wandb: offline: " in said.err


def test_a_resumed_run_is_the_same_run_at_wandb(tmp_path: Path) -> None:
    first = tracking._wandb_id(tmp_path, resumed=False)
    assert tracking._wandb_id(tmp_path, resumed=True) == first != tracking._wandb_id(tmp_path, resumed=False)


def test_tensorboard_has_metrics_and_flags(
    config: ExecutorConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="the tracker tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = tracked_run(config, tmp_path / "run", "tensorboard")
    said = capfd.readouterr()
    assert said.out == "" and f"tensorboard --logdir {tmp_path / 'run' / 'runs'}" in said.err
    events = EventAccumulator(str(tmp_path / "run" / "runs" / "001"))
    events.Reload()
    assert {"train/policy/loss", "train/loss", "train/reward/tier_1", "train/workflow/valid"} <= set(
        events.Tags()["scalars"]
    )
    rewards = [item.value for item in events.Scalars("train/reward")]
    assert rewards == pytest.approx([log["reward"] for log in trainer.state.log_history if "reward" in log])
    (shown,) = events.Tensors("flags/text_summary")
    text = shown.tensor_proto.string_val[0].decode()
    assert "| wa_alpha | 0.12 |" in text and SECRET not in text
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "run" / "runs").rglob("events*"))


def test_trackio_has_metrics_and_flags(
    config: ExecutorConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackio", reason="the tracker trackio is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    tracked_run(config, tmp_path / "run", "trackio")
    said = capfd.readouterr()
    assert said.out == "" and "trackio: trackio show --project aflow-recipes" in said.err
    logs = SQLiteStorage.get_logs("aflow-recipes", "run")
    logged = {name for log in logs for name in log}
    assert {"train/policy/loss", "train/reward/tier_1", "train/workflow/valid", "completions"} <= logged
    settings = SQLiteStorage.get_run_config("aflow-recipes", "run")
    assert settings is not None and settings["wa_alpha"] == 0.12 and SECRET not in json.dumps(settings)


def test_the_policys_metrics_have_names_of_their_own_beside_trls(config: ExecutorConfig, tmp_path: Path) -> None:
    tracked_run(config, tmp_path / "run", "none", beta=0.01, temperature_final=0.5, temperature_steps=2)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    for theirs, ours in POLICY_METRICS.items():
        assert [row[theirs] for row in rows] == [row[ours] for row in rows], theirs
        assert all(row[ours] for row in rows), ours
    assert [float(row["policy/temperature"]) for row in rows] == [1.0, 0.75]


def test_the_table_of_completions_is_kept_and_not_printed(
    config: ExecutorConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = tracked_run(config, tmp_path / "run", "none")
    assert capfd.readouterr().out == ""
    table = pandas.read_parquet(tmp_path / "run" / "completions" / "completions_00001.parquet")
    assert set(TABLE) <= set(table.columns) and len(table) == len(COMPLETIONS)
    rows = [json.loads(line) for line in (trainer.run_dir / "rollouts.jsonl").read_text().splitlines()]
    table = table.astype(object).where(table.notna(), None)
    for shown, row in zip(table.to_dict("records"), rows, strict=False):
        assert shown["workflow"] == row["workflow"]
        assert shown["answer"] == (row["trace"] or {}).get("answer")
        assert shown["advantage"] == pytest.approx(row["advantage"])
    assert any("Custom" in trace for trace in table["trace"])
    assert "problem" not in table.columns


def test_the_table_holds_no_gold_answer_and_no_hidden_test() -> None:
    for source in ("invented_facts", "small_functions", "humaneval"):
        items = load_problems(source, "train", 5, 0)
        graded = Grade(1, False, None, "expected this, got that")
        columns = table_columns([Rollout(item, "nonsense", invalid="syntax: no", grade=graded) for item in items])
        text = json.dumps(columns)
        assert "expected this" not in text
        for item in items:
            assert not any(test in text for test in item.tests)
            assert item.domain != "code" or item.answer not in text


def test_nothing_secret_is_among_the_flags(config: ExecutorConfig, tmp_path: Path) -> None:
    training = WorkflowGRPOConfig(
        output_dir=str(tmp_path), hub_token=SECRET, model_init_kwargs={"token": "letmein", "revision": "main"},
        use_cpu=True, bf16=False, activation_checkpointing=False,
        per_device_train_batch_size=8, run_name=f"run with {SECRET}",
    )  # fmt: skip
    config.executor_base_url = "https://me:letmein@host/v1?api-key=letmein,http://localhost:8000/v1"
    shown = flags(RecipeArguments(), training, ModelConfig(), config)
    assert "letmein" not in json.dumps(shown, default=str) and SECRET not in json.dumps(shown, default=str)
    assert shown["executor_base_url"] == f"https://{HIDDEN}@host/v1?{HIDDEN},http://localhost:8000/v1"
    assert shown["model_init_kwargs"] == {"token": HIDDEN, "revision": "main"}
    assert shown["max_completion_length"] == training.max_completion_length


def test_names_that_only_look_secret_stay() -> None:
    plain = {"max_tokens": 5, "executor_tpm": 10, "keys": "a", "note": "is this ok? yes", "url": "http://h/v1"}
    assert without_secrets(plain) == plain


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.settings.checks.find_spec", lambda package: None)
    with pytest.raises(UsageError, match=rf"--report_to {name} needs the package.*pip install"):
        check_trackers([name])


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match="--report_to paper: unknown tracker"):
        check_trackers(["wandb", "paper"])
