"""The tiny policy's tokenizer: what it was taught in is what it is read in."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.policy.tiny import build_tiny_policy, train_tokenizer, untie_embeddings

WORKFLOW = 'async def workflow(problem):\n    result = await programmer(problem=problem)\n    return result["output"]'
TEXTS = ["math: custom, programmer", "Calculate 12 + 345.", WORKFLOW] * 5


def test_a_saved_tokenizer_cuts_texts_as_it_did(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=64, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path, padding_side="left")
    chat = [{"role": "system", "content": TEXTS[0]}, {"role": "user", "content": TEXTS[1]}]
    ids = [
        item.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        for item in (tokenizer, read)
    ]
    assert ids[0] == ids[1]
    for text in (*TEXTS, "    indented\n\n  text, 1234 ünïcode 🙂\n"):
        assert read.encode(text) == tokenizer.encode(text)
        assert read.decode(read.encode(text)) == text
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == len(read)


def test_a_line_that_recurs_becomes_few_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    assert len(tokenizer.encode(WORKFLOW)) <= 8
    assert len(tokenizer.encode("1234")) == 4, "numbers are read digit by digit"


def test_an_untied_policy_computes_the_same_and_keeps_its_two_matrices(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    policy = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=64, seed=0)
    tokens = torch.tensor([tokenizer.encode(WORKFLOW)])
    with torch.no_grad():
        tied = policy(tokens).logits
        untie_embeddings(policy)
        policy.save_pretrained(tmp_path)
        read = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert torch.equal(read(tokens).logits, tied)
        read.get_output_embeddings().weight.zero_()
        assert read.get_input_embeddings().weight.abs().sum() > 0
