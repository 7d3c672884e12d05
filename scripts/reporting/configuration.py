"""The section on how a run was configured, how long it took, and which versions trained it."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from scripts.reporting.collect import RunFiles
from scripts.reporting.elements import Cell, Section, Table
from scripts.reporting.formatting import duration
from scripts.reporting.reading import mapping, number, one_line

PACKAGES = ("trl", "transformers", "torch", "peft")
SUMMARY_KEYS = ("prompt_style", "executor", "latency_seconds", "outcomes", "pass_at_k")
MAX_VALUES = 100
STATE_KEYS = ("global_step", "max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "save_steps")


def configuration_section(run: RunFiles) -> Section:
    """Configuration and versions, as far as the folder tells."""
    seconds = mapping((run.summary or {}).get("seconds"))
    phases = [
        [Cell(one_line(name, 40)), Cell(duration(number(value)), number(value))]
        for name, value in list(seconds.items())[:20]
    ]
    settings = _values("Settings (config.yaml)", run.config, run.config or (), "Those that are not the defaults.")
    summary = _values("summary.json", run.summary, SUMMARY_KEYS)
    adapter = _values("adapter_config.json", run.adapter, run.adapter or ())
    state = _values("Last checkpoint (trainer_state.json)", run.trainer_state, STATE_KEYS)
    last = "These times and the cache hits are of the last start."
    times = Table("Wall time by phase", ("phase", "time"), phases, last)
    tables = [settings, times, summary, state, adapter, _versions(run)]
    told = settings.rows or summary.rows or adapter.rows
    note = "" if told else "The folder holds no configuration file that can be read."
    return Section("configuration", "Configuration and versions", note, tables=tables)


def _values(title: str, values: Mapping[str, Any] | None, keys: Iterable[str], caption: str = "") -> Table:
    """List the keys that have a value, objects one level deep, at most `MAX_VALUES`."""
    found: list[tuple[str, Any]] = []
    for key in keys:
        value = (values or {}).get(key)
        inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, Mapping) else {key: value}
        found += [(name, item) for name, item in inner.items() if item not in (None, "", {}, [])]
    if len(found) > MAX_VALUES:
        caption = f"{caption} {len(found) - MAX_VALUES:,} more are not shown.".strip()
    rows = [[Cell(one_line(name, 60)), Cell(_listed(item), style="value")] for name, item in found[:MAX_VALUES]]
    return Table(title, ("key", "value"), rows, caption)


def _listed(value: Any) -> str:
    """Return a value in one line, a list of texts without brackets and quotes."""
    plain = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return one_line(", ".join(value) if plain else value, 200)


def _versions(run: RunFiles) -> Table:
    """Versions that trained the model where a file says them, beside those that wrote this report."""
    told = versions_of_card(run.card)
    peft = (run.adapter or {}).get("peft_version")
    if isinstance(peft, str):
        told.setdefault("peft", one_line(peft, 30))
    names = dict.fromkeys((*PACKAGES, *sorted(told)))
    rows = [[Cell(name), Cell(told.get(name, "no file says")), Cell(_installed(name))] for name in names]
    return Table("Versions", ("package", "of the run", "of this report"), rows)


def versions_of_card(card: str) -> dict[str, str]:
    """Read the model card's list of framework versions, `- TRL: 1.16.0` or `- PEFT 0.21.2`."""
    _, found, listed = card.partition("Framework versions")
    lines = re.findall(r"^\s*-\s*([A-Za-z][\w-]{0,29}):?\s+(\d[\w.+-]{0,29})\s*$", listed[:2_000], re.MULTILINE)
    names = {"pytorch": "torch"}
    return {names.get(name.lower(), name.lower()): value for name, value in lines} if found else {}


def _installed(package: str) -> str:
    if package not in PACKAGES:
        return "-"
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
