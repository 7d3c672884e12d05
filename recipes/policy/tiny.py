"""A policy small enough for a laptop: Llama's architecture with its own small tokenizer, built from nothing.

A large vocabulary costs more than depth at this size (most of a step would be the softmax), hence the tokenizer of a
thousand or so pieces, trained on the very texts that the policy will read and write. Its pieces may span words, up to a
whole line (SuperBPE, https://arxiv.org/abs/2503.13423): workflows are made of few different lines, so a line is two or
three tokens instead of twelve, and a workflow is written and read that much faster and more surely.

A policy that has to copy needs two things more. What it copies has to be the same pieces where it is read and where it
is written, which pieces that span words are not (" live in Quor", "by", but "Quorby" in an answer): `whole_words` keeps
words apart from their surroundings. And its attention starts as one that adds what it looks at to what it says
(`copying`), so that it has to learn no more than where to look.

Llama and not Qwen2: `AutoTokenizer` gives every model of type `qwen2` Qwen's own way of cutting text into words,
whatever its tokenizer file says, and the policy would read other tokens than it was taught.
"""

import re
from collections.abc import Collection, Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"  # what TRL may teach alone
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, whole_words: Collection[str] = ()
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with a ChatML template. Pieces may span words; digits and lines stay apart.

    Args:
        texts (`Iterable[str]`): what the policy will read and write. Any other text still encodes, byte by byte.
        vocab_size (`int`): pieces, the 256 bytes and three special tokens included.
        whole_words (`Collection[str]`): words that share no piece with what stands around them, other such words
            excepted: the same pieces wherever they stand.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            _kept_apart(whole_words),
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


def _kept_apart(whole_words: Collection[str]) -> pre_tokenizers.PreTokenizer:
    """Cut out runs of whole words ("Mila Torvan"), and single digits that are part of none."""
    if not whole_words:
        return pre_tokenizers.Digits(individual_digits=True)
    word = rf"\b(?:{'|'.join(re.escape(word) for word in sorted(whole_words))})\b"
    return pre_tokenizers.Split(Regex(rf"{word}(?: {word})*|\d"), "isolated")


def build_tiny_policy(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int,
    num_layers: int,
    max_length: int,
    seed: int,
    initializer_range: float = 0.02,
    copying: float = 0.0,
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
        copying (`float`): how much of what a head attends to its layer adds to what it passes on, at first; 0 for what
            random weights add.
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
    model = LlamaForCausalLM(config)
    if copying:
        _start_copying(model, copying)
    return model


@torch.no_grad()  # type: ignore[untyped-decorator] # mypy reads nothing of torch
def _start_copying(model: LlamaForCausalLM, share: float) -> None:
    """Have every head pass on a part of what it attends to, unchanged (mimetic initialization, arXiv:2305.09828).

    The heads that share keys and values share a part of the width, orthogonal to the others' of their layer. Embeddings
    are tied, so whatever a head looks at gets likelier to be said.
    """
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    for layer in model.model.layers:
        values, out = layer.self_attn.v_proj.weight, layer.self_attn.o_proj.weight
        size = model.config.hidden_size // model.config.num_attention_heads
        basis = torch.linalg.qr(torch.randn(out.shape))[0]
        values.copy_(basis[:, : len(values)].T)
        parts = basis[:, : len(values)].split(size, dim=1)
        out.copy_(share * torch.cat([part for part in parts for _ in range(groups)], dim=1))


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
