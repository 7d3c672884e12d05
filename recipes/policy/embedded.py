"""SmolLM2-135M-Instruct as policy: the embedded executor's own GGUF file, read into transformers."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from aflow_ops.executor.embedded import model_path


def load_embedded_policy() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Return the model in float32, free of its quantization, and its tokenizer.

    Raises:
        UsageError: the file is not installed.
    """
    path = model_path()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # The config says that the weights are quantized, which they no longer are: it would refuse to be saved.
    config = type(read.config)(**{k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    return model, tokenizer
