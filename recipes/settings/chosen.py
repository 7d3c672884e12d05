"""The settings of a run that are not defaults, as plain values: what `config.yaml` has."""

import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any

# What belongs to one start of a run and not to the run: where it is pushed or backed up, what it was resumed from.
_OF_THE_START = frozenset({"push_to_hub", "resume_from_checkpoint", "backup_url", "backup_wait_seconds", "dry_run"})
# Settings without which a policy cannot be used or judged; named even at their defaults, which may change.
ALWAYS = frozenset({"prompt_style", "sources"})
# Libraries compute these from other settings, and refuse or would override some of them when they are given.
_COMPUTED = frozenset({"accelerator_config", "generation_batch_size", "pad_to_multiple_of"})


def effective_config(*parts: Any, always: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the settings of parsed dataclasses that differ from the classes' defaults.

    Args:
        parts: instances of the argument classes, as `parse_arguments` returns them.
        always (`frozenset[str]`): settings to name even at their defaults.

    Returns:
        `dict[str, Any]`: plain values by flag, in the order of the fields.
    """
    config = {name: value for part in parts for name, value in _changed(part, always)}
    if config.get("steps_per_generation") == config.get("gradient_accumulation_steps", 1):
        config.pop("steps_per_generation", None)  # what it is when nobody sets it
    return config


def _changed(part: Any, always: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for setting in dataclasses.fields(part):
        name = setting.name
        if not setting.init or name in _OF_THE_START | _COMPUTED or name.startswith("hub_"):
            continue
        value = _plain(getattr(part, name))
        default = setting.default
        if setting.default_factory is not dataclasses.MISSING:
            default = setting.default_factory()
        if name == "report_to" and value == []:
            value = "none"  # transformers' own reading of "none" is a list without trackers
        if name == "debug" and value == []:
            value = ""
        if name in always or value != _plain(default):
            yield name, value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
