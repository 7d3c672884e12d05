"""The real TRL trainer on teams of agents; only the sampling is given, so that rewards can be chosen."""

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from aflow_ops.agents.episode import Agents
from aflow_ops.agents.team import Outcome
from aflow_ops.errors import InfraError, UsageError
from aflow_ops.executor import ExecutorConfig
from data.problem import Problem
from recipes.run.checkpoints import latest_checkpoint
from recipes.settings.agents import ROWS, AgentArguments
from recipes.training import accounts
from recipes.training.agent_adapters import AgentAdapters, use_role_adapters
from recipes.training.agent_heldout import evaluate_agents
from recipes.training.agents import AgentGRPOTrainer
from recipes.training.phases import train_policy
from tests.recipes.tiny_agents import K, given_turns, goodness, make_agents, problems, run
from tests.stub_endpoint import StubEndpoint

ROOT = Path(__file__).parents[2]
ALONE = AgentArguments(alpha=0.0)


def first_step(trainer: AgentGRPOTrainer) -> dict[str, Any]:
    """What TRL makes of a step's episodes, before it is shuffled and trained on."""
    trainer.create_optimizer_and_scheduler(2)
    inputs = [row for row in list(trainer.train_dataset)[:2] for _ in range(K)]
    trainer.model.train()
    return trainer._generate_and_score_completions(inputs)


def gradient(trainer: AgentGRPOTrainer, output: dict[str, Any], agent: int) -> torch.Tensor:
    """The gradient of one agent's rows."""
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    inputs = {**output, "tool_mask": output["tool_mask"] * (output["agent"] == agent).unsqueeze(1)}
    trainer._compute_loss(trainer.model, inputs).backward()
    grads = [p.grad for p in trainer.model.parameters() if p.requires_grad and p.grad is not None]
    return torch.cat([grad.flatten() for grad in grads])


def opened(tmp_path: Path, *args: Any, **kwargs: Any) -> AgentGRPOTrainer:
    trainer = make_agents(tmp_path / "run", *args, **kwargs)
    trainer._generate_single_turn = given_turns(trainer)  # type: ignore[method-assign]
    return trainer


def with_locals(change: Any) -> Any:
    """The tests' episode with its local rewards changed."""

    async def play(task: Problem, agents: Agents) -> Outcome:
        outcome = await run(task, agents)
        return replace(outcome, local=change(dict(outcome.local)))

    return play


def rollouts(trainer: AgentGRPOTrainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trainer.run_dir / "rollouts.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentGRPOTrainer, dict[str, Any]]]:
    trainer = opened(tmp_path_factory.mktemp("step"), ALONE)
    yield trainer, first_step(trainer)
    trainer.close()


def test_a_row_is_an_agents_conversation_with_what_it_was_told_masked(step: Any) -> None:
    trainer, output = step
    rows = rollouts(trainer)
    assert len(output["agent"]) == 2 * 2 * K  # two problems, two agents, whoever spoke
    tokenizer = trainer.processing_class
    spoken = [row for row in rows if row["agent"] == "writer" and row["turns"] == 2]
    assert spoken and {row["turns"] for row in rows if row["agent"] == "critic"} == {1}
    for index, row in enumerate(trainer._rows):
        own = [token for token, mine in zip(row.completion, row.mask, strict=True) if mine]
        if not own:
            continue
        text = tokenizer.decode(row.prompt + row.completion)
        assert text.startswith("<|im_start|>system\nYou "), index
        replies = [part.partition("<|im_end|>")[0] for part in text.split("<|im_start|>assistant\n")[1:]]
        assert tokenizer.decode(own) == "".join(f"{reply}<|im_end|>" for reply in replies)


def test_the_gradient_of_an_agent_does_not_depend_on_anothers_reward(step: Any, tmp_path: Path) -> None:
    trainer, output = step
    other = opened(
        tmp_path,
        ALONE,
        with_locals(lambda local: {**local, **({"critic": -7.0 * local["critic"]} if "critic" in local else {})}),
    )
    changed = first_step(other)
    assert torch.equal(gradient(trainer, output, 0), gradient(other, changed, 0))
    assert not torch.equal(gradient(trainer, output, 1), gradient(other, changed, 1))
    assert gradient(trainer, output, 0).abs().max() > 0
    other.close()


def test_rewards_land_on_the_agent_that_earned_them(tmp_path: Path) -> None:
    def given(writer: float, critic: float) -> dict[str, Any]:
        async def play(task: Problem, agents: Agents) -> Outcome:
            await agents.writer.say("a")
            await agents.critic.say("b")
            return Outcome(0.0, {"writer": writer * agents.number, "critic": critic * (agents.number % 2)})

        trainer = opened(tmp_path / f"{writer}", AgentArguments(), play, scale_rewards="none")
        try:
            return first_step(trainer)["advantages"].view(-1, 2).T
        finally:
            trainer.close()

    async def swapped(task: Problem, agents: Agents) -> Outcome:
        await agents.writer.say("a")
        await agents.critic.say("b")
        return Outcome(0.0, {"critic": 1.0 * agents.number, "writer": 2.0 * (agents.number % 2)})

    trainer = opened(tmp_path / "swapped", AgentArguments(), swapped, scale_rewards="none")
    writer, critic = given(1.0, 2.0)
    assert torch.equal(first_step(trainer)["advantages"].view(-1, 2).T, torch.stack([critic, writer]))
    assert torch.equal(writer[:K], torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    trainer.close()


def test_an_absent_agent_changes_nobodys_baseline_and_has_no_loss(step: Any) -> None:
    trainer, output = step
    rows = rollouts(trainer)
    absent = (output["agent"] == 1) & (output["tool_mask"].sum(1) == 0)
    assert 0 < len([row for row in rows if row["agent"] == "critic"]) < 2 * K and absent.any()
    assert output["advantages"][absent].abs().max() == 0
    for problem in range(2):
        group = [row for row in rows if row["agent"] == "critic" and row["episode"] // K == problem]
        judged = [row["advantage"] for row in group if row["advantage"] is not None]
        assert abs(sum(judged)) < 1e-5


def test_foreign_tokens_and_skipped_rows_have_no_gradient(step: Any) -> None:
    trainer, output = step
    embedded: list[torch.Tensor] = []
    logps = trainer._get_per_token_logps_and_entropies

    def kept(*args: Any, **kwargs: Any) -> Any:
        result = logps(*args, **kwargs)
        result[0].retain_grad()
        embedded.append(result[0])
        return result

    trainer._get_per_token_logps_and_entropies = kept  # type: ignore[method-assign]
    try:
        trainer.current_gradient_accumulation_steps = 1
        trainer._compute_loss(trainer.model, output).backward()
    finally:
        trainer._get_per_token_logps_and_entropies = logps  # type: ignore[method-assign]
    mask = output["tool_mask"] * output["completion_mask"]
    assert embedded[0].grad is not None
    assert embedded[0].grad[mask == 0].abs().max() == 0
    assert (embedded[0].grad[mask == 1].abs() > 0).all()


def test_training_moves_the_adapter_and_logs_every_agent(tmp_path: Path) -> None:
    trainer = opened(tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    assert any(not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters() if n in before)
    log = next(log for log in trainer.state.log_history if "agents/writer/reward" in log)
    for agent in ("writer", "critic"):
        for name in ("reward", "zero_signal", "tokens", "turns", "entropy"):
            assert math.isfinite(log[f"agents/{agent}/{name}"]), (agent, name)
    assert log["runs"] == 1.0 and log["agents/infra_error"] == 0.0
    row = rollouts(trainer)[0]
    assert {"step", "episode", "agent", "turns", "team_reward", "local_reward", "advantage"} <= row.keys()
    assert row["reward"] == pytest.approx(row["team_reward"] + row["local_reward"])
    held_out = evaluate_agents(trainer, problems(3), visible=False)
    assert [row["outcome"] for row in held_out] == ["ok"] * 3
    trainer.close()


def test_what_fails_is_left_out_and_for_too_long_stops_the_run(tmp_path: Path) -> None:
    async def broken(task: Problem, agents: Agents) -> Outcome:
        await agents.writer.say("hello")
        raise InfraError("the index is gone")

    trainer = opened(tmp_path, AgentArguments(max_outage_steps=1), broken)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    with pytest.raises(InfraError, match="no episode of the last 1 steps counts: the index is gone"):
        train_policy(trainer, None)
    assert all(torch.equal(p, before[n]) for n, p in trainer.model.named_parameters() if n in before)
    assert {row["team_reward"] for row in rollouts(trainer)} == {None}
    trainer.close()


def test_frozen_and_alternating_agents(tmp_path: Path) -> None:
    frozen = opened(tmp_path / "frozen", AgentArguments(train_agents=["critic"]))
    assert set(first_step(frozen)["agent"].tolist()) == {0} and len(first_step(frozen)["agent"]) == 2 * K
    frozen.close()
    turns = opened(tmp_path / "turns", AgentArguments(alternate=1))
    assert turns.training_now() == ["writer"]
    output = first_step(turns)
    assert output["advantages"][output["agent"] == 1].abs().max() == 0 < output["advantages"].abs().max()
    turns.state.global_step = 1
    assert turns.training_now() == ["critic"]
    turns.close()


class Weights(TrainerCallback):
    """The weights of every adapter, by its name, after each step."""

    def __init__(self, trainer: AgentGRPOTrainer) -> None:
        self.trainer = trainer
        self.after = [self.now()]
        trainer.add_callback(self)

    def now(self) -> dict[str, torch.Tensor]:
        kinds = [kind for kind in ("lora_", "modules_to_save") if any(kind in n for n, _ in self.parameters)]
        return {
            f"{adapter} {kind}": torch.cat(
                [p.detach().flatten() for n, p in self.parameters if kind in n and f".{adapter}." in n]
            )
            for adapter in ("default", "critic")
            for kind in kinds
        }

    @property
    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return list(self.trainer.model.named_parameters())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.after.append(self.now())


@pytest.mark.parametrize("modules", [[], ["lm_head"]])
def test_adapters_of_their_own_learn_from_their_own_rows_when_it_is_their_turn(
    modules: list[str], tmp_path: Path
) -> None:
    recipe = AgentArguments(adapters="per_agent", alternate=1)
    trainer = opened(tmp_path, recipe, beta=0.05, weight_decay=0.1, modules_to_save=modules)
    weights = Weights(trainer)
    trainer.train()
    moved = [
        {name for name in after if not torch.equal(after[name], before[name])}
        for before, after in itertools.pairwise(weights.after)
    ]
    kinds = ["lora_", *(["modules_to_save"] if modules else [])]
    assert moved == [{f"{name} {kind}" for kind in kinds} for name in ("default", "critic")]  # no momentum, no decay
    trainer.save_model()
    assert (trainer.run_dir / "adapter_config.json").is_file()
    assert (trainer.run_dir / "critic" / "adapter_config.json").is_file()
    names = json.loads((trainer.run_dir / "agents.json").read_text())
    assert names == {"adapters": {"writer": "default", "critic": "critic"}}
    trainer.close()
    shared = opened(tmp_path / "shared")
    with pytest.raises(UsageError, match="go on with the --adapters and --train_agents that it was started with"):
        shared._load_from_checkpoint(str(trainer.run_dir))
    shared.close()


def test_a_role_that_does_not_train_is_the_base_wherever_its_team_plays(tmp_path: Path) -> None:
    trainer = opened(tmp_path, AgentArguments(adapters="per_agent", train_agents=["critic"]))
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    trainer.save_model()
    assert json.loads((trainer.run_dir / "agents.json").read_text())["adapters"] == {
        "critic": "default",
        "writer": None,
    }
    model, tokens = trainer.model.eval(), torch.arange(20)[None]
    use, logits = use_role_adapters(model, str(trainer.run_dir)), {}
    for role in ("writer", "critic"):
        with use(role), torch.no_grad():
            logits[role] = model(tokens).logits
    with model.disable_adapter(), torch.no_grad():
        assert torch.equal(logits["writer"], model(tokens).logits)
    assert not torch.allclose(logits["writer"], logits["critic"])
    trainer.close()
    with pytest.raises(UsageError, match="a role 'best' cannot have an adapter"):
        AgentAdapters(trainer, "per_agent", ["writer", "best"])


# A row for each turn


def given_numbers_of_turns(turns: Any) -> Any:
    """An episode in which the writer has as many turns as its number says, and the critic one unless it has none."""

    async def play(task: Problem, agents: Agents) -> Outcome:
        local = {}
        for name, count in (("writer", turns(agents.number)), ("critic", int(agents.number != 1))):
            said = [await getattr(agents, name).say(f"{task.view.text} {number}") for number in range(count)]
            if said:
                local[name] = goodness(" ".join(said)) + agents.number
        return Outcome(0.0, local)

    return play


def test_an_episode_of_one_turn_has_the_same_gradient_in_both_forms(tmp_path: Path) -> None:
    found = []
    for form in ROWS:
        trainer = opened(
            tmp_path / form, AgentArguments(agent_rows=form), given_numbers_of_turns(lambda _: 1), beta=0.1
        )
        for name, parameter in trainer.model.named_parameters():  # away from the reference: the KL term counts
            if "lora_B" in name:
                parameter.data.fill_(0.1)
        output = first_step(trainer)
        found.append([gradient(trainer, output, agent) for agent in (0, 1)])
        trainer.close()
    for one, other in zip(*found, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_an_episode_of_three_turns_weighs_as_much_as_one_of_one(tmp_path: Path) -> None:
    play = given_numbers_of_turns(lambda number: 3 if number % 2 else 1)
    trainer = opened(tmp_path, AgentArguments(agent_rows="turn"), play)
    output = first_step(trainer)
    scored: list[torch.Tensor] = []
    score = trainer.adapters.scored

    def kept(*args: Any, **kwargs: Any) -> Any:
        result = score(*args, **kwargs)
        result[0].retain_grad()
        scored.append(result[0])
        return result

    trainer.adapters.scored = kept  # type: ignore[method-assign]
    trainer.current_gradient_accumulation_steps = 1
    trainer._compute_loss(trainer.model, output).backward()
    assert scored[0].grad is not None
    felt = scored[0].grad.sum(1)

    counts = [count for number in [*range(K)] * 2 for count in (3 if number % 2 else 1, int(number != 1))]
    assert sum(counts) == 22 and len(felt) == 24  # filled up to groups of four
    advantages = {(row["episode"], row["agent"]): row["advantage"] for row in rollouts(trainer)}
    rows = iter(range(len(felt)))
    for part, count in enumerate(counts):
        mine = [next(rows) for _ in range(count)]
        advantage = advantages.get((part // 2, ("writer", "critic")[part % 2]))
        if not mine:
            assert advantage is None
            continue
        assert output["agent"][mine].tolist() == [part % 2] * count
        assert output["advantages"][mine].tolist() == pytest.approx([advantage] * count)
        assert float(felt[mine].sum()) == pytest.approx(-advantage / len(counts), rel=1e-4)
        assert felt[mine].tolist() == pytest.approx([-advantage / len(counts) / count] * count, rel=1e-4)
    assert not felt[[*rows]].any()
    trainer.close()


def test_turns_are_trained_on_and_episodes_are_logged(tmp_path: Path) -> None:
    logged, written = [], []
    for form in ROWS:
        trainer = opened(
            tmp_path / form, AgentArguments(agent_rows=form), max_steps=1, gradient_accumulation_steps=2,
            per_device_train_batch_size=K,
        )  # fmt: skip
        trainer.train()
        logged.append(next(log for log in trainer.state.log_history if "reward" in log))
        written.append(rollouts(trainer))
        trainer.close()
    assert written[0] == written[1]
    same = ["reward", "rewards/agent_reward/mean", "agents/writer/turns", "agents/critic/reward", "agents/team_reward"]
    for name in same:
        assert logged[0][name] == pytest.approx(logged[1][name]), name
    assert logged[0]["grad_norm"] > 0 < logged[1]["grad_norm"]


def test_names_of_roles_are_checked() -> None:
    roles = ["writer", "critic"]
    assert AgentArguments(agent_models=["critic=executor"]).trained(roles) == ["writer"]
    assert AgentArguments(train_agents=["writer, critic"]).trained(roles) == roles
    assert AgentArguments(agent_models=["a=executor,b=executor"]).given_away == ["a", "b"]
    for wrong, message in (
        (AgentArguments(train_agents=["critik"]), "no such role; there are writer, critic"),
        (AgentArguments(agent_models=["a=executor"]), "no such role"),
        (AgentArguments(agent_models=["writer=executor", "critic=executor"]), "no role is left"),
        (AgentArguments(agent_models=["critic=executor"], train_agents=["critic"]), "does not train"),
    ):
        with pytest.raises(UsageError, match=message):
            wrong.trained(roles)
    with pytest.raises(ValueError, match="role=executor"):
        AgentArguments(agent_models=["critic"])


# Kills and processes


def ends(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of all adapters that a run left."""
    return {
        f"{path.parent.name if path.parent != folder else ''}:{name}": value
        for path in (folder / "adapter_model.safetensors", folder / "critic" / "adapter_model.safetensors")
        if path.is_file()
        for name, value in load_file(path).items()
    }


FORMS = {"shared": ("shared", "episode"), "per_agent": ("per_agent", "turn")}


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(form: str, tmp_path: Path) -> None:
    steps = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    adapters, rows_form = FORMS[form]
    recipe = AgentArguments(adapters=adapters, agent_rows=rows_form, alternate=3 if form == "per_agent" else 0)
    whole = make_agents(tmp_path / "whole", recipe, **steps)  # sampled by the real policy
    whole.train()
    whole.save_model()
    whole.close()
    start = latest_checkpoint(tmp_path / "whole", before=3)
    assert start is not None and start.step == 2
    rows = [json.loads(line) for line in (tmp_path / "whole" / "rollouts.jsonl").read_text().splitlines()]
    resumed = make_agents(tmp_path / "resumed", recipe, start=start, **steps)
    train_policy(resumed, start)
    resumed.save_model()
    again = rollouts(resumed)
    resumed.close()
    assert again == [row for row in rows if row["step"] >= 2]
    one, other = ends(tmp_path / "whole"), ends(tmp_path / "resumed")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert any(name.startswith("critic:") for name in one) == (form == "per_agent")


LAUNCHERS = {
    "one": ["torch.distributed.run", "--standalone", "--nproc_per_node", "1"],
    "two": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "ZeRO-2": ["accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs" / "cpu_zero2.yaml")],
}


@pytest.mark.long
@pytest.mark.parametrize(("form", "other"), [("shared", "two"), ("per_agent", "two"), ("shared", "ZeRO-2")])
def test_two_processes_learn_what_one_does(form: str, other: str, tmp_path: Path) -> None:
    found = []
    for launcher, batch in ((LAUNCHERS["one"], 2 * K), (LAUNCHERS[other], K)):
        folder = tmp_path / str(len(found))
        script = [str(ROOT / "tests/recipes/tiny_agents.py"), str(folder), str(batch), *FORMS[form]]
        command = [sys.executable, "-m", *launcher, *script]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(ends(folder))
    assert found[0].keys() == found[1].keys()
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, atol=1e-5, rtol=1e-4)


def test_an_executors_role_keeps_to_its_machines_rate_limits_and_to_the_runs_budget(
    config: ExecutorConfig, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answer = lambda messages: "good"
    monkeypatch.setattr(accounts, "processes_here", lambda: 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    recipe = AgentArguments(agent_models=["critic=executor"])
    limited = replace(config, executor_rpm=6_000, executor_budget_usd=1.0)
    for start in (1, 2):
        trainer = opened(tmp_path, recipe, executor=limited, max_steps=1)
        (ledger,) = tmp_path.glob("*.rates")
        trainer.train()
        assert ledger.stat().st_size > 0
        trainer.close()
        assert not ledger.exists()
        asked = [request["messages"][0]["content"] for request in stub.requests]
        assert asked and set(asked) == {"You judge."}
        record = json.loads((tmp_path / "run" / ".spent-0.json").read_text())
        assert (record["cost_usd"] > 0) == (start == 1)  # a fresh start begins at nothing, and has every reply
