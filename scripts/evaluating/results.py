"""What an evaluation leaves: rows.jsonl, summary.json and a table; from one run or merged from its shards."""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_ops.errors import InfraError, UsageError
from aflow_ops.executor import ExecutorConfig, ExecutorUsage
from aflow_ops.terminal import printable
from data.files import write_atomically
from rewards.evaluation import DEFAULT_PASS_K, summarize_rows
from scripts.evaluating.journal import Row
from scripts.evaluating.shards import MANIFEST, Shard, read_shards, write_manifest


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the rows do not hold, for they would be the same tomorrow.

    Args:
        paid (`ExecutorUsage`): what all starts together paid the executor.
        cache (`Mapping[str, int]`, *optional*): statistics of its cache.
        seconds (`Mapping[str, float]`): of start-up and run.
        own_seconds (`Sequence[float]`): of every workflow, sorted.
    """

    paid: ExecutorUsage
    cache: Mapping[str, int] | None
    seconds: Mapping[str, float]
    own_seconds: Sequence[float]


def finished_before(folder: Path, facts: str) -> bool:
    """Whether the folder has the results of this very evaluation, all rows graded; shows them then.

    Raises:
        UsageError: the folder is a training run's.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        summary = None
    if not isinstance(summary, dict) or "fingerprint" not in summary:
        raise UsageError(
            f"--output {folder}: its summary.json is not of an evaluation and would be lost; choose another folder"
        )
    if summary["fingerprint"] != facts:
        print(f"{folder}/ has another evaluation, which this one replaces when it is done", file=sys.stderr)
        return False
    if summary["outcomes"]["infra_error"] or not (folder / "rows.jsonl").is_file():
        return False
    print(f"{folder}/ has this evaluation already; another --output runs it again", file=sys.stderr)
    show(summary, folder)
    return True


def reproducible(row: Row, config: ExecutorConfig) -> Row:
    """Return a row without what depends on the day: wall times, and what the cache saved.

    Costs are by the price table, whether paid or not. So replaying an evaluation, or one that was killed and went on,
    gives the same file, byte for byte; what was really paid and how long it took is in the summary.
    """
    if row["trace"] is None:
        return row
    clock = ("seconds", "lost_seconds", "cached")
    trace = {name: value for name, value in row["trace"].items() if name not in clock}
    calls = [{name: value for name, value in call.items() if name not in clock} for call in trace["calls"]]
    for call in (*calls, trace):
        call["cost_usd"] = config.price(call["prompt_tokens"], call["completion_tokens"])
    return {**row, "trace": {**trace, "calls": calls}}


def own_seconds(rows: Sequence[Row]) -> list[float]:
    """Return the workflows' own seconds, without what they waited for us, sorted."""
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    return sorted(trace["seconds"] - trace["lost_seconds"] for trace in traces)


def latencies(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return the median and the 95th percentile of sorted seconds."""
    if not seconds:
        return {"p50": None, "p95": None}
    return {"p50": seconds[len(seconds) // 2], "p95": seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]}


def summary_of(rows: Sequence[Row], pass_k: Sequence[int] | None, measured: Measured, facts: str) -> dict[str, Any]:
    """Return the summary of reproducible rows.

    Args:
        rows (`Sequence`): from `reproducible`.
        pass_k (`Sequence[int]`, *optional*): the k of pass@k.
        measured (`Measured`): what they do not hold.
        facts (`str`): fingerprint of the evaluation.
    """
    calls = sum(call["replies"] for row in rows if row["trace"] is not None for call in row["trace"]["calls"])
    return {
        **summarize_rows(rows, pass_k or DEFAULT_PASS_K),
        "cost_usd": measured.paid.cost_usd,
        "calls": calls,
        "cache_hits": max(0, calls - measured.paid.calls),
        "cache": measured.cache,
        "seconds": dict(measured.seconds),
        "latency_seconds": latencies(measured.own_seconds),
        "fingerprint": facts,
    }


def write_files(folder: Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Write rows.jsonl and summary.json."""
    with write_atomically(folder / "rows.jsonl") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with write_atomically(folder / "summary.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")


def tell(rows: Sequence[Row], summary: Mapping[str, Any], folder: Path) -> None:
    """Print the table, and what most often kept a row from having a workflow.

    Raises:
        InfraError: every run failed through no fault of a workflow's.
    """
    show(summary, folder)
    reasons = Counter(row["invalid"] for row in rows if row["invalid"])
    if reasons:
        reason, _ = reasons.most_common(1)[0]
        print(
            f"{reasons.total()} of {len(rows)} rows have no valid workflow, most often: {printable(reason)}",
            file=sys.stderr,
        )
    if rows and all(row["reward"] is None for row in rows):
        raise InfraError(f"nothing could be graded: {rows[0]['infra_error']}; the same command tries again")


def seal_shard(folder: Path, shard: Shard, whole: str, settings: Mapping[str, Any], measured: Measured) -> None:
    """Leave what `merge` needs of a finished shard.

    Args:
        folder (`Path`): with its files.
        shard (`Shard`): which part it is.
        whole (`str`): fingerprint of the evaluation that it is a part of.
        settings (`Mapping[str, Any]`): by flag.
        measured (`Measured`): of this part.
    """
    write_manifest(folder, ["rows.jsonl"], shard, whole, settings, measured=dataclasses.asdict(measured))


def merge(folders: Sequence[Path], output: Path) -> None:
    """Write what one run would have left of the evaluation whose shards are given.

    Rows are the same, byte for byte. Payments are added; `seconds` and `cache` are the largest of any shard.

    Args:
        folders (`Sequence[Path]`): the shards' `--output` folders, in any order.
        output (`Path`): where the whole goes.

    Raises:
        UsageError: they are not all shards of one evaluation; says which.
    """
    for name in _candidates(folders):
        shards = read_shards([folder / name for folder in folders])
        settings, facts = shards[0][1]["settings"], shards[0][1]["facts"]
        if finished_before(output / name, facts):
            continue
        rows = [
            json.loads(line)
            for folder, _ in shards
            for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        measured = _added([manifest["measured"] for _, manifest in shards])
        summary = summary_of(rows, settings["pass_k"], measured, facts)
        write_files(output / name, rows, summary)
        tell(rows, summary, output / name)


def _candidates(folders: Sequence[Path]) -> list[str]:
    """Names of the folders in the shards' ones, one a candidate; `""` where there is one candidate only."""
    found = {folder: sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}")) for folder in folders}
    names = list(found.values())
    if not any(names):
        return [""]
    for folder, own in found.items():
        if missing := sorted({name for each in names for name in each} - {*own}):
            raise UsageError(f"--merge: {folder} has no finished shard of {', '.join(missing)}")
    return names[0]


def _added(parts: Sequence[Mapping[str, Any]]) -> Measured:
    caches = [part["cache"] for part in parts if part["cache"] is not None]
    return Measured(
        paid=sum((ExecutorUsage(**part["paid"]) for part in parts), ExecutorUsage()),
        cache={name: max(cache[name] for cache in caches) for name in caches[0]} if caches else None,
        seconds={name: max(part["seconds"][name] for part in parts) for name in parts[0]["seconds"]},
        own_seconds=sorted(seconds for part in parts for seconds in part["own_seconds"]),
    )


def show(summary: Mapping[str, Any], output: Path) -> None:
    """Print the summary as a table."""
    low, high = summary["reward_ci95"] or (0.0, 0.0)
    table = Table(title=f"{output.name}: {summary['n']} problems", title_justify="left")
    for column in ("", "problems", "reward", "correct", "valid"):
        table.add_column(column, justify="left" if not column else "right")
    for name, part in [*summary["by_domain"].items(), ("all", summary)]:
        means = ["-" if part[key] is None else f"{part[key]:.3f}" for key in ("reward", "correct", "valid")]
        table.add_row(name, str(part["n"]), *means)
    metrics = [
        f"{source} {name} {value['mean']:.3f} [{value['ci95'][0]:.3f}, {value['ci95'][1]:.3f}]"
        for source, values in summary["metrics"].items()
        for name, value in values.items()
    ]
    passes = [f"pass@{k} {value:.3f}" for k, value in summary["pass_at_k"].items()]
    console = Console()
    console.print(table)
    for line in (
        f"reward 95% interval [{low:.3f}, {high:.3f}]; " + "; ".join([*metrics, *passes]),
        f"outcomes {summary['outcomes']}; ${summary['cost_usd']:.4f} paid; {summary['calls']} executor calls, "
        f"{summary['cache_hits']} from the cache; rows and summary in {output}/",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
