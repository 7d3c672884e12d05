"""Run one workflow on a question, or let a trained policy write it, and show every operator call.

    python scripts/run_workflow.py workflow.py --question "What is 12 + 30 * 2?" --domain math
    python scripts/run_workflow.py graph.py --question "Who wrote it?" --domain qa --context_file passage.txt --json
    echo "[Custom, Custom, Custom] -> ScEnsemble" | python scripts/run_workflow.py - --question "..." --executor local
    python scripts/run_workflow.py --model Qwen/Qwen2.5-7B-Instruct --adapter you/designer --question "..."
    python scripts/run_workflow.py --adapter outputs/grpo_mixed --interactive

FILE holds a workflow in any form: AFlow's own `graph.py` (its `prompt.py` beside it is read for `prompt_custom`), the
short form, or the DSL. Without FILE the policy of --model and --adapter writes one for each question. Exit code: 0 when
the workflow gave an answer, or a session ended; 1 when it did not; 2 for bad usage.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from aflow_ops.errors import InfraError, UsageError, WorkflowError
from aflow_ops.executor import check_key, executor_argument_group, executor_config_from
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.opening import open_runtime
from aflow_ops.operators import load_operators, operator_argument
from aflow_ops.policy_prompt import PROMPT_STYLES, policy_messages
from aflow_ops.runtime import WorkflowRuntime
from aflow_ops.terminal import printable
from aflow_ops.trace import Trace, TraceError
from aflow_ops.workflow_files import read_workflow_file
from data.domains import default_domain
from data.files import unreadable
from data.problem import DOMAINS, ProblemView
from recipes.run.command import CommandParser, run_command

SHOWN_CHARS = 160


@dataclass(frozen=True)
class Written:
    """A workflow's text before it is parsed.

    Args:
        text (`str`): a file's content, or the policy's completion.
        file (`str`, *optional*): FILE of the command line; `None` when the policy wrote it.
        prompts (`Mapping[str, Any]`): what `prompt_custom.NAME` is, by name.
    """

    text: str
    file: str | None = None
    prompts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """One question's result; `workflow` is `None` when the policy's completion is not one."""

    written: Written
    workflow: Workflow | None
    trace: Trace

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the trace, the workflow's text, and the completion when a policy wrote it."""
        row = {**self.trace.to_dict(), "workflow": self.workflow.text if self.workflow else None}
        return row if self.written.file is not None else {**row, "completion": self.written.text}


Writer = Callable[[ProblemView], Written]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("file", metavar="FILE", nargs="?", help="the workflow, or - for standard input")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", help="the problem to run it on")
    asked.add_argument("--interactive", action="store_true", help="read questions, one a line, until Ctrl-D")
    parser.add_argument("--domain", choices=DOMAINS, help="[code with --entry_point, else math]")
    parser.add_argument("--context_file", type=Path, help="passage that the question is about")
    parser.add_argument("--entry_point", help="name of the function to write (code)")
    parser.add_argument(
        "--public_test", action="append", default=[], metavar="ASSERT", help="a test for the Test operator; repeatable"
    )
    parser.add_argument("--workflow_timeout", type=float, default=180.0, help="seconds for the whole run [180]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run solution code with rlimits only")
    parser.add_argument("--json", action="store_true", help="print the trace as one JSON object")
    policy = parser.add_argument_group("policy", "writes the workflow when there is no FILE")
    policy.add_argument("--model", help="a Hub name or a folder [the base model that the adapter names]")
    policy.add_argument("--adapter", help="PEFT adapter for the model: a Hub name or a folder")
    policy.add_argument("--prompt_style", choices=PROMPT_STYLES, help="[what the adapter was trained with, else full]")
    policy.add_argument("--temperature", type=float, default=0.15, help="sampling temperature, 0 is greedy [0.15]")
    policy.add_argument("--max_completion_length", type=int, default=1024, help="tokens of a workflow [1024]")
    policy.add_argument("--seed", type=int, default=0, help="seed of the sampling [0]")
    operator_argument(parser)
    executor_argument_group(parser)
    arguments = parser.parse_args()
    if (arguments.file is None) == (arguments.model is None and arguments.adapter is None):
        parser.error("give either FILE or a policy (--model, --adapter)")
    for name, fine in (
        ("workflow_timeout", arguments.workflow_timeout > 0),
        ("max_completion_length", arguments.max_completion_length > 0),
        ("temperature", arguments.temperature >= 0),
        ("entry_point", arguments.entry_point is None or arguments.entry_point.isidentifier()),
    ):
        if not fine:
            told = "is no function's name" if name == "entry_point" else "is out of range"
            parser.error(f"--{name} {getattr(arguments, name)} {told}")
    if arguments.question is not None and not arguments.question.strip():
        parser.error("--question is empty: give the problem to run the workflow on")
    if arguments.interactive and arguments.file == "-":
        parser.error("--interactive reads questions from standard input: FILE cannot be - too")
    return arguments


def read_file(path: Path, flag: str) -> str:
    """Return a text file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {unreadable(path, error)}") from None


def file_writer(file: str) -> Writer:
    """Read a workflow and the `prompt.py` beside it; it is the same for every problem.

    Raises:
        UsageError: no such file.
    """
    if file == "-":
        written = Written(sys.stdin.read(), file)
    else:
        found = read_workflow_file(Path(file), "FILE")
        written = Written(found.text, file, found.prompts)
    return lambda problem: written


def policy_writer(arguments: argparse.Namespace) -> Writer:
    """Load the policy, once, and return what lets it write a workflow.

    Raises:
        UsageError: it cannot be loaded; says why.
    """
    # torch takes seconds to import and a workflow in a file does not need it
    from recipes.policy.generation import generate_completions
    from recipes.policy.loading import base_model_of, load_policy, trained_prompt_style, trained_template_kwargs
    from recipes.settings.libraries import quiet_libraries

    quiet_libraries()
    name = arguments.model or base_model_of(arguments.adapter)
    model, tokenizer = load_policy(name, arguments.adapter)
    place = arguments.adapter or name
    style = arguments.prompt_style or trained_prompt_style(place) or "full"
    told = trained_template_kwargs(place)

    def write(problem: ProblemView) -> Written:
        (text,) = generate_completions(
            model,
            tokenizer,
            [policy_messages(problem, style)],
            max_new_tokens=arguments.max_completion_length,
            temperature=arguments.temperature,
            seed=arguments.seed,
            chat_template_kwargs=told,
        )
        return Written(text)

    return write


def parse_for(written: Written, problem: ProblemView) -> Workflow:
    """Parse a workflow for a problem.

    Raises:
        WorkflowError: the policy's completion is not one; says why.
        UsageError: FILE is not one.
    """
    has_entry_point = problem.entry_point is not None
    try:
        return parse_workflow(
            written.text, domain=problem.domain, has_entry_point=has_entry_point, prompts=written.prompts
        )
    except WorkflowError as error:
        if written.file is None:
            raise
        raise UsageError(f"{written.file} is not a workflow for {problem.domain}: {error}") from None


def opened_runtime(arguments: argparse.Namespace) -> AbstractAsyncContextManager[WorkflowRuntime]:
    """Open what runs workflows, for one at a time."""
    return open_runtime(
        executor_config_from(arguments),
        workflow_timeout=arguments.workflow_timeout,
        workflows_at_once=1,
        unsafe_subprocess=arguments.unsafe_subprocess,
    )


async def answer(runtime: WorkflowRuntime, write: Writer, problem: ProblemView) -> Answered:
    """Have the workflow written and run it.

    Raises:
        UsageError: the file's workflow is none.
    """
    written = write(problem)
    try:
        workflow = parse_for(written, problem)
    except WorkflowError as error:
        return Answered(written, None, Trace(None, "policy_error", TraceError("WorkflowError", str(error))))
    return Answered(written, workflow, await runtime.run(workflow, problem))


async def answer_one(arguments: argparse.Namespace, write: Writer, problem: ProblemView) -> None:
    """Answer the question of the command line.

    Raises:
        InfraError: there is no answer; what there is was shown.
    """
    async with opened_runtime(arguments) as runtime:
        answered = await answer(runtime, write, problem)
    present(arguments, answered)


async def answer_all(arguments: argparse.Namespace, write: Writer) -> None:
    """Answer one question after the other until their end; an error in one of them is shown and does not end it."""
    async with opened_runtime(arguments) as runtime:
        for question in questions():
            try:
                present(arguments, await answer(runtime, write, problem_of(arguments, question)))
            except (UsageError, InfraError, ValueError, RuntimeError) as error:
                print(f"error: {printable(str(error))}", file=sys.stderr)
            sys.stdout.flush()


def questions() -> Iterator[str]:
    """Yield what is typed, line by line, until Ctrl-D; empty lines are passed over."""
    while True:
        try:
            with ctrl_c_at_once():
                line = input("question> " if sys.stdin.isatty() and sys.stdout.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()


@contextmanager
def ctrl_c_at_once() -> Iterator[None]:
    """Let Ctrl-C end a wait for a line: asyncio's own handler would wait for the line first."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def present(arguments: argparse.Namespace, answered: Answered) -> None:
    """Print a result.

    Raises:
        InfraError: it has no answer.
    """
    trace = answered.trace
    if arguments.json:
        print(json.dumps(answered.to_dict(), ensure_ascii=(sys.stdout.encoding or "").lower() != "utf-8"))
    else:
        show(answered)
    if trace.outcome != "ok":
        raise InfraError(
            f"the workflow ended in {trace.outcome}: {trace.error.message if trace.error else 'no answer'}"
        )


def show(answered: Answered) -> None:
    """Print the policy's workflow, the calls as a table, then the answer."""
    console = Console()
    workflow, trace = answered.workflow, answered.trace
    if answered.written.file is None:
        text = workflow.text if workflow else answered.written.text
        console.print(Syntax(printable(text.strip()), "python", background_color="default", word_wrap=True))
    for repair in workflow.repairs if workflow else ():
        console.print(f"repaired: {repair}", style="yellow", markup=False)
    if trace.calls:
        console.print(table_of_calls(trace))
    total = f"{trace.tokens} tokens, ${trace.cost_usd:.6f}, {trace.seconds:.2f} s"
    console.print(f"{trace.outcome}; {total}", markup=False)
    if trace.error is not None:
        console.print(printable(f"{trace.error.kind}: {trace.error.message}"), style="red", markup=False)
    if trace.answer is not None:
        console.print(printable(f"answer: {trace.answer}"), markup=False)


def table_of_calls(trace: Trace) -> Table:
    """Return one row for each operator call."""
    table = Table()
    for column in ("operator", "output", "tokens", "USD", "seconds", "cached"):
        table.add_column(column, justify="right" if column in ("tokens", "USD", "seconds") else "left")
    for call in trace.calls:
        output = call.error or json.dumps(call.output, ensure_ascii=False)
        table.add_row(
            call.operator,
            Console(markup=False).render_str(printable(output[:SHOWN_CHARS]), markup=False),
            str(call.prompt_tokens + call.completion_tokens),
            f"{call.cost_usd:.6f}",
            f"{call.seconds:.2f}",
            "yes" if call.cached else "",
        )
    return table


def problem_of(arguments: argparse.Namespace, question: str) -> ProblemView:
    """Return the question with everything the flags say about it.

    Raises:
        UsageError: the context cannot be read, or the question is no UTF-8.
    """
    try:
        question.encode()
    except UnicodeEncodeError:
        raise UsageError("the question is not valid UTF-8") from None
    return ProblemView(
        question=question,
        domain=arguments.domain or default_domain(has_entry_point=bool(arguments.entry_point)),
        context=read_file(arguments.context_file, "--context_file") if arguments.context_file else None,
        entry_point=arguments.entry_point,
        public_tests=tuple(arguments.public_test),
    )


def main() -> None:
    """Parse, load, answer."""
    arguments = parse_arguments()
    load_operators(arguments.operators)
    if arguments.file is None:
        check_key(executor_config_from(arguments))  # before a model is loaded
        write = policy_writer(arguments)
    else:
        write = file_writer(arguments.file)
    if arguments.interactive:
        asyncio.run(answer_all(arguments, write))
        return
    problem = problem_of(arguments, arguments.question)
    if arguments.file is not None:
        parse_for(write(problem), problem)  # before anything slow starts
    asyncio.run(answer_one(arguments, write, problem))


if __name__ == "__main__":
    sys.exit(run_command(main))
