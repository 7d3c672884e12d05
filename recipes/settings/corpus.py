"""`--corpus` and `--retriever_url`: where agents search, as flags of a recipe and of the scripts that play its team."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from aflow_ops.agents.tools.corpus import OWN, Corpus, open_corpus
from data.passages import passages_of
from data.problem import Problem


@dataclass
class CorpusArguments:
    """Where agents search.

    Args:
        corpus (`str`): `own` for each problem's own passages, a file of passages, or a folder.
        retriever_url (`str`, *optional*): a server instead.
    """

    corpus: str = field(
        default=OWN,
        metadata={"help": "'own': the passages of each problem; a .jsonl of passages; a folder of .md and .txt files."},
    )
    retriever_url: str | None = field(
        default=None, metadata={"help": 'A retrieval server that takes {"queries": [...], "topk": k}.'}
    )


def corpus_argument_group(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a script's parser, as recipes have them."""
    group = parser.add_argument_group("where agents search", "as in the training, for recipes whose agents search")
    for setting in fields(CorpusArguments):
        help_text = str(setting.metadata["help"])
        group.add_argument(f"--{setting.name}", default=setting.default, help=help_text)


def corpus_from(settings: Any) -> Corpus | None:
    """Return what agents search, as the flags say; `None` when they leave it to the problems.

    Args:
        settings (`CorpusArguments` or `argparse.Namespace`): with the flags.

    Raises:
        UsageError: both are given, or one cannot be used.
    """
    if settings.corpus == OWN and not settings.retriever_url:
        return None
    return open_corpus(settings.corpus, settings.retriever_url)


def check_passages(problems: Sequence[Problem], corpus: Corpus | None) -> None:
    """Refuse problems that bring nothing to search in, before anything is loaded.

    Args:
        problems (`Sequence[Problem]`): that agents will be asked.
        corpus (`Corpus`, *optional*): where they search; `None` for what each problem brings along.

    Raises:
        DataError: one brings no passages; says what to do.
    """
    if corpus is None:
        for problem in problems:
            passages_of(problem)
