"""What would go wrong later, said before anything is loaded or paid."""

from importlib.util import find_spec
from pathlib import Path

from aflow_ops.errors import UsageError
from recipes.settings.parse import Arguments
from recipes.settings.rehearsal import rehearse
from recipes.training.trainer import WorkflowGRPOTrainer


def check_domains(trainer_class: type[WorkflowGRPOTrainer], args: Arguments) -> None:
    """Refuse a domain mix that the recipe is not for.

    Raises:
        UsageError: names the domain and the recipe that takes it.
    """
    for domain, share in args.recipe.mix.items():
        if share > 0 and domain not in trainer_class.domains:
            raise UsageError(
                f"domain_mix={args.recipe.domain_mix!r}: this recipe is for {', '.join(trainer_class.domains)} only; "
                f"use recipes/grpo_{domain}.py, or recipes/grpo_mixed.py for several"
            )


def check_requirements(args: Arguments) -> None:
    """Look for the optional packages that the values need, and for the warm start's YAML.

    Raises:
        UsageError: names what is missing and how to get it.
    """
    wanted = {
        "bitsandbytes": (args.model.load_in_4bit or args.model.load_in_8bit, "load_in_4bit", "quantized"),
        "vllm": (args.training.use_vllm, "use_vllm", "vllm"),
        "liger_kernel": (args.training.use_liger_kernel, "use_liger_kernel", "liger"),
    }
    for package, (needed, flag, extra) in wanted.items():
        if needed and find_spec(package) is None:
            raise UsageError(
                f'{flag} ({args.layers.origin(flag)}) needs the package {package}: pip install --editable ".[{extra}]"'
            )
    rehearse(args.model, args.training)
    config = args.recipe.warm_start_config
    if config not in (None, "none") and not Path(config).is_file():
        raise UsageError(f"warm_start_config: {config} does not exist")
