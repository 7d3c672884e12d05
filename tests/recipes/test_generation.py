"""Sampling from a policy outside of training, and what is read beside it."""

import asyncio
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aflow_ops.errors import CallRefusedError, UsageError
from recipes.policy import loading
from recipes.policy.generation import end_tokens, generate_completions, sample_completions
from recipes.policy.loading import base_model_of, tokenizer_of, trained_sources, trained_template_kwargs
from recipes.policy.local import LocalPolicy
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.training.heldout import policy_for_generation
from recipes.training.supervised import end_at_turns


def test_a_models_own_repetition_penalty_does_not_change_what_is_sampled() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).eval()
    prompt = [[{"role": "user", "content": "words"}]]
    plain = generate_completions(model, tokenizer, prompt, max_new_tokens=24, temperature=0.0)
    model.generation_config.repetition_penalty = 5.0  # Qwen2.5 has 1.05
    assert generate_completions(model, tokenizer, prompt, max_new_tokens=24, temperature=0.0) == plain


def test_what_deepspeed_has_not_placed_yet_is_sampled_from_on_the_process_device() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).train()
    device = torch.device("meta")  # stands for a GPU: the model is loaded into main memory
    trainer: Any = SimpleNamespace(
        model=model, model_wrapped=model, is_deepspeed_enabled=True, accelerator=SimpleNamespace(device=device)
    )
    with policy_for_generation(trainer) as policy:
        assert policy.device == device and not policy.training
    assert model.training


def test_a_completion_ends_where_the_model_or_the_tokenizer_says() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).eval()
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id]
    model.generation_config.eos_token_id = tokenizer.pad_token_id  # as a base model's
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id, tokenizer.pad_token_id]


def test_the_chat_template_is_told_what_it_was_told_in_training(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0).eval()
    # Qwen3's template begins the reply with an empty thought unless it is told to think, here a word.
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}workflow{% endif %}"
    (tmp_path / "config.yaml").write_text("chat_template_kwargs:\n  enable_thinking: false\n")
    told = trained_template_kwargs(str(tmp_path))
    assert told == {"enable_thinking": False} and trained_template_kwargs(None) == {}
    prompt = [[{"role": "user", "content": "words"}]]
    lengths = [
        sample_completions(
            model, tokenizer, prompt, [1], max_new_tokens=1, temperature=0.0, chat_template_kwargs=kwargs
        )[0].prompt_tokens
        for kwargs in (None, told)
    ]
    assert lengths[1] > lengths[0]
    asked: list[int] = []
    written = model.generate
    model.generate = lambda **kwargs: asked.append(kwargs["input_ids"].shape[1]) or written(**kwargs)
    for kwargs in (None, told):
        generate_completions(model, tokenizer, prompt, max_new_tokens=1, temperature=0.0, chat_template_kwargs=kwargs)
    assert asked == lengths


def test_a_tokenizer_is_the_adapters_pads_like_trl_and_has_a_template(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    tokenizer.pad_token = None  # as Llama's
    tokenizer.save_pretrained(tmp_path / "model")
    found = tokenizer_of(str(tmp_path / "model"))
    assert (found.pad_token, found.padding_side) == (found.eos_token, "left")
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert tokenizer_of(str(tmp_path / "model"), str(tmp_path / "adapter")).eos_token == "<|endoftext|>"
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(UsageError, match="bare: its tokenizer has no chat template"):
        tokenizer_of(str(tmp_path / "bare"))


def test_a_base_is_quantized_as_the_adapters_run_had_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("load_in_4bit: true\ndtype: float16\nbnb_4bit_quant_type: nf4\n")
    assert loading._precision(str(tmp_path)) == {"dtype": "auto"}  # there is no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(loading, "find_spec", lambda name: name)
    monkeypatch.setattr(loading, "get_quantization_config", lambda model: (model.load_in_4bit, model.dtype))
    expected = {"dtype": "float16", "quantization_config": (True, "float16"), "device_map": {"": 1}}
    assert loading._precision(str(tmp_path)) == expected
    assert loading._precision(None) == {"dtype": "auto"}


def test_what_is_taught_to_a_base_model_ends_its_completions() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=128, seed=0)
    turn, text = tokenizer.eos_token_id, tokenizer.pad_token_id
    end_at_turns(model, tokenizer)
    assert model.generation_config.eos_token_id == turn  # nothing to do
    tokenizer.eos_token, model.generation_config.eos_token_id = "<|endoftext|>", text  # as Qwen2.5's base models
    end_at_turns(model, tokenizer)
    assert (tokenizer.eos_token_id, model.config.eos_token_id) == (turn, turn)
    assert model.generation_config.eos_token_id == [turn, text]


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


async def test_a_prompt_that_is_too_long_is_refused_by_itself_once_others_were_not() -> None:
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    model = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=64, seed=0).eval()
    policy = LocalPolicy(model, tokenizer, 0, remedy="ask for designs")
    short: list[Any] = [{"role": "user", "content": "words"}]
    long: list[Any] = [{"role": "user", "content": "words " * 200}]

    async def ask(*chats: list[Any]) -> list[Any]:
        asked = [
            policy.complete(chat, temperature=0.7, max_tokens=4, sample=number) for number, chat in enumerate(chats)
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    (told,) = await ask(long)
    assert isinstance(told, UsageError) and "ask for designs" in str(told)
    alone = (await ask(short))[0]
    together = await ask(short, long, short)
    assert together[0].text == alone.text and isinstance(together[1], CallRefusedError)
    assert together[2].prompt_tokens == alone.prompt_tokens
