"""The agents' study's page: each team run by run, and joint training beside separate and alternating."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from data.files import write_atomically
from scripts.studying.agent_rows import JOINT, SETTINGS, TEAMS, AgentRow

_HEAD = """\
# Do teams learn?

`python scripts/study_agents.py` wrote this page from `agents.jsonl`: one row a run of a team's embedded default, with
its commit and the hash of its settings, which were found on seeds from 100 up. A run's seed draws its problems, its
warm start and its samples. *Before* are the untrained roles: the team as its warm start left it. *Alone* is a single
agent of the trained policy that writes as many tokens as the trained team. The verifier's (or validator's) number is
the balanced accuracy of its verdicts. Held-out problems are sampled as in training. Seconds are wall time, whatever
else the machine did. A commit is `unknown` where a row was made before this command was.
"""


def write_agent_page(file: Path, rows: Sequence[AgentRow]) -> None:
    """Write the page.

    Args:
        file (`Path`): Markdown.
        rows (`Sequence[AgentRow]`): of any teams, settings and seeds.
    """
    parts = [_HEAD]
    for team in TEAMS:
        own = sorted((row for row in rows if row.team == team), key=lambda row: row.seed)
        joint = [row for row in own if row.setting == JOINT]
        if joint:
            parts.append(_run_by_run(team, joint))
        if {row.setting for row in own} - {JOINT}:
            parts.append(_compared(team, own))
    with write_atomically(file) as out:
        out.write("\n".join(parts))


def _run_by_run(team: str, rows: Sequence[AgentRow]) -> str:
    columns = ["seed", "n", "before", "after", "gain, 95 % interval", "verifier", "alone", "seconds", "commit"]
    lines = [f"## {team}", "", _row(columns), _row(["---"] * len(columns))]
    for row in rows:
        low, high = row.gain_ci95
        gain = f"{row.after - row.before:+.2f} [{low:+.2f}, {high:+.2f}]"
        judged = "" if row.verdicts is None else f"{row.verdicts[0]:.2f} → {row.verdicts[1]:.2f}"
        alone = "" if row.alone is None else f"{row.alone:.2f}"
        cells = [f"{row.before:.2f}", f"**{row.after:.2f}**", gain, judged, alone]
        lines.append(_row([str(row.seed), str(row.n), *cells, f"{sum(row.seconds.values()):.0f}", f"`{row.commit}`"]))
    judging = [row for row in rows if row.verdicts is not None]
    beside = [row.after > row.alone for row in rows if row.alone is not None]
    told = [
        f"- gain's interval above 0: {sum(row.gain_ci95[0] > 0 for row in rows)} of {len(rows)}; mean gain "
        f"{fmean(row.after - row.before for row in rows):+.2f}",
        f"- better than the single agent: {sum(beside)} of {len(beside)}",
    ]
    if judging:
        held = sum(row.verdicts is not None and row.verdicts[1] > max(0.5, row.verdicts[0]) for row in judging)
        told.append(f"- verdicts better than before and than 0.5: {held} of {len(judging)}")
    return "\n".join([*lines, "", *told, ""])


def _compared(team: str, rows: Sequence[AgentRow]) -> str:
    names = [name for name in SETTINGS if any(row.setting == name for row in rows)]
    by_key = {(row.setting, row.seed): row for row in rows}
    seeds = sorted({seed for setting, seed in by_key if setting != JOINT})
    columns = ["", *(f"seed {seed}" for seed in seeds), "mean"]
    lines = [f"### {team}: one adapter, one each, or by turns", ""]
    lines += ["Team after training, its gain's 95 % interval, and the verifier; the same warm starts.", ""]
    lines += [_row(columns), _row(["---"] * len(columns))]
    for name in names:
        found = [by_key.get((name, seed)) for seed in seeds]
        known = [row.after for row in found if row is not None]
        flags = " ".join(f"--{flag} {value}" for flag, value in SETTINGS[name].items())
        cells = [name + (f" (`{flags}`)" if flags else ""), *map(_after, found)]
        lines.append(_row([*cells, f"{fmean(known):.2f}" if known else ""]))
    return "\n".join([*lines, ""])


def _after(row: AgentRow | None) -> str:
    if row is None:
        return ""
    judged = "" if row.verdicts is None else f", {row.verdicts[1]:.2f}"
    return f"{row.after:.2f} [{row.gain_ci95[0]:+.2f}, {row.gain_ci95[1]:+.2f}]{judged}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
