"""Rows scored by length have the log-probabilities, entropies and gradients of rows scored together, for less."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.training.by_length import ROWS, score_by_length

PROMPT, COMPLETION = 12, 40


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).double()


class Scored:
    """Stands for TRL's method, and counts what it computes."""

    def __init__(self, entropy: bool = True, aux_loss: bool = False) -> None:
        self.computed: list[tuple[int, int]] = []
        self.entropy, self.aux_loss = entropy, aux_loss

    def __call__(self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, temperature: float) -> Any:
        self.computed.append(tuple(input_ids.shape))
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1] / temperature
        logps = logits.log_softmax(-1)
        taken = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)[:, -logits_to_keep:]
        entropies = -(logps.exp() * logps).sum(-1)[:, -logits_to_keep:]
        return taken, entropies if self.entropy else None, logits.mean() if self.aux_loss else None


def batch(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as TRL lays them out, the first with nothing but one token of each part."""
    made = torch.Generator().manual_seed(seed)
    prompts = torch.randint(1, PROMPT + 1, (rows, 1), generator=made)
    completions = torch.randint(1, COMPLETION + 1, (rows, 1), generator=made) // torch.randint(
        1, 5, (rows, 1), generator=made
    )
    prompts[0], completions[0], completions[-1] = 1, 1, COMPLETION
    before = torch.arange(PROMPT).flip(0) < prompts
    after = torch.arange(COMPLETION) < completions.clamp(min=1)
    mask = torch.cat([before, after], 1).long()
    return torch.randint(0, 50, mask.shape, generator=made) * mask, mask


@pytest.mark.parametrize("rows", [2 * ROWS, 3 * ROWS + 5])
def test_by_length_is_the_same_for_less(model: LlamaForCausalLM, rows: int) -> None:
    ids, mask = batch(rows)
    together, apart = Scored(), Scored()
    own = mask[:, PROMPT:]
    gradients = []
    for values in (
        together(model, ids, mask, COMPLETION, 0.7),
        score_by_length(apart, model, ids, mask, COMPLETION, temperature=0.7),
    ):
        model.zero_grad()
        ((values[0] + values[1]) * own).sum().backward()
        gradients.append((values, [each.grad.clone() for each in model.parameters() if each.grad is not None]))
    (first, ours), (second, theirs) = gradients
    for one, other in zip(first[:2], second[:2], strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one * own, other * own)
    torch.testing.assert_close(ours, theirs)
    assert second[2] is None
    assert len(apart.computed) == rows // ROWS and sum(count for count, _ in apart.computed) == rows
    assert sum(count * width for count, width in apart.computed) < 0.8 * ids.numel()


def test_few_rows_are_scored_together(model: LlamaForCausalLM) -> None:
    ids, mask = batch(2 * ROWS - 1)
    score = Scored()
    score_by_length(score, model, ids, mask, COMPLETION, 1.0)
    assert score.computed == [tuple(ids.shape)]


def test_what_is_not_asked_for_is_not_there_and_auxiliary_losses_are_a_mean(model: LlamaForCausalLM) -> None:
    ids, mask = batch(2 * ROWS)
    _, entropies, aux_loss = score_by_length(Scored(False, True), model, ids, mask, COMPLETION, 1.0)
    assert entropies is None and aux_loss is not None and aux_loss.ndim == 0


def test_rows_without_a_token_of_their_own_are_scored_too(model: LlamaForCausalLM) -> None:
    ids, mask = batch(2 * ROWS)
    mask[:, PROMPT:] = 0
    logps, _, _ = score_by_length(Scored(), model, ids, mask, COMPLETION, 1.0)
    assert logps.shape == (2 * ROWS, COMPLETION)
