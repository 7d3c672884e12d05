"""The top of the page and its end: the key numbers, and which files they are from."""

from collections.abc import Mapping
from typing import Any

from scripts.reporting.collect import RunFiles
from scripts.reporting.elements import Cell, Table
from scripts.reporting.formatting import dollars, file_size, shown, signed_interval
from scripts.reporting.reading import mapping, number, one_line
from scripts.reporting.rows import RowsReader

Tile = tuple[str, str, str]

WHAT_A_FILE_SHOWS = {
    "rollouts.jsonl": "rewards by domain, operator use, the best and worst workflows and their traces",
    "metrics.csv": "entropy, KL and zero-signal groups over steps",
    "heldout.jsonl": "held-out reward before and after with intervals",
    "rows.jsonl": "graded rows of an evaluation",
    "summary.json": "fixed baselines, seconds by phase and executor totals",
    "config.yaml": "the settings that the run was started with",
    "adapter_config.json": "LoRA configuration",
    "README.md": "the model card, with the versions that trained it",
    "training_args.bin": "TRL's arguments; a pickle, which is code, so it is not opened",
}
EVALUATION_FILES = ("rows.jsonl", "summary.json")


def tiles(run: RunFiles) -> list[Tile]:
    """Return the key numbers as (label, value, remark)."""
    summary = run.summary or {}
    executor = mapping(summary.get("executor")) or summary
    return [
        *_heldout_tile(mapping(summary.get("heldout"))),
        *_evaluation_tiles(summary),
        *_rollout_tiles(run.rollouts),
        *_executor_tiles(executor),
    ]


def _heldout_tile(heldout: Mapping[str, Any]) -> list[Tile]:
    if number(heldout.get("after")) is None:
        return []
    gain = f"gain {shown(heldout.get('gain'), '+.3f')}, 95 % interval {signed_interval(heldout.get('gain_ci95'))}"
    value = f"{shown(heldout.get('before'), '.3f')} → {shown(heldout.get('after'), '.3f')}"
    return [("held-out reward", value, f"{gain}, {shown(heldout.get('n'))} problems")]


def _evaluation_tiles(summary: Mapping[str, Any]) -> list[Tile]:
    if number(summary.get("reward")) is None:
        return []
    remark = f"{shown(summary.get('n'))} problems, {shown(summary.get('valid'), '.0%')} valid workflows"
    at_k = [(one_line(k, 4), value) for k, value in list(mapping(summary.get("pass_at_k")).items())[:8]]
    known = ", ".join(f"pass@{k} {shown(value, '.3f')}" for k, value in at_k if number(value) is not None)
    return [
        ("mean reward", shown(summary.get("reward"), ".3f"), remark),
        ("correct", shown(summary.get("correct"), ".0%"), known),
    ]


def _rollout_tiles(rollouts: RowsReader | None) -> list[Tile]:
    if rollouts is None or not rollouts.rows:
        return []
    totals = rollouts.totals.all
    bins = rollouts.steps.items()
    remark = f"steps {bins[0][0]:,} to {bins[-1][0] + rollouts.steps.width - 1:,}" if bins else "without steps"
    return [
        ("training rollouts", f"{rollouts.rows:,}", remark),
        ("valid workflows", f"{totals.valid / totals.rollouts:.0%}", "of all training rollouts"),
    ]


def _executor_tiles(executor: Mapping[str, Any]) -> list[Tile]:
    calls, hits = number(executor.get("calls")), number(executor.get("cache_hits")) or 0.0
    if calls is None:
        return []
    return [
        ("executor calls", shown(calls - hits), f"and {shown(hits)} from the cache"),
        ("executor cost", dollars(number(executor.get("cost_usd"))), f"{shown(executor.get('tokens'))} tokens"),
    ]


def files_table(run: RunFiles) -> Table:
    """List what is in the folder, and what of it could not be read."""
    readers = {"rollouts.jsonl": run.rollouts, "heldout.jsonl": run.heldout, "rows.jsonl": run.rows}
    objects = {"summary.json": run.summary, "adapter_config.json": run.adapter, "config.yaml": run.config}
    rows = []
    for name, size in run.present.items():
        reader, remark = readers.get(name), "read"
        if reader is not None:
            remark = f"{reader.rows:,} rows" + (f", {reader.unreadable:,} unreadable lines" * bool(reader.unreadable))
        elif name in objects and objects[name] is None:
            remark = "not plain settings: ignored" if name == "config.yaml" else "not a JSON object: ignored"
        elif name == "metrics.csv" and run.metrics is not None:
            remark = f"{run.metrics.rows:,} rows" + ", then no CSV any more" * run.metrics.broken
        elif name == "training_args.bin":
            remark = "not opened: a pickle is code"
        rows.append([Cell(name), Cell(file_size(size), style="number"), Cell(remark)])
    return Table("", ("file", "size", "in it"), rows)


def missing_files(run: RunFiles) -> list[tuple[str, str]]:
    """Return (file, what it would show) of the files that such a folder usually has and this one has not."""
    training = [name for name in WHAT_A_FILE_SHOWS if name != "rows.jsonl"]
    expected = EVALUATION_FILES if run.is_evaluation else training
    return [(name, WHAT_A_FILE_SHOWS[name]) for name in expected if name not in run.present]
