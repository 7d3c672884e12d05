"""The layers that a run's values come from, strongest first: flags, the YAML, the GPU class, the defaults."""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from aflow_ops.errors import UsageError
from data.files import unreadable
from recipes.settings.gpus import ChosenGpu, choose_gpu
from recipes.settings.places import CONFIGS, anchored


@dataclass(frozen=True)
class Layers:
    """What a run's values were read from, strongest first: flags, the YAML, the GPU class, the defaults.

    Args:
        flags (`Mapping[str, str]`): what follows each flag on the command line, by name; empty for a bare flag.
        config (`Path`): the YAML.
        values (`Mapping[str, Any]`): what it sets.
        gpu (`ChosenGpu`, *optional*): the GPU class.
    """

    flags: Mapping[str, str]
    config: Path
    values: Mapping[str, Any]
    gpu: ChosenGpu | None

    def origin(self, name: str) -> str:
        """Return where the value of a flag came from: `flag`, the YAML's name, the GPU class, or `default`."""
        if name in self.flags:
            return "flag"
        if name in self.values:
            return self.config.name
        if name in self.class_values:
            return f"GPU class {self.gpu.gpu.name}" if self.gpu else "default"
        return "default"

    @property
    def class_values(self) -> Mapping[str, Any]:
        """The GPU class's values, without its precision where a flag or the YAML chose the other one."""
        values = dict(self.gpu.gpu.values) if self.gpu else {}
        for one, other in (("bf16", "fp16"), ("fp16", "bf16")):
            if self.flags.get(one, str(self.values.get(one, False))).lower() not in ("false", "0", "no", "none"):
                values.pop(other, None)
        return values


def read_layers(argv: list[str], default_config: str | Path, *, with_gpu_class: bool) -> Layers:
    """Take `--config PATH` out of `argv`, read it or the default one, and choose the GPU class.

    Raises:
        UsageError: the YAML cannot be read, or there is no such GPU class.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config", type=Path, default=CONFIGS / default_config)
    known, argv[:] = reader.parse_known_args(argv)
    values = anchored(_read_yaml(known.config), known.config)
    flags = _flags(argv)
    gpu = choose_gpu(flags.get("gpu"), values) if with_gpu_class else None
    return Layers(flags, known.config, values, gpu)


def typed_values(layers: Layers, classes: Sequence[type]) -> dict[str, Any]:
    """Return the YAML's values in their settings' types: argparse converts a default only when it is text.

    Settings of several types, or of none of ours, are left to the library that they are of.

    Raises:
        UsageError: a value of another type; names it.
    """
    settings = {setting.name: (setting, hint) for cls in classes for setting, hint in _hinted(cls)}
    values = dict(layers.values)
    for name, value in values.items():
        if name not in settings:
            continue
        setting, hint = settings[name]
        kinds = [hint]
        if get_origin(hint) in (Union, UnionType):
            kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if value is None and (hint is not kinds[0] or setting.default is None):
            continue
        try:
            values[name] = _typed(value, _kind_of(kinds[0])) if len(kinds) == 1 else value
        except ValueError as error:
            raise UsageError(f"--config {layers.config}: {name}: {value!r} must be {error}") from None
    return values


def _hinted(cls: type) -> list[tuple[Field[Any], Any]]:
    hints = get_type_hints(cls)
    return [(setting, hints[setting.name]) for setting in fields(cls)]


def _kind_of(hint: Any) -> type:
    """`list` for `list[str]`, and `str` for one of several words."""
    origin: Any = get_origin(hint)
    kind: type = str if origin is Literal else origin or hint
    return kind


def _typed(value: Any, kind: type) -> Any:
    """Return a YAML value as what a setting takes; text is left to argparse.

    Raises:
        ValueError: it cannot be that; says what it must be.
    """
    if isinstance(value, str):
        return [value] if kind is list else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is list and not isinstance(value, list):
        raise ValueError("a list")
    if kind is int and not (number and float(value).is_integer()):
        raise ValueError("a whole number")
    if kind is float and not number:
        raise ValueError("a number")
    if kind is bool and not isinstance(value, (bool, int)):
        raise ValueError("true or false")
    if kind is str and not number:
        raise ValueError("text")
    return kind(value) if kind in (int, str) else value


def check_finite(parsed: Sequence[Any], layers: Layers) -> None:
    """Refuse nan and inf: every comparison with nan is false, so limits that are nan would not limit anything.

    Raises:
        UsageError: names the setting.
    """
    for part in parsed:
        for name, value in vars(part).items():
            given = name in layers.flags or name in layers.values
            if given and isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value} must be a finite number")


class _OnceLoader(yaml.SafeLoader):
    """A safe loader that takes each key once: of two values, YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping.

        Raises:
            yaml.YAMLError: a key stands twice.
        """
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.YAMLError(f"{key.value} stands twice, the second time in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except FileNotFoundError:
        raise UsageError(f"--config {path}: no such file; recipes/configs/ has the ones that come with it") from None
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path}: not valid YAML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {unreadable(path, error)}") from None
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise UsageError(f"--config {path}: must be a mapping of flags to values")
    return config


def _flags(argv: Sequence[str]) -> dict[str, str]:
    """Return the word behind each flag; `--no_x` counts as `x`, which is then False."""
    flags: dict[str, str] = {}
    for position, word in enumerate(argv):
        if not word.startswith("--"):
            continue
        name, _, value = word[2:].partition("=")
        name = name.replace("-", "_")
        following = argv[position + 1] if position + 1 < len(argv) else ""
        flags[name] = value or ("" if following.startswith("--") else following)
        if name.startswith("no_"):
            flags[name.removeprefix("no_")] = "False"
    return flags
