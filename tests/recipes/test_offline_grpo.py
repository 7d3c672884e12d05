"""GRPO on trajectories through TRL's real trainer: what one step of plain SGD changes is the gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from aflow_ops.errors import UsageError
from data.trajectories import Trajectory
from recipes.policy.tiny import build_tiny_policy
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.training.off_policy import completion_tokens
from recipes.training.offline_grpo import OfflineGRPOTrainer
from tests.recipes.test_experience import trajectory
from tests.recipes.tiny_run import ASK, K, problems, tiny_tokenizer

GAMMA, EPSILON, RATE = 0.1, 0.2, 1.0
TEXTS = (ASK, "Custom -> Format", "nonsense", "[Custom] -> Oracle")
REWARDS = (1.0, 0.7, 0.0, 0.2)
Gradients = dict[str, torch.Tensor]


def rows_of(number: int, texts: Sequence[str] = TEXTS, rewards: Sequence[float] = REWARDS) -> list[Trajectory]:
    problem = problems(number + 1)[number]
    return [trajectory(problem, text, reward, "brief") for text, reward in zip(texts, rewards, strict=True)]


def groups_of(*groups: list[Trajectory]) -> dict[str, list[Trajectory]]:
    return {rows[0].group: rows for rows in groups}


@cache
def taught_weights() -> dict[str, torch.Tensor]:
    """Of a policy that writes each of the texts now and then: untaught, all tokens are too unlikely to be moved."""
    tokenizer = tiny_tokenizer()
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=512, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for turn in range(60):
        row = rows_of(turn % 4)[turn % 3]
        chat = [*map(dict, row.prompt), {"role": "assistant", "content": row.completion}]
        ids = torch.tensor([tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def taught_policy() -> Any:
    model = build_tiny_policy(tiny_tokenizer(), hidden_size=64, num_layers=1, max_length=512, seed=0)
    model.load_state_dict(taught_weights())
    return model


def make(folder: Path, groups: Mapping[str, Sequence[Trajectory]], **changes: Any) -> OfflineGRPOTrainer:
    tokenizer = tiny_tokenizer()
    own = {name: changes.pop(name) for name in ("shaping", "kl_where_positive") if name in changes}
    trainer = OfflineGRPOTrainer(
        model=taught_policy(),
        args=WorkflowGRPOConfig(
            **{
                "output_dir": str(folder), "num_generations": K, "per_device_train_batch_size": K * len(groups),
                "max_completion_length": 64, "max_steps": 1, "learning_rate": RATE, "optim": "sgd",
                "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "scale_rewards": "none", "temperature": 1.0,
                "report_to": "none", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True, "bf16": False,
                "save_strategy": "no", "activation_checkpointing": False, "epsilon": EPSILON, **changes,
            }
        ),
        groups=groups,
        policy_name="tiny",
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
        **{"shaping": GAMMA, **own},
    )  # fmt: skip
    torch.manual_seed(1)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return trainer


def step(trainer: OfflineGRPOTrainer) -> Gradients:
    """The gradient of one real step."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    return {name: (value - trainer.model.get_parameter(name).detach()) / RATE for name, value in before.items()}


def own(trainer: OfflineGRPOTrainer, row: Trajectory, shift: float = 0.0) -> Trajectory:
    """The row as this policy would have sampled it; `shift` nats likelier than now."""
    ids = completion_tokens(trainer.processing_class, row.completion, trainer.eos_token_ids)
    now = log_probabilities(trainer, row, ids).detach()
    behaviour = tuple(min(0.0, value + shift * (-1) ** place) for place, value in enumerate(now.tolist()))
    return replace(row, completion_ids=ids, logprobs=behaviour, policy={"model": "tiny"})


def log_probabilities(trainer: OfflineGRPOTrainer, row: Trajectory, ids: Sequence[int]) -> torch.Tensor:
    """Of the completion's tokens, from the model's logits, without TRL."""
    chat = [dict(message) for message in row.prompt]
    prompt = trainer.processing_class.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    tokens = torch.tensor([[*prompt["input_ids"], *ids]])
    logits = trainer.model(input_ids=tokens).logits[0, :-1].log_softmax(-1)
    return logits.gather(1, tokens[0, 1:, None])[-len(ids) :, 0]


def by_hand(
    trainer: OfflineGRPOTrainer,
    groups: Mapping[str, Sequence[Trajectory]],
    beta: float = 0.0,
    kl_everywhere: bool = True,
) -> Gradients:
    """The gradient of the formulas: dapo's mean over the tokens of all rows, unscaled advantages."""
    total, count = torch.tensor(0.0), 0
    for rows in groups.values():
        mean = sum(row.reward for row in rows) / len(rows)
        for row in rows:
            ids = row.completion_ids or completion_tokens(
                trainer.processing_class, row.completion, trainer.eos_token_ids
            )
            now, advantage = log_probabilities(trainer, row, ids), row.reward - mean
            ratio = torch.ones_like(now)
            if row.logprobs is None:
                loss = -advantage * now.exp() / (now.exp() + GAMMA)
            else:
                ratio = (now - torch.tensor(row.logprobs)).exp()
                loss = -torch.min(ratio * advantage, ratio.clamp(1 - EPSILON, 1 + EPSILON) * advantage)
            if beta and (kl_everywhere or advantage > 0):
                with torch.no_grad(), trainer.model.disable_adapter():
                    reference = log_probabilities(trainer, row, ids)
                gap = reference - now
                weight = ratio if row.logprobs is not None else (now - now.detach()).exp()
                loss = loss + beta * (gap.exp() - gap - 1) * weight
            total, count = total + loss.sum(), count + len(ids)
    trainer.model.zero_grad()
    (total / count).backward()
    found = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return found


def far(one: Gradients, other: Gradients) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def size(gradients: Gradients) -> float:
    return max(value.abs().max().item() for value in gradients.values())


def test_foreign_rows_have_the_shaped_gradient(tmp_path: Path) -> None:
    groups = groups_of(rows_of(0), rows_of(1, rewards=(0.0, 1.0, 0.4, 0.4)))
    trainer = make(tmp_path, groups)
    expected = by_hand(trainer, groups)
    assert far(step(trainer), expected) < 1e-5 < 1e-3 < size(expected)
    log = trainer.state.log_history[0]
    assert 0 < log["replay/shaped"] < 1 and log["replay/logprob"] < 0 and "replay/ratio" not in log


@pytest.mark.parametrize("loss_type", ["dapo", "cispo"])
def test_own_rows_have_their_ratio_clipped(loss_type: str, tmp_path: Path) -> None:
    trainer = make(tmp_path, groups_of(rows_of(0)), loss_type=loss_type, epsilon_high=EPSILON)
    groups = groups_of([own(trainer, row, shift=0.25) for row in rows_of(0)])
    trainer = make(tmp_path, groups, loss_type=loss_type, epsilon_high=5.0 if loss_type == "cispo" else EPSILON)
    found = step(trainer)
    log = trainer.state.log_history[0]
    assert log["replay/ratio"] == pytest.approx(1.0, abs=0.1) and "replay/shaped" not in log
    if loss_type == "dapo":
        assert 0.2 < log["replay/clipped"] < 0.8
        assert log["clip_ratio/region_mean"] == pytest.approx(log["replay/clipped"], abs=1e-5)
        trainer = make(tmp_path, groups)
        expected = by_hand(trainer, groups)
        assert far(found, expected) < 1e-5 < 1e-3 < size(expected)
    else:
        assert size(found) > 1e-3


@pytest.mark.parametrize("kl_everywhere", [True, False])
def test_the_kl_term_counts_everywhere_or_where_the_advantage_is_positive(kl_everywhere: bool, tmp_path: Path) -> None:
    trainer = make(tmp_path, groups_of(rows_of(0)))
    groups = groups_of([own(trainer, row, 0.1) if place % 2 else row for place, row in enumerate(rows_of(0))])
    trainer = make(tmp_path, groups, beta=2.0, kl_where_positive=not kl_everywhere)
    expected = by_hand(trainer, groups, beta=2.0, kl_everywhere=kl_everywhere)
    other = by_hand(trainer, groups, beta=2.0, kl_everywhere=not kl_everywhere)
    assert far(step(trainer), expected) < 1e-5 < 1e-3 < far(expected, other)


def test_the_prompt_is_read_and_not_learnt(tmp_path: Path) -> None:
    """Whatever the prompt says, a completion of equal rewards moves nothing; with signal, its tokens alone do."""
    groups = groups_of(rows_of(0))
    trainer = make(tmp_path, groups)
    weights: list[torch.Tensor] = []
    compute = trainer._get_per_token_logps_and_entropies

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = compute(*args, **kwargs)
        result[0].register_hook(weights.append)
        assert result[0].shape[1] == max(len(row.ids) for row in trainer.given_rows if row is not None)
        return result

    trainer._get_per_token_logps_and_entropies = watched  # type: ignore[method-assign]
    trainer.train()
    (weight,) = weights
    lengths = sorted(len(row.ids) for row in trainer.given_rows if row is not None)
    assert sorted((weight != 0).sum(1).tolist()) == lengths  # every token of a workflow, none of the padding


def test_workflows_and_problems_belong_together(tmp_path: Path) -> None:
    first, second = rows_of(0), rows_of(1, rewards=(0.0, 0.2, 1.0, 0.7))

    def loss(*groups: list[Trajectory]) -> float:
        trainer = make(tmp_path, groups_of(*groups))
        trainer.train()
        found: float = trainer.state.log_history[0]["grad_norm"]
        return found

    whole = loss(first, second)
    swapped = [replace(first[0], completion=first[2].completion), *first[1:]]
    swapped[2] = replace(first[2], completion=first[0].completion)
    assert loss(first, second) == whole
    assert abs(loss(swapped, second) - whole) > 1e-5
    exchanged = [
        [replace(row, prompt=other[0].prompt) for row in rows] for rows, other in ((first, second), (second, first))
    ]
    assert abs(loss(*exchanged) - whole) > 1e-5


def test_groups_of_one_and_of_equals_teach_nothing(tmp_path: Path) -> None:
    single, equal = rows_of(0)[:1], rows_of(1, rewards=(0.7,) * 4)
    assert size(step(make(tmp_path, groups_of(single, equal), scale_rewards="batch"))) == 0.0
    trainer = make(tmp_path, groups_of(single, equal, rows_of(2)))
    assert size(step(trainer)) > 1e-4


def test_a_small_group_is_filled_up_with_what_counts_for_nothing(tmp_path: Path) -> None:
    groups = groups_of(rows_of(0)[:3])
    trainer = make(tmp_path, groups, beta=1.0)
    expected = by_hand(trainer, groups, beta=1.0)
    assert far(step(trainer), expected) < 1e-5 < 1e-3 < size(expected)


def test_fewer_groups_than_a_generation_has_are_repeated(tmp_path: Path) -> None:
    groups = groups_of(rows_of(0), rows_of(1, rewards=(0.0, 1.0, 0.4, 0.4)))
    trainer = make(tmp_path, groups, per_device_train_batch_size=4 * K)
    expected = by_hand(trainer, groups)
    assert far(step(trainer), expected) < 1e-5 < 1e-3 < size(expected)
    assert trainer.state.global_step == 1


def test_what_is_longer_than_a_completion_may_be_is_left_out(tmp_path: Path) -> None:
    rows = rows_of(0)
    groups = groups_of(rows, rows_of(1, rewards=(1.0, 0.0, 0.0, 0.0)))  # the second has no signal without its best
    trainer = make(tmp_path, groups, max_completion_length=len(tiny_tokenizer().encode(ASK)))
    assert trainer.too_long == 2
    expected = by_hand(trainer, groups_of(rows[1:]))
    assert far(step(trainer), expected) < 1e-5 < 1e-3 < size(expected)
    with pytest.raises(UsageError, match="max_completion_length=1: of what is shorter, no problem"):
        make(tmp_path, groups, max_completion_length=1)


def test_a_large_group_takes_turns(tmp_path: Path) -> None:
    texts = [f"Custom -> Format{'!' * count}" for count in range(6)]
    trainer = make(tmp_path, groups_of(rows_of(0, texts, (1.0, 0.0, 0.7, 0.2, 0.4, 0.0))), max_steps=3)
    seen: list[list[float]] = []
    generate = trainer._rollouts

    def watched(prompts: list[Any], _: Any) -> dict[str, Any]:
        seen.append([row.record["reward"] for row in trainer.given_rows if row is not None])
        return generate(prompts, _)

    trainer.rollout_func = watched
    trainer.train()
    assert seen == [[1.0, 0.0, 0.7, 0.2], [0.4, 0.0, 1.0, 0.0], [0.7, 0.2, 0.4, 0.0]]


def test_it_learns_to_write_what_earned_most(tmp_path: Path) -> None:
    groups = groups_of(*(rows_of(number) for number in range(4)))
    trainer = make(tmp_path, groups, optim="adamw_torch", learning_rate=2e-2, max_steps=60, scale_rewards="batch")
    (row, *_, worst) = rows_of(0)
    sums = []
    for _ in range(2):
        with torch.no_grad():
            sums.append([
                log_probabilities(
                    trainer, item, completion_tokens(trainer.processing_class, item.completion, trainer.eos_token_ids)
                ).mean().item()
                for item in (row, worst)
            ])  # fmt: skip
        if len(sums) == 1:
            trainer.train()
    assert sums[1][0] > sums[0][0] + 0.5 and sums[1][0] > sums[1][1] + 1
