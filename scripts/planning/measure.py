"""The phases of a plan, really run: generate, reference, update."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl.trainer.utils import add_fused_lm_head

from aflow_ops.errors import UsageError
from recipes.training.trl_internals import train_in_float32
from scripts.planning.arithmetic import Workload
from scripts.planning.plan import Plan
from scripts.planning.shape import read_config


@dataclass(frozen=True)
class Measured:
    """Peaks in bytes by phase, the CUDA context included, and the device they were measured on."""

    device: str
    peaks: dict[str, int]


def measure(plan: Plan) -> Measured:
    """Run the plan's phases on this machine's GPU, with random tokens.

    Raises:
        UsageError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UsageError("--measure runs the phases on a GPU and needs CUDA; without it, leave --measure out")
    device = torch.device("cuda")
    policy = load_policy(plan, device)
    context = _context_bytes()

    def peak_of(phase: Callable[[], None]) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        phase()
        torch.cuda.synchronize()
        peak: int = torch.cuda.max_memory_reserved() + context
        return peak

    return Measured(torch.cuda.get_device_name(), run_phases(policy, plan.work, plan.shape.vocab, device, peak_of))


def _context_bytes() -> int:
    free, total = torch.cuda.mem_get_info()
    context: int = total - free - torch.cuda.memory_reserved()
    return context


def load_policy(plan: Plan, device: torch.device) -> Any:
    """Load the base model with its adapter as TRL does; random weights where the Hub cannot be reached."""
    work, dtype = plan.work, torch.bfloat16 if plan.work.weight_bytes == 2 else torch.float32
    if plan.work.weight_bytes == 2 and not plan.gpu.needs_bf16:
        dtype = torch.float16
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=work.nested,
    )
    try:
        base = AutoModelForCausalLM.from_pretrained(
            plan.shape.name,
            dtype=dtype,
            device_map=device,
            quantization_config=quantization if work.quantized else None,
        )
    except OSError as error:
        if work.quantized:
            raise UsageError(f"--measure of a 4-bit base needs its weights: {plan.shape.name}: {error}") from error
        with device:
            base = AutoModelForCausalLM.from_config(read_config(plan.shape.name)[0], dtype=dtype)
    return with_adapter(base, deepcopy(plan.lora), work)


def with_adapter(base: Any, lora: LoraConfig, work: Workload) -> Any:
    """Add the adapter, in the precision that a run trains it in, checkpointing and TRL's fused LM head."""
    policy = get_peft_model(base, lora)
    if work.checkpointing:
        policy.activation_checkpointing_enable()
        policy.enable_input_require_grads()
    if work.whole_bytes == 4:
        train_in_float32(policy)
    elif work.quantized:
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    add_fused_lm_head(policy.get_base_model(), outputs=("log_probs", "entropy"))
    return policy


def run_phases(
    policy: Any, work: Workload, vocab: int, device: torch.device, peak_of: Callable[[Callable[[], None]], int]
) -> dict[str, int]:
    """Run update (first, so that gradients and optimizer state exist as in a run), generate and reference.

    Args:
        policy: from `with_adapter`.
        work (`Workload`): batch sizes and lengths.
        vocab (`int`): tokens are drawn from it.
        device (`torch.device`): where the policy is.
        peak_of: runs a phase and returns the bytes that it needed.

    Returns:
        `dict[str, int]`: peaks by phase, in the order of a training step.
    """
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    half = next((p.dtype for p in policy.parameters() if p.dtype in (torch.float16, torch.bfloat16)), torch.bfloat16)
    mixed = torch.autocast(device.type, half, enabled=work.compute_bytes == 2)

    def forward() -> torch.Tensor:
        tokens = torch.randint(vocab, (work.micro_batch, work.length), device=device)
        attention = torch.ones_like(tokens)
        attention[0, : min(8, work.prompt - 1)] = 0  # padding, as in a real batch
        labels = tokens.clone()
        labels[:, : work.prompt] = -100
        with mixed:
            log_probs: torch.Tensor = policy(
                input_ids=tokens, attention_mask=attention, labels=labels, fused_lm_head=True
            ).log_probs
        return log_probs

    def update() -> None:
        policy.train()
        forward().mean().neg().backward()
        optimizer.step()

    def reference() -> None:
        with torch.no_grad(), policy.disable_adapter():
            forward()

    def generate() -> None:
        policy.eval()
        tokens = torch.randint(vocab, (work.sequences, work.prompt), device=device)
        with torch.no_grad():
            policy.generate(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=True, top_p=0.95, top_k=50,
                min_new_tokens=work.completion, max_new_tokens=work.completion,
            )  # fmt: skip

    update()
    peaks = {"generate": peak_of(generate)}
    if work.reference:
        peaks["reference"] = peak_of(reference)
    return {**peaks, "update": peak_of(update)}
