"""What of a model decides its memory: parameters, layers and widths, read without loading a weight."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, Qwen2Config

from aflow_ops.errors import UsageError

PUBLISHED = Path(__file__).with_name("models.yaml")
_SHAPES: dict[tuple[str, str], "ModelShape"] = {}  # by model and adapter


@dataclass(frozen=True)
class AdaptedLinear:
    """A linear layer that carries a LoRA adapter, by its name inside the decoder layer (`self_attn.q_proj`)."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder with grouped-query attention and a gated MLP, and of the adapter on it.

    Args:
        name (`str`): Hub name or folder.
        source (`str`): where the sizes were read.
        parameters (`int`): of the base model, shared ones once.
        linears (`tuple[int, ...]`): elements of every linear weight that a 4-bit base quantizes (all but the LM head).
        adapter (`int`): parameters that are trained: the adapter's, and those of modules that are trained whole.
        whole (`int`): among these, of the modules that are trained whole beside the adapter (`lora_modules_to_save`).
        whole_head (`int`): among these, of the LM head.
        adapted (`tuple[AdaptedLinear, ...]`): adapted linears of one decoder layer.
        hidden, intermediate, layers, heads, kv_heads, head_dim, vocab (`int`): as in the model's config.
    """

    name: str
    source: str
    parameters: int
    linears: tuple[int, ...]
    adapter: int
    whole: int
    whole_head: int
    adapted: tuple[AdaptedLinear, ...]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    def with_half_the_rank(self) -> "ModelShape":
        """Return the same with a LoRA half as wide; what is trained whole stays."""
        return replace(self, adapter=self.whole + (self.adapter - self.whole) // 2)


def read_shape(name: str, lora: LoraConfig) -> ModelShape:
    """Build the model with its adapter on the meta device, which holds no data, and read its sizes.

    Args:
        name (`str`): Hub name, a folder, or a model of `models.yaml` where the Hub cannot be reached.
        lora (`LoraConfig`): the adapter.

    Raises:
        UsageError: no config for the name, an architecture of another kind, or no layer that the adapter would fit.
    """
    asked = name, repr(lora)
    if asked not in _SHAPES:  # seconds, and the plans for all classes of GPU ask for the same few
        _SHAPES[asked] = _built(name, lora)
    return _SHAPES[asked]


def _built(name: str, lora: LoraConfig) -> ModelShape:
    config, source = read_config(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        base = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        head = model.get_output_embeddings()
        linears = tuple(linear.weight.numel() for linear in base.values() if linear is not head)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        try:
            adapted = get_peft_model(model, deepcopy(lora))  # which writes the model's name into it
        except ValueError as error:
            raise UsageError(f"lora_target_modules: {error}") from error
    return ModelShape(
        name, source, parameters, linears,
        adapter=_trained(adapted),
        whole=sum(_trained(module) for module in adapted.modules() if isinstance(module, ModulesToSaveWrapper)),
        whole_head=_trained(adapted.get_output_embeddings()),
        adapted=_adapted_of_one_layer(adapted),
        **_widths(name, config),
    )  # fmt: skip


@cache
def read_config(name: str) -> tuple[PreTrainedConfig, str]:
    """Return a model's config and where it is from: its folder or the Hub's cache, the published values, or the Hub.

    Raises:
        UsageError: there is none; says what is known.
    """
    published: dict[str, dict[str, Any]] = yaml.safe_load(PUBLISHED.read_text())
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=name in published)
        return config, "its folder" if Path(name).is_dir() else "its config.json"
    except (OSError, ValueError) as error:
        if name in published:
            return Qwen2Config(**published[name]), "published values, scripts/planning/models.yaml"
        raise UsageError(
            f"--model {name}: no config could be read ({str(error).splitlines()[0]}); give a folder with a "
            f"config.json, or one of {', '.join(published)}"
        ) from error


def _widths(name: str, config: PreTrainedConfig) -> dict[str, int]:
    try:
        heads: int = config.num_attention_heads
        return {
            "hidden": config.hidden_size,
            "intermediate": config.intermediate_size,
            "layers": config.num_hidden_layers,
            "heads": heads,
            "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
            "head_dim": getattr(config, "head_dim", None) or config.hidden_size // heads,
            "vocab": config.vocab_size,
        }
    except AttributeError as error:
        raise UsageError(f"--model {name}: not a decoder of the Llama or Qwen2 kind: {error}") from error


def _trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _adapted_of_one_layer(model: nn.Module) -> tuple[AdaptedLinear, ...]:
    marker = ".layers.0."
    return tuple(
        AdaptedLinear(name.split(marker)[1], module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and marker in name
    )
