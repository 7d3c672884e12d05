"""The replay study's page: what every way to learn from search came to, for equal executor tokens."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from data.files import write_atomically
from rewards.statistics import bootstrap_mean
from scripts.studying.replay_rows import ReplayRow
from scripts.studying.replay_settings import (
    HELDOUT,
    MASKED_REPLAY,
    MASKED_SAMPLING,
    MASKED_STEPS,
    ONLINE,
    ROLLOUTS,
    SAMPLING,
    SEARCH_SHARE,
    SETTINGS,
    STEPS,
    TRAIN,
    UPDATES,
)

# Seeds of each way, for what is said to be a result.
SEEDS = 5

_HEAD = f"""\
# Does it help to learn from search?

`make bench-replay` writes this page from `replay.jsonl`: one row for each way and seed, with its commit and the hash of
its settings. Problems, policy, executor and what of the policy trains are the quickstart's; {TRAIN} training problems,
two workflows for each of {HELDOUT} held-out ones. *Before* is the warm start.

Nobody has more executor tokens than online GRPO alone ({STEPS} steps of {ROLLOUTS} workflows), those of the search
included and those that the cache answered too: of a search the rounds count that fit, of a training the last checkpoint
that fits. What was spent stands in the table. The search tries each operator alone on each training problem, then the
grammar's modifications; it has all tokens where nothing is sampled afterwards, else at most {SEARCH_SHARE:.0%}. *Tokens
to the best fixed*: until the training reward of five steps was at the mean, over domains, of the best fixed workflows
on held-out problems.

No setting was tuned on these seeds, save that more is left out for the masked ways (below). Online GRPO has the
quickstart's settings; those of the other ways were never searched for, so what does not help here may with others. On
seeds 100 and 101 three things were found and mended: the grammar wrote other words than the warm start teaches, of
which every token was unlikely; which of many lucky designs is learned from (now the simplest within one standard error
of the best: SFT went from 0.56 to 0.66 on seed 100); and what the masked ways need. When the second was mended, rows of
seeds 14 and 15 had been seen; they were made anew. Those of `online` and `loop` are from before, and not touched by it.
"""

_ROWS, _GAMMA = MASKED_REPLAY["replay_per_group"], MASKED_REPLAY["replay_shaping"]
_MASKED_HEAD = f"""\
## What the warm start never writes

Here no example of the warm start has Programmer for math, the best workflow there, or for questions; some for code do.
Both ways sample from the likeliest {MASKED_SAMPLING["top_p"]:.0%} of each token, make {UPDATES} updates of each step,
and have the tokens of {MASKED_STEPS} steps without replay. With it, {_ROWS} rows of a group are replayed, with a gamma
of {_GAMMA}. With it left out for math alone, and a likeliest 95%, the warm start still wrote it in a few of a thousand
workflows, and online GRPO found it by itself on seeds 14 and 101; that is why more is left out now. Held-out problems:
"""


def write_replay_page(file: Path, rows: Sequence[ReplayRow]) -> None:
    """Write the page; without rows it says so.

    Args:
        file (`Path`): Markdown.
        rows (`Sequence[ReplayRow]`): of any settings and seeds.
    """
    parts = [_HEAD]
    known = {name: [row for row in rows if row.setting == name] for name in SETTINGS}
    missing = [name for name, own in known.items() if len({row.seed for row in own}) < SEEDS]
    if missing:
        counts = ", ".join(f"`{name}` {len(known[name])}" for name in missing)
        parts.append(f"**Not finished**: runs of {SEEDS} that there are: {counts}. Nothing is concluded from fewer.\n")
    plain = {name: own for name, own in known.items() if own and not name.startswith("masked")}
    if plain:
        parts += [_table(plain), *_verdicts(plain)]
    masked = {name: own for name, own in known.items() if own and name.startswith("masked")}
    if masked:
        parts.append(_masked(masked))
    with write_atomically(file) as out:
        out.write("\n".join(parts))


def _table(settings: dict[str, list[ReplayRow]]) -> str:
    domains = sorted({name for rows in settings.values() for row in rows for name in row.domains})
    columns = ["way", "runs", "before", "after, 95 % over seeds", "against online, 95 %", *domains,
               "groups without a signal", "executor tokens", "of these search", "tokens to the best fixed"]  # fmt: skip
    lines = [_row(columns), _row(["---"] * len(columns))]
    online = {row.seed: row.after for row in settings.get(ONLINE, [])}
    for name, rows in settings.items():
        gains = [row.after - online[row.seed] for row in rows if row.seed in online and name != ONLINE]
        signal = [row.zero_signal for row in rows if row.zero_signal is not None]
        reached = [row.tokens_to_fixed for row in rows if row.tokens_to_fixed is not None]
        to_fixed = f"{fmean(reached):,.0f} ({len(reached)} of {len(rows)})" if reached else f"0 of {len(rows)}"
        to_fixed = to_fixed if name in SAMPLING and name != "loop" else ""
        cells = [
            f"{SETTINGS[name]} (`{name}`)", str(len(rows)), f"{fmean(row.before for row in rows):.3f}",
            _interval([row.after for row in rows]), _interval(gains, "+") if gains else "",
            *(f"{fmean(row.domains.get(domain, 0.0) for row in rows):.2f}" for domain in domains),
            f"{fmean(signal):.0%}" if signal else "", f"{fmean(row.tokens for row in rows):,.0f}",
            f"{fmean(row.search_tokens for row in rows):,.0f}", to_fixed,
        ]  # fmt: skip
        lines.append(_row(cells))
    return "\n".join([*lines, ""])


def _verdicts(settings: dict[str, list[ReplayRow]]) -> list[str]:
    """Say of each way with enough seeds whether it helped: whether the interval of its gain over online is above 0."""
    online = {row.seed: row.after for row in settings.get(ONLINE, [])}
    said: dict[str, list[str]] = {"Helped": [], "Did harm": [], "Neither shown": []}
    for name, rows in settings.items():
        gains = [row.after - online[row.seed] for row in rows if row.seed in online]
        if name == ONLINE or len(gains) < SEEDS:
            continue
        _, low, high = bootstrap_mean(gains, seed=0)
        said["Helped" if low > 0 else "Did harm" if high < 0 else "Neither shown"].append(f"`{name}`")
    return [f"{verdict}: {', '.join(names)}.\n" for verdict, names in said.items() if names]


def _masked(settings: dict[str, list[ReplayRow]]) -> str:
    columns = ["way", "seed", "before", "after", "math workflows with it", "commit"]
    lines = [_MASKED_HEAD, _row(columns), _row(["---"] * len(columns))]
    for name, rows in settings.items():
        for row in rows:
            share = "" if row.masked_share is None else f"{row.masked_share:.0%}"
            cells = [SETTINGS[name], str(row.seed), f"{row.before:.3f}", f"{row.after:.3f}", share, f"`{row.commit}`"]
            lines.append(_row(cells))
    return "\n".join([*lines, ""])


def _interval(values: Sequence[float], sign: str = "") -> str:
    mean, low, high = bootstrap_mean(list(values), seed=0)
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]" if len(values) > 1 else f"{mean:{sign}.3f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
