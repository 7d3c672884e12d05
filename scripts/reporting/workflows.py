"""Sections on single rollouts: which operators they called, the best and the worst, how they ended, a sample."""

from scripts.reporting.charts import heat_map
from scripts.reporting.counters import OTHER, OUTCOMES, RolloutFacts
from scripts.reporting.elements import Cell, Section, Table, WorkflowView, number_cell
from scripts.reporting.formatting import amount
from scripts.reporting.reading import Row, one_line, text
from scripts.reporting.rows import RowsReader
from scripts.reporting.trace_graph import trace_view

OPERATOR_COLUMNS = 30
SHOWN_OPERATORS = 14
SHOWN_REASONS = 12
SHOWN_LINES = 4


def operators_section(reader: RowsReader) -> Section:
    """Which operators were called, over steps where there are steps, and in total."""
    figures = []
    totals = reader.totals
    names = [name for name, _ in totals.all.operators.most_common(SHOWN_OPERATORS)]
    if len(reader.steps) > 1:
        bins = reader.steps.coarser(OPERATOR_COLUMNS)
        for domain in reader.domains:
            columns = [
                (step, {name: part.domains[domain].operators[name] / part.domains[domain].rollouts for name in names})
                for step, part in bins.items()
                if domain in part.domains
            ]
            used = [name for name in names if totals.domains[domain].operators[name]]
            figures.append(heat_map(f"Operators: {domain}", columns, used))
    phases = [(f"{domain} {phase}".strip(), part.domains[domain]) for domain in reader.domains
              for phase, part in reader.phases.items() if domain in part.domains]  # fmt: skip
    rows = [
        [Cell(name), *(number_cell(part.operators[name] / part.rollouts, ".2f") for _, part in phases)]
        for name in names
    ]
    table = Table("Calls a rollout", ("operator", *(label for label, _ in phases)), rows, sortable=True)
    return Section("operators", "Operators by domain", figures=figures, tables=[table])


def workflows_section(reader: RowsReader, each: int) -> Section:
    """The best and the worst workflows of each domain, `each` of both."""
    views = []
    for domain in reader.domains:
        for verdict, count, row in reader.ranked(domain, each):
            example, code = RolloutFacts.of(row), text(row.get("workflow"), 2_500)
            step = f"step {example.step}" if example.step is not None else example.phase
            about = ", ".join(part for part in (step, f"reward {amount(example.reward)}", example.outcome) if part)
            views.append(WorkflowView(verdict, domain, count, code, about, trace_view(row)))
    least = ", ".join(f"{domain} {reader.least_count(domain, 2 * each)}" for domain in reader.domains)
    note = (
        f"From {reader.path.name}, by mean reward, of the workflows with at least so many graded rollouts: {least}. "
        "A solid arrow is text that flowed, found by comparing outputs with later arguments; a dashed one is only "
        "the order."
    )
    if reader.forgotten:
        note += f" There were so many different workflows that {reader.forgotten:,} rare ones are not counted."
    return Section("workflows", "Best and worst workflows", note, workflows=views)


def endings_section(reader: RowsReader) -> Section:
    """How rollouts ended and why completions were no workflows."""
    totals = reader.totals
    outcomes = [
        [Cell(name), *(number_cell(totals.domains[domain].outcomes[name]) for domain in reader.domains)]
        for name in (*OUTCOMES, OTHER)
        if totals.all.outcomes[name]
    ]
    invalid = f"{totals.all.rollouts - totals.all.valid:,} of {totals.all.rollouts:,} rollouts; the commonest reasons."
    reasons = [[Cell(reason), number_cell(count)] for reason, count in reader.reasons.most_common(SHOWN_REASONS)]
    tables = [
        Table("Outcomes", ("outcome", *reader.domains), outcomes),
        Table("Why completions were no valid workflow", ("reason", "rollouts"), reasons, invalid),
    ]
    note = (
        f"From {reader.path.name}. ok: the workflow ran to its end; policy_error: there was none, or it raised; "
        "infra_error: a failure of ours, which is not graded."
    )
    return Section("endings", "How rollouts ended", note, tables=tables)


def rows_section(reader: RowsReader, count: int) -> Section:
    """A sample of `count` rows, sortable."""
    rows = [_sample_cells(row) for row in reader.sample(count)]
    columns = (
        "step" if len(reader.steps) else "phase", "domain", "question", "workflow", "operators", "outcome", "tier",
        "reward", "advantage", "tokens", "USD", "seconds",
    )  # fmt: skip
    drawn = f"{count} drawn at random from" if reader.rows > count else "All of"
    caption = f"{drawn} the {reader.rows:,} rows of {reader.path.name}. A heading sorts, a second time the other way."
    return Section("rows", "Rows", tables=[Table("", columns, rows, caption, sortable=True, tall=True)])


def _excerpt(workflow: str) -> str:
    """Return the first lines of a workflow."""
    lines = [line for line in workflow[:1_000].splitlines() if line.strip()]
    return text("\n".join([*lines[:SHOWN_LINES], *["…"] * (len(lines) > SHOWN_LINES)]), 200)


def _sample_cells(row: Row) -> list[Cell]:
    rollout = RolloutFacts.of(row)
    first = Cell(rollout.phase) if rollout.step is None else Cell(f"{rollout.step:,}", float(rollout.step))
    operators = f"{len(rollout.operators)}: {', '.join(dict.fromkeys(rollout.operators))}"
    return [
        first,
        Cell(rollout.domain),
        Cell(one_line(row.get("question"), 100), style="wide"),
        Cell(_excerpt(row["workflow"]), style="wide code")
        if rollout.workflow
        else Cell(rollout.invalid, style="failure"),
        Cell(one_line(operators, 80) if rollout.operators else "0", float(len(rollout.operators)), "middle"),
        Cell(rollout.outcome),
        number_cell(rollout.tier),
        number_cell(rollout.reward, ".1f"),
        number_cell(rollout.advantage, "+.2f"),
        number_cell(rollout.tokens),
        number_cell(rollout.cost_usd),
        number_cell(rollout.seconds, ".2f"),
    ]
