"""A policy small enough for a laptop: Llama's architecture with its own small tokenizer, built from nothing.

A large vocabulary costs more than depth at this size (most of a step would be the softmax), hence the tokenizer of a
thousand or so pieces, trained on the very texts that the policy will read and write. Its pieces may span words, up to a
whole line (SuperBPE, https://arxiv.org/abs/2503.13423): workflows are made of few different lines, so a line is two or
three tokens instead of twelve, and a workflow is written and read that much faster and more surely.

Llama and not Qwen2: `AutoTokenizer` gives every model of type `qwen2` Qwen's own way of cutting text into words,
whatever its tokenizer file says, and the policy would read other tokens than it was taught.
"""

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with a ChatML template. Pieces may span words; digits and lines stay apart.

    Args:
        texts (`Iterable[str]`): what the policy will read and write. Any other text still encodes, byte by byte.
        vocab_size (`int`): pieces, the 256 bytes and three special tokens included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r"\n"), "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def build_tiny_policy(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int,
    num_layers: int,
    max_length: int,
    seed: int,
    initializer_range: float = 0.02,
) -> LlamaForCausalLM:
    """Return a randomly initialised Llama model for the tokenizer.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): from `train_tokenizer`.
        hidden_size (`int`): model width, a multiple of 64 (the head size is 32, key/value heads are half the heads).
        num_layers (`int`): decoder layers.
        max_length (`int`): longest sequence in tokens.
        seed (`int`): seed of the initial weights.
        initializer_range (`float`): standard deviation of the initial weights. At 128 wide, attention starts almost
            flat with the usual 0.02.
    """
    torch.manual_seed(seed)
    heads = hidden_size // 32
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 3,
        num_hidden_layers=num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=max_length,
        initializer_range=initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def untie_embeddings(model: PreTrainedModel) -> None:
    """Give a model's output layer weights of its own, with the values that it shared with the embeddings so far.

    What the model computes stays the same. But the output layer can now be trained beside an adapter, and merged:
    while the two share one matrix, merging would change how every token is read too.

    Args:
        model (`PreTrainedModel`): changed in place.
    """
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False
