"""Score-DPO through TRL's real trainer, on a tiny policy."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from data.pairs import Pair
from recipes.policy.tiny import build_tiny_policy, untie_embeddings
from recipes.training.score_dpo import ScoreDPOTrainer, pairs_dataset
from tests.recipes.test_experience import trajectory
from tests.recipes.tiny_run import ASK, problems, tiny_tokenizer

BETA = 0.3
TEXTS = [(ASK, "nonsense"), ("Custom -> Format", ASK), ("[Custom] -> Oracle", "async def workflow(problem):\n    1")]


def pairs(scores: list[tuple[float, float]]) -> Dataset:
    rows = problems(len(scores))
    return pairs_dataset(
        [
            Pair(trajectory(problem, good, won, "brief"), trajectory(problem, bad, lost, "brief"))
            for problem, (good, bad), (won, lost) in zip(rows, TEXTS, scores, strict=True)
        ]
    )


def make(
    cls: type[DPOTrainer], dataset: Dataset, folder: Path, peft: bool = True, output_layer: bool = False, **more: Any
) -> DPOTrainer:
    tokenizer = tiny_tokenizer()
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=512, seed=0)
    if output_layer:
        untie_embeddings(model)
    model.save_pretrained(folder / "base")
    settings = {name: more.pop(name) for name in list(more) if name not in ("score_weighting", "model", "callbacks")}
    args = DPOConfig(
        **{
            "output_dir": str(folder / "run"), "beta": BETA, "per_device_train_batch_size": 3, "max_steps": 3,
            "learning_rate": 1e-2, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no",
            "activation_checkpointing": False, "disable_tqdm": True,
            "logging_steps": 1, "max_grad_norm": 0.0, **settings,
        }
    )  # fmt: skip
    more.setdefault("model", str(folder / "base"))
    saved = ["lm_head"] if output_layer else None
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, modules_to_save=saved)
    config = lora if peft else None
    return cls(args=args, train_dataset=dataset, processing_class=tokenizer, peft_config=config, **more)


def loss_of(trainer: DPOTrainer) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first batch, with the policy away from its reference."""
    torch.manual_seed(3)
    trainer.model.eval()
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[n], other[n], atol=tolerance) for n in one)


@pytest.mark.parametrize("peft", [True, False])
def test_with_full_scores_it_is_plain_dpo(peft: bool, tmp_path: Path) -> None:
    full, some = pairs([(1.0, 0.0)] * 3), pairs([(0.7, 0.2)] * 3)
    loss, gradients = loss_of(make(DPOTrainer, full, tmp_path / "plain", peft))
    scored, own = loss_of(make(ScoreDPOTrainer, full, tmp_path / "scored", peft))
    assert scored == pytest.approx(loss, abs=1e-6) and loss > 0.1
    assert same(own, gradients, 1e-6) and any(value.abs().max() > 1e-4 for value in gradients.values())
    flagged, off = loss_of(make(ScoreDPOTrainer, some, tmp_path / "off", peft, score_weighting=False))
    assert flagged == pytest.approx(loss, abs=1e-6) and same(off, gradients, 1e-6)
    weighted, _ = loss_of(make(ScoreDPOTrainer, some, tmp_path / "some", peft))
    assert weighted != pytest.approx(loss, abs=1e-4)


def by_hand(trainer: DPOTrainer, dataset: Dataset) -> torch.Tensor:
    """The loss from the formula, one text at a time and without TRL."""
    tokenizer, model = trainer.processing_class, trainer.model

    def log_probability(prompt: Any, answer: Any) -> torch.Tensor:
        start = len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])
        ids = torch.tensor([tokenizer.apply_chat_template(prompt + answer, return_dict=True)["input_ids"]])
        logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        return logits.gather(1, ids[0, 1:, None])[start - 1 :].sum()

    losses = []
    for row in dataset:
        ratios = []
        for name in ("chosen", "rejected"):
            with torch.no_grad(), model.disable_adapter():
                reference = log_probability(row["prompt"], row[name])
            ratios.append(log_probability(row["prompt"], row[name]) - reference)
        margin = row["chosen_score"] * ratios[0] - (1 - row["rejected_score"]) * ratios[1]
        losses.append(-torch.nn.functional.logsigmoid(BETA * margin))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("precomputed", "output_layer"), [(False, False), (True, False), (False, True)])
def test_loss_and_gradient_are_those_of_the_formula(precomputed: bool, output_layer: bool, tmp_path: Path) -> None:
    dataset = pairs([(1.0, 0.4), (0.7, 0.0), (0.4, 0.2)])
    trainer = make(ScoreDPOTrainer, dataset, tmp_path, output_layer=output_layer, precompute_ref_log_probs=precomputed)
    loss, gradients = loss_of(trainer)
    trainer.model.zero_grad()
    expected = by_hand(trainer, dataset)
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    hand = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    assert same(gradients, hand, 1e-5) and any(value.abs().max() > 1e-3 for value in hand.values())


def test_the_scores_reach_the_trainers_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = []
    for scores in ([(1.0, 0.0)] * 3, [(0.5, 0.4)] * 3):
        trainer = make(ScoreDPOTrainer, pairs(scores), tmp_path / str(scores[0][0]))
        trainer.train()
        found.append(trainer.state.log_history[-2]["loss"])
    assert found[0] < found[1]
