"""The memory plan against real tensors on the CPU: parameters, adapters, caches, saved activations and peaks."""

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from aflow_ops.errors import UsageError
from recipes.settings.gpus import gpu_class, gpu_classes
from recipes.settings.parse import parse_arguments
from scripts.plan_memory import as_json, main, parse_command_line, plans
from scripts.planning.arithmetic import (
    TILE_VOCABULARY,
    Workload,
    adapter_state_bytes,
    kv_cache_bytes,
    lm_head_bytes,
    phases,
    saved_by_layer,
    update_bytes,
    weight_bytes,
)
from scripts.planning.measure import load_policy, run_phases, with_adapter
from scripts.planning.plan import Plan, plan
from scripts.planning.shape import ModelShape, read_shape

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EVERYTHING = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
B, S = 4, 64


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, now and at the most; parameters do not count."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.largest: list[tuple[int, torch.dtype]] = []
        self.known = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.largest.append((storage.nbytes(), tensor.dtype))
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return output

    def _freed(self, storage: int, size: int) -> None:
        self.known.discard(storage)
        self.now -= size


def config(layers: int = 3, vocab: int = 300) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=128, intermediate_size=704, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=vocab, tie_word_embeddings=False, max_position_embeddings=512, eos_token_id=1, pad_token_id=0,
        architectures=["Qwen2ForCausalLM"],
    )  # fmt: skip


def work(**changes: Any) -> Workload:
    values: dict[str, Any] = {
        "sequences": 8, "micro_batch": B, "prompt": S, "completion": 0, "weight_bytes": 2, "compute_bytes": 2,
        "quantized": False, "nested": False, "adapter_bytes": 4, "optimizer_bytes": 8, "whole_bytes": 2, "rank": 8,
        "dropout": 0.0, "checkpointing": False, "reference": True, **changes,
    }  # fmt: skip
    return Workload(**values)


def lora(targets: list[str] = ATTENTION, dropout: float = 0.0, whole: list[str] | None = None) -> LoraConfig:
    return LoraConfig(r=8, lora_alpha=8, lora_dropout=dropout, target_modules=targets, modules_to_save=whole)


def shape_of(folder: Path, adapter: LoraConfig, **sizes: int) -> ModelShape:
    config(**sizes).save_pretrained(folder)
    return read_shape(str(folder), adapter)


def policy(adapter: LoraConfig, element: int = 2, **sizes: int) -> PeftModel:
    model = Qwen2ForCausalLM(config(**sizes)).to(torch.bfloat16 if element == 2 else torch.float32)
    adapted = get_peft_model(model, adapter)
    assert isinstance(adapted, PeftModel)
    return adapted


def padded_batch() -> dict[str, torch.Tensor]:
    tokens = torch.randint(2, 300, (B, S))
    attention = torch.ones_like(tokens)
    attention[0, :7] = attention[1, 50:] = 0
    return {"input_ids": tokens, "attention_mask": attention}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("0.5B", 494_032_768), ("1.5B", 1_543_714_304), ("3B", 3_085_938_688), ("7B", 7_615_616_512)],
)
def test_a_published_model_has_its_published_number_of_parameters(name: str, parameters: int) -> None:
    shape = read_shape(f"Qwen/Qwen2.5-{name}-Instruct", lora())
    assert shape.parameters == parameters
    assert "published values" in shape.source or shape.source == "its config.json"


@pytest.mark.parametrize("targets", [ATTENTION, EVERYTHING], ids=["attention", "everything"])
def test_parameters_adapter_and_bytes_are_those_of_the_model_that_is_built(tmp_path: Path, targets: list[str]) -> None:
    shape = shape_of(tmp_path, lora(targets))
    model = policy(lora(targets))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.adapter == trained == shape.layers * sum(8 * (a.inputs + a.outputs) for a in shape.adapted)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert weight_bytes(shape, work()) == sum(p.nbytes for p in frozen)
    head = model.get_base_model().lm_head.weight
    linears = [p.numel() for p in frozen if p.dim() == 2 and p.shape[0] != 300 and p is not head]
    assert sorted(shape.linears) == sorted(linears)


def test_four_bits_cost_half_a_bit_more_and_an_eighth_with_nested_constants(tmp_path: Path) -> None:
    """QLoRA, section 3: 0.5 bits a parameter of block constants, 0.127 when they are quantized themselves."""
    shape = replace(shape_of(tmp_path, lora()), linears=(4096 * 4096,), parameters=4096 * 4096)
    for nested, bits in ((False, 4.5), (True, 4.127)):
        found = weight_bytes(shape, work(quantized=True, nested=nested))
        assert found * 8 / 4096**2 == pytest.approx(bits, abs=5e-4)


@pytest.mark.parametrize("nested", [False, True])
def test_a_quantized_base_has_the_bytes_that_bitsandbytes_makes(tmp_path: Path, nested: bool) -> None:
    pytest.importorskip("bitsandbytes", reason='pip install --editable ".[quantized]"')
    Qwen2ForCausalLM(config()).half().save_pretrained(tmp_path)
    shape = shape_of(tmp_path, lora())
    case = work(quantized=True, nested=nested, sequences=2, micro_batch=2, prompt=12, completion=4)
    model = load_policy(Plan(gpu_class("t4"), lora(), shape, case, ()), torch.device("cpu"))
    states = [state for p in model.parameters() if (state := getattr(p, "quant_state", None)) is not None]
    assert len(states) == len(shape.linears)
    constants = sum(s.absmax.nbytes + (s.state2.absmax.nbytes if s.nested else 0) for s in states)
    assert weight_bytes(shape, case) == constants + sum(p.nbytes for p in model.parameters() if not p.requires_grad)


def test_the_cache_is_the_one_that_generation_fills(tmp_path: Path) -> None:
    shape = shape_of(tmp_path, lora())
    cache = DynamicCache(config=config())
    with torch.no_grad():
        policy(lora())(**padded_batch(), past_key_values=cache, use_cache=True)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kv_cache_bytes(shape, B, S, 2) == real


def saved_bytes(model: PeftModel, mixed: bool) -> int:
    """Bytes of everything that the decoder's forward pass keeps for its backward pass, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        output = model.get_base_model().model(**padded_batch(), use_cache=False)
    del output
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in parameters)


@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("element", [2, 4])
@pytest.mark.parametrize("targets", [ATTENTION, EVERYTHING], ids=["attention", "all"])
def test_a_layer_saves_exactly_what_is_predicted(
    tmp_path: Path, targets: list[str], element: int, dropout: float
) -> None:
    adapter = lora(targets, dropout)
    shape = shape_of(tmp_path, adapter)
    two, three = (saved_bytes(policy(adapter, element, layers=n).train(), mixed=element == 2) for n in (2, 3))
    predicted = saved_by_layer(shape, work(weight_bytes=element, compute_bytes=element, dropout=dropout), B, S)
    casts = shape.adapter // shape.layers * 2 if element == 2 else 0  # the adapter in the precision of autocast
    # Dropout keeps a mask of booleans on CUDA and of floats on the CPU.
    masks = 3 * B * S * sum(linear.inputs for linear in shape.adapted) if dropout else 0
    assert three - two == predicted + casts + masks


def test_with_checkpointing_a_layer_saves_only_its_input() -> None:
    sizes = []
    for layers in (2, 3):
        model = policy(lora(), layers=layers).train()
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()
        sizes.append(saved_bytes(model, mixed=True))
    assert sizes[1] - sizes[0] == B * S * 128 * 2


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("element", [2, 4])
def test_the_peak_of_forward_and_backward_is_the_predicted_one(
    tmp_path: Path, element: int, checkpointing: bool
) -> None:
    shape = shape_of(tmp_path, lora(), layers=6)
    model = policy(lora(), element, layers=6).train()
    if checkpointing:
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()
    with Live(model) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=element == 2):
            loss = model.get_base_model().model(**padded_batch(), use_cache=False).last_hidden_state.float().mean()
        loss.backward()
    case = work(weight_bytes=element, compute_bytes=element, checkpointing=checkpointing)
    measured = live.peak - 4 * shape.adapter  # the adapter's gradients are counted with the adapter
    assert sum(update_bytes(shape, case).values()) == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(
    ("prompt", "completion", "vocab", "targets"),
    [(128, 2, 300, ATTENTION), (128, 2, 300, EVERYTHING), (4, 4, 20_000, ATTENTION), (4, 48, 300, ATTENTION)],
    ids=["prompts", "prompts, MLP adapted", "sampling", "cache"],
)
def test_the_peak_of_generation_is_the_predicted_one(
    tmp_path: Path, prompt: int, completion: int, vocab: int, targets: list[str]
) -> None:
    shape = shape_of(tmp_path, lora(targets), vocab=vocab)
    model = policy(lora(targets), vocab=vocab).eval()
    tokens = torch.randint(2, vocab, (16, prompt))
    attention = torch.ones_like(tokens)
    attention[0, :4] = 0
    with torch.no_grad(), Live(model) as live:
        model.generate(
            input_ids=tokens, attention_mask=attention, do_sample=True, top_k=50, top_p=0.95, temperature=0.7,
            min_new_tokens=completion, max_new_tokens=completion,
        )  # fmt: skip
    found = phases(shape, work(sequences=16, prompt=prompt, completion=completion))
    predicted = max(phase.parts["KV cache"] + phase.parts["activations"] for phase in found if "KV" in str(phase.parts))
    assert predicted == pytest.approx(live.peak, rel=0.08)


def test_the_lm_head_makes_one_tile_of_logits(tmp_path: Path) -> None:
    vocab, scored = 3 * TILE_VOCABULARY, B * 8
    shape = shape_of(tmp_path, lora(), vocab=vocab)
    model = with_adapter(Qwen2ForCausalLM(config(vocab=vocab)).to(torch.bfloat16), lora(), work())
    labels = padded_batch()["input_ids"]
    labels[:, :-8] = -100
    with Live(model) as live, torch.autocast("cpu", torch.bfloat16):
        model(**padded_batch(), labels=labels, fused_lm_head=True)
    logits = [size for size, dtype in live.largest if dtype == torch.bfloat16 and size >= scored * TILE_VOCABULARY * 2]
    # Off CUDA every position is projected, not only the scored ones.
    assert max(logits) == B * (S - 1) * TILE_VOCABULARY * 2
    assert lm_head_bytes(shape, work(), scored) < scored * vocab * 2


def test_the_gradient_of_an_lm_head_that_trains_is_summed_up_in_float32(tmp_path: Path) -> None:
    vocab, case = 20_000, work(prompt=S - 8, completion=8)
    shapes = [shape_of(tmp_path, lora(whole=whole), vocab=vocab) for whole in (None, ["lm_head"])]
    model = with_adapter(Qwen2ForCausalLM(config(vocab=vocab)).to(torch.bfloat16), lora(whole=["lm_head"]), case)
    with Live(model) as live, torch.autocast("cpu", torch.bfloat16):
        model(**padded_batch(), labels=padded_batch()["input_ids"], fused_lm_head=True).log_probs.mean().backward()
    assert (4 * vocab * 128, torch.float32) in live.largest
    without, with_head = (sum(update_bytes(shape, case).values()) for shape in shapes)
    assert with_head - without == 4 * vocab * 128


def planned(*argv: str) -> list[Any]:
    return plans(*parse_command_line(argv))


def test_the_specified_values_fit_their_classes() -> None:
    found = planned("--all")
    assert [item.gpu.name for item in found] == list(gpu_classes())
    for item in found:
        assert item.fits, f"{item.gpu.name}: {item.peak}"
        assert [phase.name for phase in item.phases] == ["prefill", "decode", "reference", "update"]
    small, large = found[0], found[-1]
    assert small.work.quantized and not large.work.quantized
    assert (small.work.sequences, large.work.sequences) == (32, 128)


def test_seven_billion_in_sixteen_bits_do_not_fit_on_a_t4_and_the_plan_says_what_would() -> None:
    (item,) = planned("--gpu", "t4", "--load_in_4bit", "False")
    assert not item.fits
    assert item.headroom < 0
    first = item.knobs()[0]
    assert first.flags.startswith("--load_in_4bit")
    assert first.fits
    (turned,) = planned("--gpu", "t4")
    assert turned.peak.total == pytest.approx(first.peak, rel=0.05)
    assert planned("--gpu", "t4", "--load_in_4bit", "False", "--model", "Qwen/Qwen2.5-0.5B-Instruct")[0].fits


def test_turning_a_knob_gives_the_peak_that_was_promised() -> None:
    (item,) = planned("--gpu", "h100_80gb")
    knob = next(knob for knob in item.knobs() if knob.flags.startswith("--steps_per_generation"))
    (turned,) = planned("--gpu", "h100_80gb", *knob.flags.split(" (")[0].split())
    assert turned.peak.total == knob.peak
    peaks = [knob.peak for knob in item.knobs()]
    assert peaks == sorted(peaks)


def test_colocated_vllm_takes_its_share_and_no_cache_of_ours() -> None:
    (item,) = planned("--gpu", "a100_80gb", "--use_vllm", "--vllm_gpu_memory_utilization", "0.3")
    assert item.phases[0].parts["vLLM"] == int(0.3 * item.gpu.memory_gib * 2**30)
    assert item.work.sequences == 32


def test_json_has_every_class_and_phase(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--gpu", "t4", "--json"])
    found = json.loads(capsys.readouterr().out)
    (row,) = found["plans"]
    assert (row["gpu"], row["fits"], found["parameters"]) == ("t4", True, 7_615_616_512)
    assert row["peak"]["gib"] == max(phase["total"] for phase in row["phases"].values())
    assert as_json(planned("--gpu", "t4"), None) == found


def test_the_page_says_whether_it_fits_and_what_to_turn(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--gpu", "t4", "--load_in_4bit", "False"])
    text = capsys.readouterr().out
    assert "does not fit" in text
    assert '--load_in_4bit (pip install --editable ".[quantized]")' in text
    assert "published values" in text or "its config.json" in text


def test_measuring_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="CUDA"):
        main(["--gpu", "t4", "--measure"])


@pytest.mark.parametrize("whole", [None, ["lm_head"]], ids=["adapter", "adapter and LM head"])
def test_what_is_measured_runs_every_phase_with_all_that_trains(tmp_path: Path, whole: list[str] | None) -> None:
    case = work(sequences=2, micro_batch=2, prompt=12, completion=4, checkpointing=True)
    adapter = lora(whole=whole)
    shape = shape_of(tmp_path, adapter)  # a config without weights: they are random
    cpu = torch.device("cpu")
    model = load_policy(Plan(gpu_class("a100_40gb"), adapter, shape, case, ()), cpu)
    before = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in before.values()) == shape.adapter
    heads = {name: p for name, p in before.items() if "lm_head" in name}
    assert sum(p.numel() for p in heads.values()) == shape.whole == shape.whole_head == (300 * 128 if whole else 0)
    assert {p.dtype for p in before.values()} == {torch.float32, *(p.dtype for p in heads.values())}
    assert {p.dtype for p in (*heads.values(), *model.parameters()) if not p.requires_grad} == {torch.bfloat16}
    expected = sum(p.nbytes for p in before.values())  # the same again for gradients, and twice for Adam's states
    assert adapter_state_bytes(shape, case) == 4 * expected
    assert shape.with_half_the_rank().adapter == (shape.adapter + shape.whole) // 2
    peaks = run_phases(model, case, shape.vocab, cpu, lambda phase: [phase(), 1][1])
    assert list(peaks) == ["generate", "reference", "update"]
    changed = {name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])}
    assert changed & heads.keys() == heads.keys() and changed - heads.keys()


def test_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no-such.*Qwen/Qwen2.5-7B-Instruct"):
        planned("--gpu", "t4", "--model", str(tmp_path / "no-such"))


def test_a_config_for_the_cpu_needs_a_class_to_plan_for() -> None:
    args = parse_arguments("quickstart.yaml", "", [], planning=True)
    with pytest.raises(UsageError, match="--gpu"):
        plan(args.model, args.training, None, 100)
