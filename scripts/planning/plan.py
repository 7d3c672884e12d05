"""Does a run fit on a GPU: the phases of its effective values against the memory, and the knobs that would help."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from peft import LoraConfig
from trl import GRPOConfig, ModelConfig, get_peft_config

from aflow_ops.errors import UsageError
from recipes.settings.gpus import GpuClass
from scripts.planning.arithmetic import GIB, Phase, Workload, phases
from scripts.planning.shape import ModelShape, read_shape

# The held-out evaluation samples at least so many completions at once, with transformers (recipes/training/heldout.py).
EVALUATION_BATCH = 32
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True)
class Knob:
    """A change of the run, and the peak with it."""

    flags: str
    peak: int
    fits: bool


@dataclass(frozen=True)
class Plan:
    """A run on a GPU class, phase by phase."""

    gpu: GpuClass
    lora: LoraConfig
    shape: ModelShape
    work: Workload
    phases: tuple[Phase, ...]

    @property
    def memory(self) -> int:
        """Bytes that the device has."""
        return int(self.gpu.memory_gib * GIB)

    @property
    def peak(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def headroom(self) -> int:
        """Bytes left at the peak; negative when it does not fit."""
        return self.memory - self.peak.total

    @property
    def fits(self) -> bool:
        """Whether the peak is below the device's memory."""
        return self.headroom >= 0

    def knobs(self) -> list[Knob]:
        """Return the changes that lower the peak by a hundredth or more, the one that helps most first."""
        found = []
        for flags, shape, work in _changes(self.shape, self.work):
            peak = max(phase.total for phase in phases(shape, work))
            if peak < 0.99 * self.peak.total:
                found.append(Knob(flags, peak, peak <= self.memory))
        return sorted(found, key=lambda knob: knob.peak)


def plan(model: ModelConfig, training: GRPOConfig, gpu: GpuClass | None, prompt: int) -> Plan:
    """Plan a recipe's run on a GPU class.

    Args:
        model (`ModelConfig`): the policy and its adapter.
        training (`GRPOConfig`): batches, lengths, precision.
        gpu (`GpuClass`, *optional*): the run's, if it has one.
        prompt (`int`): tokens of the longest prompt.

    Raises:
        UsageError: no GPU class, or values that the plan does not cover.
    """
    if gpu is None:
        raise UsageError("this config runs without a GPU (use_cpu: true): name a class with --gpu")
    lora = get_peft_config(model)
    if lora is None or model.load_in_8bit:
        raise UsageError("the plan covers LoRA on an unquantized or a 4-bit base: --use_peft, without --load_in_8bit")
    shape = read_shape(model.model_name_or_path, lora)
    work = workload(model, training, gpu, prompt)
    return Plan(gpu, lora, shape, work, tuple(phases(shape, work)))


def workload(model: ModelConfig, training: GRPOConfig, gpu: GpuClass, prompt: int) -> Workload:
    """Return what a recipe's values ask of the device."""
    base = DTYPE_BYTES[model.dtype or "float32"]
    # A 4-bit base has a bf16 adapter (TRL), except in fp16, whose gradient scaler needs float32
    # (recipes/training/trl_internals.py).
    adapter = 2 if model.load_in_4bit and not training.fp16 else 4
    # PEFT keeps a LoRA in float32, and a module that is trained whole as the base has it.
    whole = adapter if model.load_in_4bit or training.fp16 else base
    colocated = training.use_vllm and training.vllm_mode == "colocate" and not training.vllm_enable_sleep_mode
    generated = 0 if training.use_vllm else training.per_device_train_batch_size * training.steps_per_generation
    return Workload(
        sequences=max(generated, EVALUATION_BATCH),
        micro_batch=training.per_device_train_batch_size,
        prompt=prompt,
        completion=training.max_completion_length,
        weight_bytes=base,
        compute_bytes=2 if training.bf16 or training.fp16 else base,
        quantized=model.load_in_4bit,
        nested=model.use_bnb_nested_quant,
        adapter_bytes=adapter,
        optimizer_bytes=2 if "8bit" in str(training.optim) else 2 * adapter,
        whole_bytes=whole,
        rank=model.lora_r,
        dropout=model.lora_dropout,
        checkpointing=bool(training.activation_checkpointing),
        reference=training.beta != 0,
        liger=training.use_liger_kernel,
        vllm_bytes=int(training.vllm_gpu_memory_utilization * gpu.memory_gib * GIB) if colocated else 0,
    )


def _changes(shape: ModelShape, work: Workload) -> Iterator[tuple[str, ModelShape, Workload]]:
    """Yield every knob that is still there to turn."""
    if work.vllm_bytes:
        yield "--vllm_mode server (sampling on another GPU)", shape, replace(work, vllm_bytes=0)
    elif work.sequences > EVALUATION_BATCH:
        fewer = max(EVALUATION_BATCH, work.sequences // 2)
        yield (
            f"--steps_per_generation {max(1, fewer // work.micro_batch)} (completions in more, smaller lots)",
            shape, replace(work, sequences=fewer),
        )  # fmt: skip
    if not work.checkpointing:
        yield "--activation_checkpointing true (a third slower)", shape, replace(work, checkpointing=True)
    if not work.quantized:
        quantized = replace(work, quantized=True, adapter_bytes=2, optimizer_bytes=4, whole_bytes=2)
        yield '--load_in_4bit (pip install --editable ".[quantized]")', shape, quantized
    elif not work.nested:
        yield "--use_bnb_nested_quant", shape, replace(work, nested=True)
    if work.micro_batch > 1:
        half = work.micro_batch // 2
        flags = (
            f"--per_device_train_batch_size {half}, and --gradient_accumulation_steps times {work.micro_batch / half:g}"
        )
        yield flags, shape, replace(work, micro_batch=half)
    if work.completion > 256:
        half = work.completion // 2
        yield f"--max_completion_length {half}", shape, replace(work, completion=half)
    if work.rank > 8:
        half = work.rank // 2
        yield f"--lora_r {half} --lora_alpha {half}", shape.with_half_the_rank(), replace(work, rank=half)
    if not work.liger:
        yield '--use_liger_kernel (pip install --editable ".[liger]")', shape, replace(work, liger=True)
