"""The study's page: the quickstart run by run, with every seed's curve; other settings in means."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, median_low
from typing import Any

from data.files import write_atomically
from recipes.run.routers import ROUTERS
from rewards.statistics import bootstrap_mean
from scripts.studying.rows import ENOUGH, StudyRow
from scripts.studying.settings import HARDER, SMOLLM2

WINDOW = 5  # steps of the plot's moving average
SHOWN = "quickstart"
REPEATED = "wa_grpo_k8"  # the quickstart again, beside the settings compared
_TITLES = {SHOWN: "The quickstart, run by run", SMOLLM2: "A pretrained policy: SmolLM2-135M-Instruct"}

_HEAD = """\
# Does it learn every time?

`make bench-learning` wrote this page from `rows.jsonl`: one row a run of the recipe, with its commit and the hash of
its settings. The settings were tuned on seeds from 100 up, and the quickstart's also on what its seeds 0 to 23 had
shown with earlier settings; all seeds here ran for the first time. A run's seed draws its problems, its warm start and
its samples. Rewards are on held-out problems, in [0, 1]; *best fixed* is the best of twelve fixed workflows on the same
problems, chosen for each domain with hindsight. Seconds are wall time, whatever else the machine did.
"""


def write_page(folder: Path, rows: Sequence[StudyRow]) -> None:
    """Write `README.md` and `curves.png` into a folder.

    Args:
        folder (`Path`): it is created.
        rows (`Sequence[StudyRow]`): at least one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_HEAD]
    for setting, title in _TITLES.items():
        shown = sorted((row for row in rows if row.setting == setting), key=lambda row: row.seed)
        if shown:
            plot = folder / ("curves.png" if setting == SHOWN else f"curves_{setting}.png")
            plot_curves(plot, shown)
            parts.append(_run_by_run(shown, title, plot.name))
    harder = sorted((row for row in rows if row.setting == HARDER), key=lambda row: row.seed)
    if harder:
        parts.append(_harder(harder))
    names = sorted({row.setting for row in rows} - {HARDER, SMOLLM2})
    others = {name: [row for row in rows if row.setting == name] for name in names}
    if set(others) - {SHOWN}:
        parts.append(_comparison(others))
    with write_atomically(folder / "README.md") as file:
        file.write("\n".join(parts))


def median_row(rows: Sequence[StudyRow]) -> StudyRow:
    """Return the run with the median held-out reward after training; the lower one of an even number."""
    middle = median_low(row.after for row in rows)
    return next(row for row in rows if row.after == middle)


def _run_by_run(rows: Sequence[StudyRow], title: str, plot: str) -> str:
    domains = sorted(rows[0].domains)
    columns = ["seed", "before", "after", "gain, 95 % interval", *domains, "seconds", "commit"]
    lines = [f"## {title}", "", _row(columns), _row(["---"] * len(columns))]
    for row in rows:
        low, high = row.gain_ci95
        seconds = f"{sum(row.seconds.values()):.0f}" + (" (empty cache)" if row.empty_cache else "")
        gain = f"{row.after - row.before:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells = [f"{row.before:.3f}", f"**{row.after:.3f}**", gain, *(_cell(row, domain) for domain in domains)]
        lines.append(_row([str(row.seed), *cells, seconds, f"`{row.commit}`"]))
    return "\n".join(
        [
            *lines,
            "",
            "Domains: before → after (best fixed).",
            "",
            *(_of_all(rows) if len(rows) > 1 else _of_one(rows[0])),
            "",
            f"![Training reward of every seed]({plot})",
            "",
        ]
    )


def _of_all(rows: Sequence[StudyRow]) -> list[str]:
    return [
        f"Runs: {len(rows)}, median after training {median(row.after for row in rows):.3f} (median run: seed "
        f"{median_row(rows).seed}), mean gain {fmean(row.after - row.before for row in rows):+.3f}.",
        "",
        f"- gain's interval above 0: {_count(rows, [row.gains for row in rows])}",
        f"- no domain ends below where it began: {_count(rows, [not row.fallen for row in rows])}",
        f"- every domain reaches {ENOUGH:.0%} of its best fixed workflow: "
        f"{_count(rows, [not row.short for row in rows])}",
    ]


def _of_one(row: StudyRow) -> list[str]:
    """Say of a single run how it compares with fixed choices, each made with hindsight on the held-out problems."""
    names = {"single": "the best fixed workflow", "by_domain": "the best fixed one of each domain"}
    told = [f"{_difference(row.routers[name])} against {label}" for name, label in names.items() if name in row.routers]
    return [f"One run: {', '.join(told)}; each was chosen with hindsight."] if told else ["One run."]


def _difference(router: Mapping[str, Any]) -> str:
    return f"{router['difference']:+.3f} [{router['ci95'][0]:+.3f}, {router['ci95'][1]:+.3f}]"


def _cell(row: StudyRow, domain: str) -> str:
    numbers = row.domains[domain]
    fixed = f" ({numbers['best_fixed']:.2f})" if "best_fixed" in numbers else ""
    return f"{numbers['before']:.2f} → {numbers['after']:.2f}{fixed}"


def _count(rows: Sequence[StudyRow], holds: Sequence[bool]) -> str:
    failed = [str(row.seed) for row, held in zip(rows, holds, strict=True) if not held]
    return f"{sum(holds)} of {len(rows)}" + (f" (not seed {', '.join(failed)})" if failed else "")


_HARDER = """\
## The harder lesson: the best workflow differs within a domain

`recipes/configs/harder.yaml`: each of these fixed choices is made with hindsight on the same held-out problems, which
favours it: one workflow for all, the best for each domain, the best for each kind of problem. They are chosen from the
twelve fixed workflows. The policy sees the domain and the question, and may write more than these twelve: one that asks
a second operator where the first has no answer serves two kinds at once.
"""


def _harder(rows: Sequence[StudyRow]) -> str:
    columns = ["seed", "before", "after", "best single", "best per domain", "best per kind"]
    columns += ["after against best per domain, 95 % interval", "seconds", "commit"]
    lines = [_HARDER, _row(columns), _row(["---"] * len(columns))]
    for row in rows:
        fixed = [f"{row.routers[name]['reward']:.3f}" for name in ROUTERS]
        means = [f"{row.before:.3f}", f"**{row.after:.3f}**", *fixed, _difference(row.routers["by_domain"])]
        lines.append(_row([str(row.seed), *means, f"{sum(row.seconds.values()):.0f}", f"`{row.commit}`"]))
    above = _count(rows, [row.routers["by_domain"]["ci95"][0] > 0 for row in rows])
    told = f"The run's own interval above 0: {above}."
    if len(rows) > 1:
        differences = [row.routers["by_domain"]["difference"] for row in rows]
        _, low, high = bootstrap_mean(differences, seed=0)
        middle = [f"{median(row.routers[name]['reward'] for row in rows):.3f}" for name in ROUTERS]
        means = [f"{median(row.before for row in rows):.3f}", f"**{median(row.after for row in rows):.3f}**", *middle]
        lines.append(_row(["median", *means, f"{median(differences):+.3f}", "", ""]))
        told = (
            f"Difference to the best per domain, mean of {len(rows)} runs: {fmean(differences):+.3f}, 95 % interval "
            f"over runs [{low:+.3f}, {high:+.3f}]. A run's own interval above 0: {above}."
        )
    return "\n".join([*lines, "", told, ""])


_COMPARISON = """\
## Settings compared, means over their runs

The last column is the difference to `{reference}` on those seeds that both have, with its 95 % interval over seeds.
`wa_grpo_k8` is the quickstart itself, run where the other settings ran: an executor's replies differ a little from one
kind of processor to another.
"""

_TIES = """\
### Ties: WA-GRPO against plain GRPO

K workflows of a problem, 96 of a step. Means over the seeds that both have: groups whose rewards are all equal,
held-out reward after training, and the executor's tokens that a workflow takes in the last third of the training,
replies from the cache included. Intervals: 95 %, over seeds.

| K | seeds | tied: plain | WA-GRPO | reward: plain | WA-GRPO | difference | tokens: plain | WA-GRPO | difference |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def _comparison(settings: dict[str, list[StudyRow]]) -> str:
    reference = REPEATED if REPEATED in settings else SHOWN
    columns = ["setting", "runs", "groups without a signal", "before", "after", "lowest", "gain's interval above 0"]
    columns.append(f"after, against `{reference}`")
    lines = [_COMPARISON.format(reference=reference), _row(columns), _row(["---"] * len(columns))]
    for name, rows in settings.items():
        cells = [
            f"{fmean(row.zero_signal for row in rows):.0%}",
            f"{fmean(row.before for row in rows):.3f}",
            f"{fmean(row.after for row in rows):.3f}",
            f"{min(row.after for row in rows):.3f}",
            _count(rows, [row.gains for row in rows]),
            _against(_pairs(rows, settings.get(reference, []))) if name != reference else "",
        ]
        lines.append(_row([name, str(len(rows)), *cells]))
    ties = [_tie(k, _pairs(settings.get(f"wa_grpo_k{k}", []), settings.get(f"grpo_k{k}", []))) for k in (2, 4, 8)]
    return "\n".join([*lines, "", *([_TIES + "".join(ties)] if any(ties) else [])])


def _pairs(rows: Sequence[StudyRow], others: Sequence[StudyRow]) -> list[tuple[StudyRow, StudyRow]]:
    """Return the runs of two settings by the seeds that both have."""
    by_seed = {row.seed: row for row in others}
    return [(row, by_seed[row.seed]) for row in rows if row.seed in by_seed]


def _tie(k: int, pairs: Sequence[tuple[StudyRow, StudyRow]]) -> str:
    if not pairs:
        return ""
    ours, plain = ([pair[side] for pair in pairs] for side in (0, 1))
    signals = [f"{fmean(row.zero_signal for row in rows):.0%}" for rows in (plain, ours)]
    after = [f"{fmean(row.after for row in rows):.3f}" for rows in (plain, ours)]
    return _row([str(k), str(len(pairs)), *signals, *after, _against(pairs), *_tokens(pairs)]) + "\n"


def _tokens(pairs: Sequence[tuple[StudyRow, StudyRow]]) -> list[str]:
    """Return the mean tokens of the other setting, of ours, and by what share ours takes more or fewer."""
    known = [(ours.tokens, other.tokens) for ours, other in pairs if ours.tokens and other.tokens]
    if not known:
        return [""] * 3
    mean, low, high = bootstrap_mean([ours / other - 1 for ours, other in known], seed=0)
    interval = f" [{low:+.0%}, {high:+.0%}]" if len(known) > 1 else ""
    return [*(f"{fmean(pair[side] for pair in known):.0f}" for side in (1, 0)), f"{mean:+.0%}{interval}"]


def _against(pairs: Sequence[tuple[StudyRow, StudyRow]]) -> str:
    if not pairs:
        return ""
    mean, low, high = bootstrap_mean([ours.after - other.after for ours, other in pairs], seed=0)
    return f"{mean:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if len(pairs) > 1 else "")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plot_curves(path: Path, rows: Sequence[StudyRow]) -> None:
    """Draw every seed's training reward, the median run bold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    bold = median_row(rows)
    for row in sorted(rows, key=lambda row: row is bold):
        half = WINDOW // 2
        smooth = [fmean(row.curve[max(0, i - half) : i + half + 1]) for i in range(len(row.curve))]
        label = f"seed {row.seed}" + (" (median run)" if row is bold and len(rows) > 1 else "")
        axes.plot(range(1, len(smooth) + 1), smooth, linewidth=3 if row is bold else 1, label=label)
    axes.set(xlabel="GRPO step", ylabel=f"training reward, mean of {WINDOW} steps", ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    temporary = path.with_name(f".{path.name}.partial.png")
    figure.savefig(temporary, dpi=100)
    pyplot.close(figure)
    temporary.replace(path)
