"""The settings of a run as plain values: what `config.yaml` says."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

# What belongs to one start of a run and not to the run: where it is pushed or backed up, what it was resumed from.
_OF_THE_START = frozenset({"push_to_hub", "resume_from_checkpoint", "backup_url", "backup_wait_seconds", "dry_run"})
# Settings without which a policy cannot be used or judged; named even at their defaults, which may change.
_ALWAYS = frozenset({"prompt_style", "sources"})
# Libraries compute these from other settings, and refuse or would override some of them when they are given.
_COMPUTED = frozenset({"accelerator_config", "generation_batch_size", "pad_to_multiple_of"})


@dataclass(frozen=True)
class RunConfig:
    """Every setting of a run, as it was told and at its default.

    Args:
        script (`str`): the recipe's file.
        values (`Mapping[str, Any]`): by flag, in the order of the fields.
        defaults (`Mapping[str, Any]`): the classes' own, by flag.
        always (`frozenset[str]`): settings to name even at their defaults.
    """

    script: str
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    always: frozenset[str]

    @classmethod
    def of(cls, script: str, *parts: Any, always: frozenset[str] = frozenset()) -> "RunConfig":
        """Return the config of a run.

        Args:
            script (`str`): the recipe's file.
            parts: its parsed settings, each a dataclass.
            always (`frozenset[str]`): settings to name even at their defaults, beside prompt style and sources.
        """
        values, defaults = {}, {}
        for part in parts:
            for name, value, default in _plain_settings(part):
                values[name], defaults[name] = value, default
        return cls(script, values, defaults, _ALWAYS | always)

    @property
    def chosen(self) -> dict[str, Any]:
        """What is not a default, or named always."""
        return self.named(self.always)

    def named(self, always: frozenset[str]) -> dict[str, Any]:
        """Return what is not a default, or among `always`."""
        named = {name: value for name, value in self.values.items() if name in always or value != self.defaults[name]}
        if named.get("steps_per_generation") == named.get("gradient_accumulation_steps", 1):
            named.pop("steps_per_generation", None)  # what it is when nobody sets it
        return named


def _plain_settings(part: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, value and default of a dataclass's settings."""
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
        yield name, value, _plain(default)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
