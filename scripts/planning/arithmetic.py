"""Bytes of a GRPO step with LoRA, phase by phase, from sizes alone.

The four phases, with what TRL 1.16 and transformers 5 hold in each:

- prefill: all completions of a generation batch (`per_device_train_batch_size * steps_per_generation`) read their
  prompts at once; the peak is the gated MLP's three intermediate tensors.
- decode: the key/value cache of all of them at full length, and the sampling of one token each.
- reference: a micro-batch without gradients, for the KL term (none when beta is 0).
- update: a micro-batch forward and backward; the LM head works in tiles of at most 4096 tokens by 32768 pieces
  (`trl/kernels/chunked_logprob.py`), so that whole logits never exist.

Weights, adapter, gradients and optimizer state are there in every phase. What is counted was compared with real
tensors on the CPU (`tests/scripts/test_plan_memory.py`); the CUDA context and the allocator's waste are assumptions,
which `scripts/plan_memory.py --measure` checks on a GPU.
"""

from dataclasses import dataclass
from math import ceil

from scripts.planning.shape import ModelShape

GIB = 2**30
# CUDA context, cuBLAS workspaces and loaded kernels: 0.4 to 0.6 GiB by device and driver.
CONTEXT_BYTES = int(0.6 * GIB)
# What the caching allocator cannot use, as a share of everything that comes and goes.
FRAGMENTATION = 0.10
# Quantization of bitsandbytes: https://huggingface.co/papers/2305.14314, section 3.
BLOCK, NESTED_BLOCK = 64, 256
# TRL's fused LM head.
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
# Temperature, top-k and top-p of one token each: float32 logits, scores, softmax and cumulated sums, sorted with int64
# indices, and masks; bytes for each piece of the vocabulary.
SAMPLING_BYTES = 40


@dataclass(frozen=True)
class Workload:
    """What a run does with a model.

    Args:
        sequences (`int`): completions sampled at once.
        micro_batch (`int`): completions in one forward and backward pass.
        prompt, completion (`int`): tokens of the longest ones.
        weight_bytes (`int`): of one base parameter that is not quantized.
        compute_bytes (`int`): of one activation: 2 in mixed precision, else those of the weights.
        quantized, nested (`bool`): a 4-bit base; its block constants quantized too.
        adapter_bytes, optimizer_bytes (`int`): of one adapter parameter, and of the optimizer's state for it.
        whole_bytes (`int`): of one parameter of a module that is trained whole.
        rank (`int`), dropout (`float`): of the adapter.
        checkpointing (`bool`): keep each layer's input only, and compute the layer again in the backward pass.
        reference (`bool`): whether there is a KL term.
        liger (`bool`): Liger's fused norms and MLP.
        vllm_bytes (`int`): memory that a colocated vLLM engine holds.
    """

    sequences: int
    micro_batch: int
    prompt: int
    completion: int
    weight_bytes: int
    compute_bytes: int
    quantized: bool
    nested: bool
    adapter_bytes: int
    optimizer_bytes: int
    whole_bytes: int
    rank: int
    dropout: float
    checkpointing: bool
    reference: bool
    liger: bool = False
    vllm_bytes: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Phase:
    """A phase's bytes by what they are for."""

    name: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())


def weight_bytes(shape: ModelShape, work: Workload) -> int:
    """Return the bytes of the base model; a 4-bit one with its block constants."""
    if not work.quantized:
        return shape.parameters * work.weight_bytes
    blocks = [ceil(elements / BLOCK) for elements in shape.linears]
    constants = sum(count + 4 * ceil(count / NESTED_BLOCK) if work.nested else 4 * count for count in blocks)
    kept = shape.parameters - sum(shape.linears)
    return sum(ceil(elements / 2) for elements in shape.linears) + constants + kept * work.weight_bytes


def adapter_state_bytes(shape: ModelShape, work: Workload) -> int:
    """Return the bytes of all that is trained, its gradients and its optimizer state."""
    lora = (shape.adapter - shape.whole) * (2 * work.adapter_bytes + work.optimizer_bytes)
    # Adam's two states have the precision of what they are of, or 8 bits.
    return lora + shape.whole * (2 * work.whole_bytes + min(work.optimizer_bytes, 2 * work.whole_bytes))


def kv_cache_bytes(shape: ModelShape, sequences: int, tokens: int, element: int) -> int:
    """Return the bytes of keys and values of all layers."""
    return 2 * shape.layers * sequences * tokens * shape.kv_heads * shape.head_dim * element


def saved_by_layer(shape: ModelShape, work: Workload, batch: int, tokens: int) -> int:
    """Return the bytes that one decoder layer's forward pass keeps for its backward pass.

    The base is frozen, so its linears keep nothing; attention masks padding, so keys and values are repeated for every
    query head and the mask is kept in the activations' type.

    Args:
        shape (`ModelShape`): the model.
        work (`Workload`): precision and adapter.
        batch (`int`): sequences.
        tokens (`int`): tokens of each, padding included.
    """
    c = work.compute_bytes
    norms = 2 * (shape.hidden * (c if work.liger else 4) + 4)
    attention = 4 * c * shape.heads * shape.head_dim + 4 * shape.heads
    mlp = (2 if work.liger else 3) * c * shape.intermediate
    mask = c * batch * tokens * tokens
    return batch * tokens * (norms + attention + mlp + _saved_by_adapter(shape, work)) + mask


def _saved_by_adapter(shape: ModelShape, work: Workload) -> int:
    """Bytes for each token: every adapted linear keeps its input as A sees it, A's output, and the dropout's mask."""
    c = work.compute_bytes
    copied = work.dropout > 0 or c != work.adapter_bytes  # otherwise linears with one input keep one tensor
    shared: set[str] = set() if copied else {"o_proj"}  # attention keeps its output anyway
    total = 0
    for linear in shape.adapted:
        total += c * work.rank + (linear.inputs if work.dropout > 0 else 0)
        input_of = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
        last = linear.name.rsplit(".", 1)[-1]
        if copied or input_of.get(last, last) not in shared:
            total += c * linear.inputs
        shared.add(input_of.get(last, last))
    return total


def update_bytes(shape: ModelShape, work: Workload) -> dict[str, int]:
    """Return the bytes of forward and backward at their worst moment: in the LM head, or in the MLP's backward pass."""
    c, tokens = work.compute_bytes, work.micro_batch * work.length
    layer = saved_by_layer(shape, work, work.micro_batch, work.length)
    stream = tokens * shape.hidden * c
    if work.checkpointing:
        kept, again = shape.layers * stream, layer
    else:
        kept, again = shape.layers * layer + stream, 0
    # The backward pass of silu(gate) * up holds three gradients beside the three tensors, and the residual stream's.
    backward = 3 * c * tokens * shape.intermediate + stream
    head = lm_head_bytes(shape, work, work.micro_batch * work.completion) + 4 * tokens * shape.hidden
    head += 4 * shape.whole_head  # the gradient of one that is trained is summed up in float32
    lora = shape.adapter - shape.whole
    casts = lora * c // (shape.layers if work.checkpointing else 1) if c != work.adapter_bytes else 0
    in_layer, in_head = again + backward, head
    mask = work.micro_batch * work.length**2
    return {
        "activations": kept + mask + casts + (in_layer if in_layer >= in_head else 0),
        "LM head": 0 if in_layer >= in_head else in_head,
        "dequantized": _dequantized(shape, work),
    }


def lm_head_bytes(shape: ModelShape, work: Workload, scored: int) -> int:
    """Return the bytes of TRL's fused LM head over `scored` tokens: one tile of logits, and the hidden states with
    their float32 gradient; whole logits never exist."""
    tile = min(scored, TILE_TOKENS) * TILE_VOCABULARY * work.compute_bytes
    cast = TILE_VOCABULARY * shape.hidden * work.compute_bytes if work.weight_bytes != work.compute_bytes else 0
    return tile + cast + scored * shape.hidden * (2 * work.compute_bytes + 4)


def _forward_bytes(shape: ModelShape, work: Workload, tokens: int, element: int) -> int:
    """A forward pass without gradients: the gated MLP's three tensors and the residual stream; an adapter on the MLP
    adds its float32 input, and its float32 output twice."""
    adapted = any("mlp" in linear.name for linear in shape.adapted)
    mlp = max(3 * element, 2 * element + 8) * shape.intermediate + 4 * shape.hidden if adapted else 0
    return tokens * (max(mlp, 3 * element * shape.intermediate) + 4 * element * shape.hidden)


def _dequantized(shape: ModelShape, work: Workload) -> int:
    return max(shape.linears) * work.compute_bytes if work.quantized else 0


def phases(shape: ModelShape, work: Workload) -> list[Phase]:
    """Return the phases of a step, in order, each with everything that is in memory then."""
    element = work.weight_bytes  # generation runs outside of mixed precision
    reading, sampled = work.sequences * work.prompt, work.sequences * work.length
    cache = kv_cache_bytes(shape, work.sequences, work.length, element)
    coming_and_going = {
        "prefill": {
            "KV cache": kv_cache_bytes(shape, work.sequences, work.prompt, element),
            "activations": _forward_bytes(shape, work, reading, element) + 2 * reading * work.prompt,
            "dequantized": _dequantized(shape, work),
        },
        "decode": {
            "KV cache": cache,
            # A step copies the keys, then the values of each layer to append one token's, and samples afterwards.
            "activations": max(cache // shape.layers // 2, work.sequences * shape.vocab * SAMPLING_BYTES) + 8 * sampled,
            "dequantized": _dequantized(shape, work),
        },
    }
    if work.reference:
        tokens = work.micro_batch * work.length
        coming_and_going["reference"] = {
            "activations": _forward_bytes(shape, work, tokens, work.compute_bytes)
            + work.micro_batch * work.length**2 * (1 + work.compute_bytes),
            "LM head": lm_head_bytes(shape, work, work.micro_batch * work.completion),
            "dequantized": _dequantized(shape, work),
        }
    coming_and_going["update"] = update_bytes(shape, work)
    return [Phase(name, _with_residents(shape, work, parts)) for name, parts in coming_and_going.items()]


def _with_residents(shape: ModelShape, work: Workload, parts: dict[str, int]) -> dict[str, int]:
    return {
        "weights": weight_bytes(shape, work),
        "adapter": adapter_state_bytes(shape, work),
        "vLLM": work.vllm_bytes,
        **parts,
        "context": CONTEXT_BYTES,
        "reserve": int(FRAGMENTATION * sum(parts.values())),
    }
