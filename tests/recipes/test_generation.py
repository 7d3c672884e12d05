"""Sampling from a policy outside of training, and what is read beside it."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from aflow_ops.errors import UsageError
from recipes.policy.generation import generate_completions, sample_completions
from recipes.policy.loading import base_model_of, trained_sources
from recipes.policy.tiny import build_tiny_policy, train_tokenizer


def test_a_models_own_repetition_penalty_does_not_change_what_is_sampled() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).eval()
    prompt = [[{"role": "user", "content": "words"}]]
    plain = generate_completions(model, tokenizer, prompt, max_new_tokens=24, temperature=0.0)
    model.generation_config.repetition_penalty = 5.0  # Qwen2.5 has 1.05
    assert generate_completions(model, tokenizer, prompt, max_new_tokens=24, temperature=0.0) == plain


def test_an_adapter_whose_files_are_broken_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    (tmp_path / "config.yaml").write_text("{: [")
    with pytest.raises(UsageError, match=r"adapter_config\.json cannot be read"):
        base_model_of(str(tmp_path))
    with pytest.raises(UsageError, match=r"config\.yaml cannot be read"):
        trained_sources(str(tmp_path))


def test_a_sample_has_its_own_seed_whatever_its_batch_and_its_logprobs_are_the_models() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).eval()
    prompts = [[{"role": "user", "content": text}] for text in ("words", "a few", "a workflow of words")]
    settings: dict[str, float] = {"max_new_tokens": 12, "temperature": 0.7}
    together = sample_completions(model, tokenizer, prompts, [1, 2, 3], **settings)  # type: ignore[arg-type]
    alone = [sample_completions(model, tokenizer, [prompt], [seed], **settings)[0]  # type: ignore[arg-type]
             for prompt, seed in zip(prompts, [1, 2, 3], strict=True)]  # fmt: skip
    assert [each.text for each in alone] == [each.text for each in together]
    assert sample_completions(model, tokenizer, prompts[:1], [9], **settings)[0].tokens != alone[0].tokens  # type: ignore[arg-type]
    prompt = tokenizer.apply_chat_template(prompts[0], add_generation_prompt=True, tokenize=True, return_dict=False)
    ids = [token for token, _ in alone[0].tokens]
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits.float() / 0.7, -1)[range(len(ids)), ids]
    assert torch.allclose(expected, torch.tensor([value for _, value in alone[0].tokens]), atol=1e-4)
    assert alone[0].prompt_tokens == len(prompt)
    with pytest.raises(ValueError, match="do not fit the"):
        sample_completions(model, tokenizer, prompts, [1, 2, 3], max_new_tokens=2000, temperature=0.7)


def test_samples_are_as_frequent_as_the_model_says() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).eval()
    prompts = [[{"role": "user", "content": "words"}]] * 400
    first = [
        each.tokens[0]
        for each in sample_completions(model, tokenizer, prompts, range(400), max_new_tokens=1, temperature=0.3)
    ]
    counts = Counter(token for token, _ in first)
    chances = {token: math.exp(value) for token, value in first}
    for token, count in counts.most_common(3):
        spread = math.sqrt(400 * chances[token] * (1 - chances[token]))
        assert abs(count - 400 * chances[token]) < 4 * spread + 1
