"""Sampling from a policy outside of training, and what is read beside it."""

from pathlib import Path

import pytest

from aflow_ops.errors import UsageError
from recipes.policy.generation import generate_completions
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
