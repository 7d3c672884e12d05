"""The section on everything that changes over steps."""

from collections.abc import Mapping, Sequence

from data.problem import DOMAINS
from scripts.reporting.charts import MAX_COLUMNS, Figure, Line, line_chart, stacked_bars
from scripts.reporting.collect import RunFiles
from scripts.reporting.counters import Totals
from scripts.reporting.elements import Section, domain_style

TIERS = tuple((f"t{tier}", f"tier {tier}") for tier in range(1, 6))


def training_section(run: RunFiles) -> Section:
    """Rewards, validity, tiers, entropy, KL, zero-signal groups, the same by domain, and cost; from rollouts where they
    have steps."""
    steps = [(step, part.all) for step, part in run.rollouts.steps.items()] if run.rollouts is not None else []
    figures = [_reward_figure(run, steps), _valid_figure(run, steps), _tier_figure(run)]
    figures += [*_logged_figures(run), *_domain_figures(run), *_cost_figures(run, steps)]
    note = (
        "Thin lines are means over the rollouts of a step or a few, bold lines a moving average. Steps count from 0 in "
        "rollouts.jsonl and from 1 in metrics.csv."
    )
    return Section("training", "Training", note, figures)


def replay_section(run: RunFiles) -> Section:
    """What became of rows that were not sampled in the step: replayed ones, and all of a run on trajectories."""
    share = [("replay/share", "replayed", "s0"), ("replay/dropped", "left out: no better than what was sampled", "s2")]
    clipped, ratio = [("replay/clipped", "own rows", "s0")], [("replay/ratio", "own rows", "s0")]
    none, no_own = "no rows of trajectories in metrics.csv", "no row was of this policy with log-probabilities"
    shaped = [("replay/shaped", "rows of others", "s1")]
    no_other = "no row was of anybody else"
    charts = (
        ("Replayed rows", share, "share of rows", "", (0.0, 1.0), "every row is of the trajectories"),
        ("Log-probability of given rows", [("replay/logprob", "own and others'", "s0")], "nats a token",
         "Of the policy as it is: it rises while the policy learns to write them.", None, none),
        ("Ratio to the log-probabilities when they were written", ratio, "ratio", "Mean over tokens.", None, no_own),
        ("Clipped tokens of given rows", clipped, "share of tokens", "", (0.0, 1.0), no_own),
        ("Weight of others' rows", shaped, "f(pi)", "Mean of pi / (pi + gamma) over tokens.", (0.0, 1.0), no_other),
    )  # fmt: skip
    figures = [
        line_chart(title, _metric_lines(run, *columns), label, caption, y, missing)
        for title, columns, label, caption, y, missing in charts
    ]
    return _if_any(Section("replay", "Rows from trajectories", figures=figures))


def loop_section(run: RunFiles) -> Section:
    """What the searches of a loop of search and training found, episode by episode."""
    rewards = [
        ("episode/best_reward", "best of a problem", "s3"), ("episode/reward", "mean", "s0"),
        ("episode/correct", "right", "s1"), ("episode/valid", "valid replies", "s4"),
    ]  # fmt: skip
    tries = [(f"episode/pass@{k}", f"pass@{k}", f"s{style}") for style, k in enumerate((1, 2, 4, 8))]
    figures = [
        line_chart("Proposals of an episode", _metric_lines(run, *rewards), "mean reward, share", "", (0.0, 1.0)),
        line_chart("pass@k of an episode", _metric_lines(run, *tries), "share of problems", "", (0.0, 1.0)),
        line_chart("Executor tokens of an episode", _metric_lines(run, ("episode/executor_tokens", "tokens", "s0")),
                   "tokens", "Those of its search."),
    ]  # fmt: skip
    note = "A point is an episode's search, at the step before its training. Each has a report of its own: search/."
    return _if_any(Section("episodes", "Episodes", note, figures))


def _if_any(section: Section) -> Section:
    """Empty a section of which nothing was logged."""
    return section if any(figure.svg is not None for figure in section.figures) else Section(section.id, section.title)


def _metric_lines(run: RunFiles, *columns: tuple[str, str, str]) -> list[Line]:
    """Return a line for each (column, label, style) of metrics.csv."""
    if run.metrics is None:
        return []
    return [Line(label, run.metrics.points(name), style) for name, label, style in columns]


def _reward_figure(run: RunFiles, steps: Sequence[tuple[int, Totals]]) -> Figure:
    if steps and run.rollouts is not None:
        lines = []
        for domain in run.rollouts.domains:
            means = [(step, part.domains[domain].reward.value) for step, part in run.rollouts.steps.items()
                     if domain in part.domains]  # fmt: skip
            lines.append(Line(domain, [(x, y) for x, y in means if y is not None], domain_style(domain), "smooth"))
        together = [(step, totals.reward.value) for step, totals in steps]
        lines.append(Line("all", [(x, y) for x, y in together if y is not None], "s0"))
        caption = "Reward of the tier, before the tie-break. From rollouts.jsonl."
    else:
        lines = _metric_lines(run, ("reward", "all", "s0"))
        caption = "Reward after the tie-break. From metrics.csv: rollouts.jsonl has no steps."
    return line_chart("Reward", lines, "mean reward", caption, y=(0.0, 1.0), missing="no rewards")


def _valid_figure(run: RunFiles, steps: Sequence[tuple[int, Totals]]) -> Figure:
    if steps:
        lines = [
            Line("valid", [(step, totals.valid / totals.rollouts) for step, totals in steps], "s0"),
            Line("ran to its end", [(step, t.outcomes["ok"] / t.rollouts) for step, t in steps], "s3"),
            Line("failure of ours", [(step, t.outcomes["infra_error"] / t.rollouts) for step, t in steps], "s2"),
        ]
    else:
        lines = _metric_lines(
            run,
            ("workflow/valid", "valid", "s0"),
            ("workflow/executed", "ran to its end", "s3"),
            ("workflow/infra_error", "failure of ours", "s2"),
        )
    caption = "Valid: the workflow parses and passes the checks."
    return line_chart("Valid workflows", lines, "share of rollouts", caption, y=(0.0, 1.0), missing="not recorded")


def _tier_figure(run: RunFiles) -> Figure:
    columns: list[tuple[int, Mapping[str, float]]] = []
    if run.rollouts is not None and len(run.rollouts.steps):
        for step, part in run.rollouts.steps.coarser(MAX_COLUMNS).items():
            tiers = part.all.tiers
            columns.append((step, {f"tier {tier}": float(tiers[tier]) for tier in range(1, 6)}))
    elif run.metrics is not None:
        shares: dict[int, dict[str, float]] = {}
        for tier in range(1, 6):
            for step, mean in run.metrics.series[f"reward/tier_{tier}"].coarser(MAX_COLUMNS).items():
                shares.setdefault(step, {})[f"tier {tier}"] = mean.value or 0.0
        columns = sorted(shares.items())
    caption = "Tier 5 is right (reward 1.0), tier 1 has nothing usable (0.0). Graded rollouts only."
    return stacked_bars("Tiers", columns, TIERS, "share of graded rollouts", caption)


def _logged_figures(run: RunFiles) -> list[Figure]:
    """What only the trainer knows."""
    entropy = _metric_lines(run, ("entropy", "entropy", "s0"))
    kl = _metric_lines(run, ("kl", "KL", "s0"))
    ties = _metric_lines(
        run, ("wa_grpo/zero_signal_before", "before", "s2"), ("wa_grpo/zero_signal_after", "after", "s0")
    )
    source = "From metrics.csv" + ", which is missing" * (run.metrics is None) + "."
    no_kl = "No column kl in metrics.csv: TRL logs it when beta is above 0."
    no_ties = "no wa_grpo columns in metrics.csv"
    tie_break = "Groups whose rewards are all equal, before and after WA-GRPO's tie-break."
    return [
        line_chart("Entropy of the policy", entropy, "nats a token", source, missing="not logged"),
        line_chart("KL to the reference", kl, "nats a token", source, missing=no_kl),
        line_chart("Groups without a signal", ties, "share of groups", tie_break, y=(0.0, 1.0), missing=no_ties),
    ]


def _domain_figures(run: RunFiles) -> list[Figure]:
    """How each domain learns (`rewards/diagnostics.py`): one that stands still is hidden by a mean over all."""

    def lines(name: str) -> list[Line]:
        columns = ((f"domain/{domain}/{name}", domain, domain_style(domain)) for domain in DOMAINS)
        return _metric_lines(run, *columns)

    share, logged = "share of groups", "no columns domain/... in metrics.csv"
    return [
        line_chart(
            "Variety of workflows",
            lines("shape_entropy"),
            "nats",
            "Entropy over the operator sequences of a step's valid workflows: 0 when all are alike.",
            missing=logged,
        ),
        line_chart(
            "Groups without a signal: by domain",
            lines("zero_signal"),
            share,
            "Groups whose rewards are all equal, before the tie-break.",
            y=(0.0, 1.0),
            missing=logged,
        ),
        line_chart(
            "Groups that missed the best design",
            lines("best_shape_missed"),
            share,
            "Groups in which nobody wrote the operator sequence that has earned most so far: nothing in such a group "
            "pulls the policy towards it.",
            y=(0.0, 1.0),
            missing=logged,
        ),
    ]


def _cost_figures(run: RunFiles, steps: Sequence[tuple[int, Totals]]) -> list[Figure]:
    if not steps:
        tokens = _metric_lines(run, ("executor/tokens", "tokens", "s0"))
        spending = _metric_lines(run, ("executor/cost_usd", "USD a rollout", "s0"))
    else:
        tokens = [Line("tokens", [(step, totals.tokens / totals.rollouts) for step, totals in steps], "s0")]
        spent, running = [], 0.0
        for step, totals in steps:
            running += totals.cost_usd
            spent.append((step, running))
        spending = [Line("USD spent so far", spent, "s0", "raw")]
    free = all(value == 0 for line in spending for _, value in line.points)
    no_cost = "Nothing was spent: the executor has no price, or every reply came from the cache."
    return [
        line_chart("Executor tokens", tokens, "tokens a rollout", "Prompt and completion, also cached ones."),
        line_chart("Executor cost", [] if free else spending, "USD", missing=no_cost if spending else "not recorded"),
    ]
