"""Replay of trajectories among the rows that the policy samples, through the real trainers."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from data.problem import DataError
from data.registry import load_problems
from data.trajectories import Trajectory, read_trajectories
from recipes.run.checkpoints import latest_checkpoint
from recipes.settings.arguments import RecipeArguments
from recipes.settings.checks import check_replay
from recipes.training.off_policy import FOREIGN, OWN, GivenRow
from recipes.training.phases import train_policy
from recipes.training.problems import training_and_heldout_problems
from recipes.training.replay import Replay
from recipes.training.trainer import WorkflowGRPOTrainer
from tests.patience import PATIENCE
from tests.recipes import tiny_run
from tests.recipes.test_experience import trajectory, write
from tests.recipes.test_offline_grpo import EPSILON, GAMMA, far, log_probabilities, own, size, step, taught_policy
from tests.recipes.test_trainer import LAUNCHERS, ROOT, rollouts, write_completions
from tests.recipes.tiny_run import ASK, K, drawn_completions, make_trainer, problems
from tests.stub_endpoint import StubEndpoint

SAMPLED = "nonsense"


@pytest.fixture(autouse=True)
def taught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_run, "build_tiny_policy", lambda *_, **__: taught_policy())


def recipe(path: Path, **values: Any) -> RecipeArguments:
    settings = {"prompt_style": "brief", "workflow_timeout": 20, "wa_grpo": False, "replay": [str(path)], **values}
    return RecipeArguments(**settings)


def opened(
    config: ExecutorConfig, folder: Path, rows: Sequence[Trajectory], changes: dict[str, Any] | None = None,
    texts: Sequence[str] = (SAMPLED,), **values: Any,
) -> WorkflowGRPOTrainer:  # fmt: skip
    """A trainer of one group a step, whose policy writes `texts` in turn where nothing is replayed."""
    path = write(folder / "trajectories.jsonl", list(rows))
    settings = {
        "per_device_train_batch_size": K,
        "max_completion_length": 64,
        "scale_rewards": "none",
        **(changes or {}),
    }
    trainer = make_trainer(config, folder / "run", recipe(path, **values), **settings)
    write_completions(trainer, list(texts))
    return trainer


def successes(text: str = ASK, reward: float = 1.0, **more: Any) -> list[Trajectory]:
    return [trajectory(problem, text, reward, "brief", **more) for problem in problems(4)]


def mixed(trainer: WorkflowGRPOTrainer) -> list[dict[str, Any]]:
    trainer.train()
    trainer.close()
    return rollouts(trainer)


# The gradient

SGD = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": 1}


@pytest.mark.parametrize("kind", ["own", "foreign"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_of_a_replayed_row_is_that_of_its_formula(
    kind: str, accumulation: int, config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    """The sampled rows earn the same and have no advantage, so all that moves is the replayed row."""
    changes = SGD | {"epsilon": EPSILON, "shuffle_dataset": False, "per_device_train_batch_size": K // accumulation}
    changes |= {"gradient_accumulation_steps": accumulation}
    rows = successes()
    trainer = opened(config, tmp_path, rows, changes)
    if kind == "own":
        rows = [dataclasses.replace(own(trainer, row, 0.25), policy={"model": ""}) for row in rows]  # type: ignore[arg-type]
        trainer.close()
        trainer = opened(config, tmp_path, rows, changes)
    torch.manual_seed(1)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    assert trainer.replayed is not None
    given = trainer.replayed.replay.rows[rows[0].key][0]
    tokens = (K - 1) * (len(trainer.processing_class.encode(SAMPLED)) + 1) + len(given.ids)
    now = log_probabilities(trainer, rows[0], given.ids)  # type: ignore[arg-type]
    if kind == "own":
        ratio = (now - torch.tensor(given.logprobs)).exp()
        loss = -torch.min(ratio, ratio.clamp(1 - EPSILON, 1 + EPSILON))
    else:
        loss = -now.exp() / (now.exp() + GAMMA)
    (loss.sum() / tokens).backward()
    expected = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    found = step(trainer)  # type: ignore[arg-type]
    trainer.close()
    assert far(found, expected) < 1e-5 < 1e-3 < size(expected)


def test_whose_workflow_and_whose_problem_it_is_matters(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    found = []
    other = "Custom -> Format"
    for number, texts in enumerate(((ASK, other), (other, ASK), (ASK, ASK))):
        rows = [dataclasses.replace(row, completion=text) for row, text in zip(successes()[:2], texts, strict=True)]
        changes = SGD | {"per_device_train_batch_size": 2 * K, "shuffle_dataset": False}
        trainer = opened(config, tmp_path / str(number), rows, changes)
        found.append(step(trainer))  # type: ignore[arg-type]
        trainer.close()
    assert min(far(found[0], found[1]), far(found[0], found[2])) > 1e-6


# What is run, written and logged


def test_a_replayed_row_is_marked_and_not_run(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = opened(config, tmp_path, successes(), {"max_steps": 2})
    rows = mixed(trainer)
    assert len(rows) == 2 * K and stub.requests == []
    assert "returned None" not in caplog.text  # TRL would print whole rows, gold answers included
    replayed = [row for row in rows if "replay" in row]
    assert len(replayed) == 2 and all(row["completion"] == ASK and row["trace"] is None for row in replayed)
    assert replayed[0]["replay"] == {"kind": "foreign", "origin": "openai", "node": 0}
    assert (replayed[0]["reward"], replayed[0]["correct"], replayed[0]["advantage"]) == (1.0, True, 1.0)
    assert {row["advantage"] for row in rows if "replay" not in row} == {0.0}
    log = trainer.state.log_history[0]
    assert (log["replay/share"], log["replay/dropped"], log["replay/solved"]) == (1 / K, 0.0, 0)
    assert log["replay/logprob"] < 0 < log["replay/shaped"] and log["reward"] == 0.0 and log["workflow/valid"] == 0.0
    assert len(read_trajectories(trainer.run_dir / "rollouts.jsonl")) == 2 * (K - 1)


def test_what_is_no_better_than_what_was_sampled_is_left_out(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    hard_coded = 'async def workflow(problem):\n    return "5"'  # earns 0.2
    trainer = opened(config, tmp_path, successes(reward=0.2), texts=[hard_coded], changes=SGD | {"beta": 1.0})
    rows = mixed(trainer)
    assert {row["reward"] for row in rows} == {0.2} and {row["advantage"] for row in rows} == {0.0}
    log = trainer.state.log_history[0]
    assert (log["replay/share"], log["replay/dropped"]) == (0.0, 1 / K) and "replay/logprob" not in log
    assert log["kl"] == pytest.approx(0.0, abs=1e-6)


def test_the_baseline_may_be_over_all_rows(config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path) -> None:
    trainer = opened(config, tmp_path, successes(), {"max_steps": 1}, replay_baseline="all")
    by_text = {row["completion"]: row["advantage"] for row in mixed(trainer)}
    assert by_text == pytest.approx({ASK: 0.75, SAMPLED: -0.25})


def test_several_rows_of_a_group_and_other_rewards(config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path) -> None:
    seen: list[Any] = []

    def short(completions: list[Any], **columns: Any) -> list[float]:
        seen.extend(columns["replayed"])
        return [1.0 if row is None else 0.5 for row in columns["replayed"]]

    rows = [*successes(), *successes("Custom -> Format")]
    path = write(tmp_path / "trajectories.jsonl", rows)
    trainer = make_trainer(
        config, tmp_path / "run", recipe(path, replay_per_group=2), reward_funcs=["workflow", short],
        reward_weights=[1.0, 0.5], per_device_train_batch_size=K, max_completion_length=64, scale_rewards="none",
        max_steps=1,
    )  # fmt: skip
    write_completions(trainer, [SAMPLED])
    written = mixed(trainer)
    assert [row is None for row in seen] == [True, True, False, False]
    assert [row["advantage"] for row in written] == pytest.approx([0, 0, 0.75, 0.75])
    assert {row["completion"] for row in written} == {SAMPLED, ASK, "Custom -> Format"}


def test_off_is_the_trainer_as_it_was(config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path) -> None:
    trainer = make_trainer(config, tmp_path / "run", max_steps=1)
    write_completions(trainer, [ASK, SAMPLED])
    trainer.train()
    assert trainer.replayed is None and trainer.rollout_func is None
    assert "given_kind" not in trainer._buffered_inputs[0] and "tool_mask" not in trainer._buffered_inputs[0]
    assert not any(name.startswith("replay/") for log in trainer.state.log_history for name in log)
    assert all("replay" not in row for row in rollouts(trainer))
    assert "replay" not in trainer._checkpoint_state()
    trainer.close()


# What is replayed when

KEYS = [("s", name) for name in "abcd"]


def plan_of(**values: Any) -> Replay:
    rows = {key: [GivenRow((1,), None, {"n": n}) for n in range(2)] for key in KEYS[:3]}
    return Replay(rows, **{"group_size": 4, "per_group": 1, "share": 1.0, "start": 0.0, **values})


def replayed_keys(replay: Replay) -> list[str]:
    keys = [key for key in KEYS for _ in range(4)]
    return [keys[index][1] for index, row in enumerate(replay.plan(keys)) if row is not None]


def test_problems_near_half_solved_come_first_and_solved_ones_retire() -> None:
    replay = plan_of(share=0.25)
    replay.seen([key for key in KEYS for _ in range(2)], [True, True, False, False, True, False, None, None])
    assert replayed_keys(replay) == ["c"]
    replay.share = 0.5
    assert replayed_keys(replay) == ["b", "c"]
    replay.share = 1.0
    assert replayed_keys(replay) == ["b", "c"] and replay.solved == 1
    replay.seen([KEYS[0]], [False])  # it was forgotten again
    assert replayed_keys(replay) == ["a", "b", "c"] and replay.solved == 0


def test_a_group_has_its_problems_best_rows_last_and_so_many_as_there_are() -> None:
    keys = [KEYS[0]] * 4
    for per_group, expected in ((1, [None, None, None, 0]), (2, [None, None, 1, 0]), (3, [None, None, 1, 0])):
        assert [row and row.record["n"] for row in plan_of(per_group=per_group).plan(keys)] == expected


def test_it_starts_once_enough_is_right_and_does_not_stop_again() -> None:
    replay = plan_of(start=0.5)
    assert replayed_keys(replay) == []
    replay.seen(KEYS[:2], [False, True])
    assert replayed_keys(replay) != []
    replay.seen(KEYS[:2], [False, False])
    assert replayed_keys(replay) != []
    never = plan_of(start=0.5)
    for _ in range(5):
        never.seen(KEYS[:3], [False, False, True])
    assert replayed_keys(never) == []


@given(st.lists(st.lists(st.none() | st.booleans(), min_size=4, max_size=4), max_size=12), st.integers(0, 12))
def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_happened(steps: list[list[bool | None]], stop: int) -> None:
    def run(replay: Replay, part: list[list[bool | None]]) -> list[list[str]]:
        plans = []
        for correct in part:
            plans.append(replayed_keys(replay))
            replay.seen(KEYS, correct)
        return plans

    whole, first, second = (plan_of(start=0.3, share=0.5) for _ in range(3))
    plans = run(whole, steps)
    begun = run(first, steps[:stop])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + run(second, steps[stop:]) == plans


# Whose rows they are


def test_own_rows_are_those_of_this_policy_under_this_prompt(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    tokens = {"completion_ids": [5, 6, 2], "logprobs": [-1.0, -0.5, -0.1]}
    a, b, c, d = problems(4)
    rows = [
        trajectory(a, ASK, 1.0, "brief", policy={"model": ""}, **tokens),
        trajectory(b, ASK, 1.0, "brief", policy={"model": "another"}, **tokens),
        trajectory(c, ASK, 1.0, "full", policy={"model": ""}, **tokens),
        trajectory(d, ASK, 0.7, "brief"), trajectory(d, "Custom -> Format", 0.4, "brief"),
        trajectory(d, "Custom", 0.7, "brief", policy={"model": ""}, completion_ids=[10**6], logprobs=[-1.0]),
    ]  # fmt: skip
    trainer = opened(config, tmp_path, rows)
    trainer.close()
    assert trainer.replayed is not None
    kinds = {key[1]: [row.kind for row in found] for key, found in trainer.replayed.replay.rows.items()}
    assert kinds == {a.id: [OWN], b.id: [FOREIGN], c.id: [FOREIGN], d.id: [FOREIGN]}  # of each the best
    text = trainer.processing_class.decode(trainer.replayed.replay.rows[b.source, b.id][0].ids)
    assert text == ASK + "<|im_end|>"


def test_of_designs_that_earned_as_much_the_simplest_of_those_that_do_well_elsewhere_is_replayed(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    four = problems(4)
    lucky, steady, longer = "Custom", "Programmer -> Format", "Programmer -> Format -> Format"
    rewards = {lucky: (1.0, 0.2, 0.2, 0.2), steady: (1.0, 1.0, 1.0, 1.0), longer: (1.0, 1.0, 1.0, 1.0)}
    rows = [
        trajectory(problem, text, reward, "brief")
        for text, earned in rewards.items()
        for problem, reward in zip(four, earned, strict=True)
        for _ in range(8)
    ]
    trainer = opened(config, tmp_path, rows)
    trainer.close()
    assert trainer.replayed is not None
    decoded = trainer.processing_class.decode
    taken = {key[1]: [decoded(row.ids) for row in found] for key, found in trainer.replayed.replay.rows.items()}
    assert taken == {problem.id: [f"{steady}<|im_end|>"] for problem in four}


@pytest.mark.parametrize("reason", ["failed", "nothing", "other problem", "edit", "long"])
def test_what_teaches_nothing_is_not_replayed(
    reason: str, config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    rows = (
        successes(outcome="policy_error")
        if reason == "failed"
        else successes(reward=0.0 if reason == "nothing" else 1.0)
    )
    if reason == "other problem":
        rows = [dataclasses.replace(row, prompt=({"role": "user", "content": "another"},)) for row in rows]
    if reason == "edit":
        rows = [dataclasses.replace(row, form="edit") for row in rows]
    with pytest.raises(UsageError, match="none of its 4 trajectories"):
        opened(config, tmp_path, rows, {"max_completion_length": 5} if reason == "long" else None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replay_per_group": 0}, "replay_per_group=0"),
        ({"replay_share": 0.0}, "replay_share=0"),
        ({"replay_start": 2.0}, "replay_start=2"),
        ({"replay_baseline": "mine"}, "replay_baseline='mine'"),
        ({"replay_shaping": 0.0}, "replay_shaping=0"),
    ],
)
def test_flags_without_a_meaning_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RecipeArguments(**values)


def test_files_and_settings_that_cannot_work_are_refused_before_anything_is_loaded(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no such file"):
        training_and_heldout_problems(recipe(tmp_path / "absent.jsonl"), 0)
    (tmp_path / "bad.jsonl").write_text('{"group": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        training_and_heldout_problems(recipe(tmp_path / "bad.jsonl"), 0)
    held_out = [trajectory(problem, ASK, 1.0) for problem in load_problems("arithmetic", "heldout", 1, 0)]
    with pytest.raises(DataError, match="1 of 5 trajectories are of held-out problems"):
        path = write(tmp_path / "held_out.jsonl", [*successes(), *held_out])
        training_and_heldout_problems(recipe(path, sources=["arithmetic"], domain_mix="math=1"), 0)
    training = make_trainer(config, tmp_path / "off").args
    training.importance_sampling_level = "sequence"
    with pytest.raises(UsageError, match="use token"):
        check_replay(recipe(write(tmp_path / "good.jsonl", successes())), training)
    with pytest.raises(UsageError, match="replay_per_group=4 must be below num_generations=4"):
        opened(config, tmp_path, successes(), replay_per_group=4)


# Stops and processes


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "trajectories.jsonl", [*successes(), *successes("Custom -> Format")])
    found = []
    for name, stops in (("whole", [6]), ("stopped", [3, 6])):
        for stop in stops:
            start = latest_checkpoint(tmp_path / name)
            trainer = make_trainer(
                config, tmp_path / name, recipe(path, replay_share=0.5), max_completion_length=64, max_steps=6,
                save_strategy="steps", save_steps=2, start=start, lr_scheduler_type="constant",
            )  # fmt: skip
            trainer._generate_single_turn = drawn_completions(trainer, [SAMPLED, "Custom"])  # type: ignore[method-assign]
            if stop < 6:
                monkeypatch.setattr(trainer, "training_step", _failing_at(trainer, stop))
                with pytest.raises(RuntimeError, match="stopped"):
                    train_policy(trainer, start)
            else:
                train_policy(trainer, start)
                trainer.save_model()
                found.append([{**row, "trace": None} for row in rollouts(trainer)])
            trainer.close()
    assert found[0] == found[1] and any("replay" in row for row in found[0])
    whole, stopped = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())


def _failing_at(trainer: WorkflowGRPOTrainer, stop: int) -> Any:
    training_step = trainer.training_step

    def failing(*args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == stop:
            raise RuntimeError("stopped")
        return training_step(*args, **kwargs)

    return failing


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mixed", "offline"])
def test_every_topology_gives_the_adapter_of_one_process(kind: str, tmp_path: Path) -> None:
    """Two processes, plain and with ZeRO-2, against one; mixed, the group of four lies across both."""
    path = write(tmp_path / "trajectories.jsonl", successes())
    script = str(Path(__file__).with_name("tiny_run.py"))
    environment = {**os.environ, "OPENAI_API_KEY": "sk-test", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    what, groups = (str(path), 1) if kind == "mixed" else ("--offline", 2)
    adapters = {}
    with StubEndpoint() as stub:
        for topology in ("one process", "two processes", "ZeRO-2"):
            folder, batch = tmp_path / topology, groups * K if topology == "one process" else groups * K // 2
            command = [sys.executable, "-m", *LAUNCHERS[topology], script, stub.url, str(folder), str(batch), what]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
            )
            assert done.returncode == 0, f"{topology}: {done.stderr[-3000:]}"
            adapters[topology] = load_file(folder / "adapter_model.safetensors")
    for topology, adapter in adapters.items():
        for name, value in adapters["one process"].items():
            assert torch.allclose(value, adapter[name], atol=1e-5), topology
    if kind == "mixed":
        same_rows(tmp_path)


def same_rows(folder: Path) -> None:
    """What the runs of all topologies wrote down is the same, and has replayed rows."""
    rows = {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.glob("*/rollouts.jsonl")
    }
    expected = rows["one process"]
    assert sum("replay" in row for row in expected) == 2
    for topology, found in rows.items():
        for one, other in zip(expected, found, strict=True):
            assert (one["completion"], "replay" in one) == (other["completion"], "replay" in other), topology
            assert one["advantage"] == pytest.approx(other["advantage"], abs=1e-5), topology
