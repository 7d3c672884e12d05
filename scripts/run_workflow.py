"""Run one workflow on one question and show every operator call.

    python scripts/run_workflow.py workflow.py --question "What is 12 + 30 * 2?" --domain math
    python scripts/run_workflow.py graph.py --question "Who wrote it?" --domain qa --context_file passage.txt --json
    echo "[Custom, Custom, Custom] -> ScEnsemble" | python scripts/run_workflow.py - --question "..." --executor local

FILE holds a workflow in any form: AFlow's own `graph.py` (its `prompt.py` beside it is read for `prompt_custom`), the
short form, or the DSL. Exit code: 0 when the workflow gave an answer, 1 when it did not, 2 for bad usage.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aflow_ops.errors import InfraError, UsageError, WorkflowError
from aflow_ops.executor import check_key, executor_argument_group, executor_config_from, open_executor
from aflow_ops.language import Workflow, parse_workflow, prompt_constants
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from aflow_ops.trace import Trace
from data.problem import DOMAINS, ProblemView
from scripts.cli import run_command

SHOWN_CHARS = 160


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE", help="the workflow, or - for standard input")
    parser.add_argument("--question", required=True, help="the problem to run it on")
    parser.add_argument("--domain", choices=DOMAINS, help="[code with --entry_point, else math]")
    parser.add_argument("--context_file", type=Path, help="passage that the question is about")
    parser.add_argument("--entry_point", help="name of the function to write (code)")
    parser.add_argument(
        "--public_test", action="append", default=[], metavar="ASSERT", help="a test for the Test operator; repeatable"
    )
    parser.add_argument("--workflow_timeout", type=float, default=180.0, help="seconds for the whole run [180]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run solution code with rlimits only")
    parser.add_argument("--json", action="store_true", help="print the trace as one JSON object")
    executor_argument_group(parser)
    return parser.parse_args()


def read_file(path: Path, flag: str) -> str:
    """Return a text file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {path} cannot be read: {error}") from None


def load_workflow(file: str, problem: ProblemView) -> Workflow:
    """Read a workflow and the `prompt.py` beside it.

    Raises:
        UsageError: no such file, or not a workflow; says why.
    """
    if file == "-":
        text, prompts = sys.stdin.read(), {}
    else:
        path = Path(file)
        text = read_file(path, "FILE")
        sibling = path.with_name("prompt.py")
        prompts = prompt_constants(read_file(sibling, "prompt file")) if sibling.is_file() else {}
    try:
        return parse_workflow(
            text, domain=problem.domain, has_entry_point=problem.entry_point is not None, prompts=prompts
        )
    except WorkflowError as error:
        raise UsageError(f"{file} is not a workflow for {problem.domain}: {error}") from None


async def run(arguments: argparse.Namespace, workflow: Workflow, problem: ProblemView) -> Trace:
    """Run the workflow once."""
    config = executor_config_from(arguments)
    check_key(config)
    limits = RuntimeLimits(timeout=arguments.workflow_timeout, processes=1)
    async with (
        open_executor(config) as executor,
        open_sandbox(unsafe_subprocess=arguments.unsafe_subprocess) as sandbox,
        WorkflowRuntime(executor, sandbox, limits) as runtime,
    ):
        return await runtime.run(workflow, problem)


def show(workflow: Workflow, trace: Trace) -> None:
    """Print the calls as a table, then the answer."""
    console = Console()
    for repair in workflow.repairs:
        console.print(f"repaired: {repair}", style="yellow", markup=False)
    table = Table()
    for column in ("operator", "output", "tokens", "USD", "seconds", "cached"):
        table.add_column(column, justify="right" if column in ("tokens", "USD", "seconds") else "left")
    for call in trace.calls:
        output = call.error or json.dumps(call.output, ensure_ascii=False)
        table.add_row(
            call.operator,
            Console(markup=False).render_str(output[:SHOWN_CHARS], markup=False),
            str(call.prompt_tokens + call.completion_tokens),
            f"{call.cost_usd:.6f}",
            f"{call.seconds:.2f}",
            "yes" if call.cached else "",
        )
    console.print(table)
    total = f"{trace.tokens} tokens, ${trace.cost_usd:.6f}, {trace.seconds:.2f} s"
    console.print(f"{trace.outcome}; {total}", markup=False)
    if trace.error is not None:
        console.print(f"{trace.error.kind}: {trace.error.message}", style="red", markup=False)
    if trace.answer is not None:
        console.print(f"answer: {trace.answer}", markup=False)


def main() -> None:
    """Parse, run, print."""
    arguments = parse_arguments()
    problem = ProblemView(
        question=arguments.question,
        domain=arguments.domain or ("code" if arguments.entry_point else "math"),
        context=read_file(arguments.context_file, "--context_file") if arguments.context_file else None,
        entry_point=arguments.entry_point,
        public_tests=tuple(arguments.public_test),
    )
    workflow = load_workflow(arguments.file, problem)
    trace = asyncio.run(run(arguments, workflow, problem))
    if arguments.json:
        print(json.dumps(trace.to_dict(), ensure_ascii=False))
    else:
        show(workflow, trace)
    if trace.outcome != "ok":
        raise InfraError(
            f"the workflow ended in {trace.outcome}: {trace.error.message if trace.error else 'no answer'}"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
