"""What warm starts do alike: a model is taught texts, and takes its place when it is complete."""

from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config, get_quantization_config

from aflow_ops.errors import UsageError
from recipes.backup.open import open_backup
from recipes.policy.embedded import load_embedded_policy
from recipes.policy.generation import end_tokens
from recipes.policy.loading import check_chat_template, with_model_settings
from recipes.policy.tiny import build_tiny_policy, train_tokenizer, untie_embeddings
from recipes.run.config import write_config
from recipes.run.progress import progress_of
from recipes.run.replacing import check_replaceable, in_place_of
from recipes.settings.base_policy import BasePolicyArguments
from recipes.settings.checks import check_trackers
from recipes.settings.chosen import RunConfig


def check_teaching(base: BasePolicyArguments, training: SFTConfig, model: ModelConfig) -> None:
    """Refuse what cannot work before anything is loaded.

    Args:
        base (`BasePolicyArguments`): what is to be taught.
        training (`SFTConfig`): how.
        model (`ModelConfig`): how it is loaded.

    Raises:
        UsageError: says what.
    """
    check_replaceable(Path(training.output_dir))
    check_quantization(model)
    if base.untie_embeddings and model.use_peft:
        raise UsageError("--untie_embeddings with --use_peft: an adapter is saved then, and no output layer")
    check_trackers(training.report_to)
    if training.resume_from_checkpoint:
        raise UsageError("--resume_from_checkpoint: a warm start is short and starts anew; leave the flag out")
    main_process = PartialState().is_main_process
    with TemporaryDirectory() as nowhere, open_backup(base.backup_url, Path(nowhere), main_process=main_process):
        pass  # a URL that cannot work is said now, not after the training


def check_quantization(model: ModelConfig) -> None:
    """Refuse 4 or 8 bits without the package that they need, or without the adapter that alone can train then.

    Raises:
        UsageError: says what is missing.
    """
    if not (model.load_in_4bit or model.load_in_8bit):
        return
    if not model.use_peft:
        raise UsageError("load_in_4bit and load_in_8bit need --use_peft: quantized weights cannot be trained")
    if find_spec("bitsandbytes") is None:
        raise UsageError('a quantized base needs the package bitsandbytes: pip install --editable ".[quantized]"')


def taught_rows(prompts: Sequence[Sequence[Mapping[str, object]]], completions: Sequence[str]) -> Dataset:
    """Return prompts and what is to be answered as TRL's conversational prompt-completion rows."""
    return Dataset.from_dict(
        {
            "prompt": [[dict(message) for message in prompt] for prompt in prompts],
            "completion": [[{"role": "assistant", "content": text}] for text in completions],
        }
    )


def base_policy(
    base: BasePolicyArguments,
    model: ModelConfig,
    dataset: Dataset,
    training: SFTConfig,
    more_texts: Sequence[str] = (),
    whole_words: Collection[str] = (),
) -> tuple[PreTrainedModel | str, PreTrainedTokenizerBase]:
    """Return the model to teach, or the name that TRL loads it by, and its tokenizer; build the tiny one from texts.

    Its tokenizer is made for the messages of the dataset, and for `more_texts`; it keeps `whole_words` apart.
    """
    if base.from_embedded:
        return load_embedded_policy()
    if not base.from_scratch:
        name = model.model_name_or_path
        tokenizer = AutoTokenizer.from_pretrained(name, revision=model.model_revision)
        if training.chat_template_path is None:
            check_chat_template(tokenizer, name)
        return name, tokenizer
    texts = [message["content"] for row in dataset for message in row["prompt"] + row["completion"]]
    tokenizer = train_tokenizer([*texts, *more_texts], base.vocab_size, whole_words)
    tiny = build_tiny_policy(
        tokenizer,
        hidden_size=base.hidden_size,
        num_layers=base.num_layers,
        max_length=max(2048, training.max_length or 0),
        seed=training.seed,
        initializer_range=base.initializer_range,
        copying=base.copying_attention,
    )
    return tiny, tokenizer


def end_at_turns(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """See to it that completions end where the chat template ends a turn, which a base model's need not.

    Qwen2.5's base models, for one, have the template of the instruction-tuned ones and end at `<|endoftext|>` only:
    what they are taught ends with `<|im_end|>`, and they would write on behind it.

    Args:
        model (`PreTrainedModel`): whose generation config is changed.
        tokenizer (`PreTrainedTokenizerBase`): whose `eos_token` is, with a chat template.
    """
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    behind = tokenizer.apply_chat_template(turn, tokenize=False).rpartition("!")[2]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    end = next((token for token in tokenizer.encode(behind, add_special_tokens=False) if token in special), None)
    ends = end_tokens(model, tokenizer)
    if end is None or end in ends:
        return
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    model.config.eos_token_id, model.generation_config.eos_token_id = end, [end, *ends]


def teach(
    dataset: Dataset,
    base: BasePolicyArguments,
    training: SFTConfig,
    model: ModelConfig,
    config: RunConfig,
    more_texts: Sequence[str] = (),
    whole_words: Collection[str] = (),
) -> None:
    """Train, save and back up; the output folder appears only when it is complete.

    Args:
        dataset (`Dataset`): from `taught_rows`.
        base (`BasePolicyArguments`): what is taught, and where it is backed up.
        training (`SFTConfig`): how, and into which folder.
        model (`ModelConfig`): how the model is loaded, and its adapter.
        config (`RunConfig`): what `config.yaml` says.
        more_texts (`Sequence[str]`): that a tokenizer which is made here has to know too.
        whole_words (`Collection[str]`): that such a tokenizer keeps apart (`train_tokenizer`).

    Raises:
        UsageError: the model cannot be loaded.
    """
    output = Path(training.output_dir)
    with in_place_of(output, training) as beside:
        try:
            policy, tokenizer = base_policy(base, model, dataset, training, more_texts, whole_words)
            loaded_by_trl = isinstance(policy, str)
            trainer = SFTTrainer(
                model=policy,
                args=with_model_settings(beside, model) if loaded_by_trl else beside,
                train_dataset=dataset,
                processing_class=tokenizer,
                quantization_config=get_quantization_config(model) if loaded_by_trl else None,
                peft_config=get_peft_config(model),
            )
        except OSError as error:
            raise UsageError(f"--model_name_or_path {model.model_name_or_path}: {error}") from error
        end_at_turns(trainer.model, trainer.processing_class)
        with progress_of(trainer, "warm start", {"loss": "loss {:.3f}"}):
            trainer.train()
        if base.untie_embeddings:
            untie_embeddings(trainer.accelerator.unwrap_model(trainer.model))
        trainer.save_model()
        if PartialState().is_main_process:
            write_config(Path(beside.output_dir), config.script, config.chosen)
    if PartialState().is_main_process:
        with open_backup(base.backup_url, output, wait_seconds=base.backup_wait_seconds) as backup:
            if backup is not None:
                backup.results(trainer.state.global_step)
