"""Turns what `collect` found into one HTML document."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.reporting.collect import RunFiles
from scripts.reporting.configuration import configuration_section
from scripts.reporting.elements import Section, Table
from scripts.reporting.episodes import episodes_section
from scripts.reporting.formatting import amount, duration
from scripts.reporting.overview import Tile, files_table, missing_files, tiles
from scripts.reporting.reading import one_line
from scripts.reporting.results import evaluation_section, heldout_section
from scripts.reporting.rows import SAMPLE_ROWS
from scripts.reporting.training import loop_section, replay_section, training_section
from scripts.reporting.workflows import endings_section, operators_section, rows_section, workflows_section

HERE = Path(__file__).parent
MAX_PAGE_BYTES = 900_000
# How much is shown of what has long texts: best and worst workflows of a domain, so many of each, and rows of the
# sample. A page above `MAX_PAGE_BYTES` is made again with less.
SIZES = ((2, SAMPLE_ROWS), (1, SAMPLE_ROWS // 2))


def render(run: RunFiles) -> str:
    """Return the report as one HTML document."""
    page = ""
    for workflows, sample in SIZES:
        page = document(
            title=one_line(run.folder.resolve().name, 80),
            kind="evaluation" if run.is_evaluation else "training run",
            tiles=tiles(run),
            files=files_table(run),
            missing=missing_files(run),
            sections=sections_of(run, workflows, sample),
        )
        if len(page.encode()) <= MAX_PAGE_BYTES:
            break
    return page


def document(
    *,
    title: str,
    kind: str,
    tiles: Sequence[Tile],
    files: Table,
    sections: Sequence[Section],
    missing: Sequence[tuple[str, str]] = (),
) -> str:
    """Return one HTML document; everything in it is escaped but what `svg.element` made.

    Args:
        title (`str`): of the page.
        kind (`str`): what is reported.
        tiles (`Sequence[Tile]`): key numbers.
        files (`Table`): what is in the folder.
        sections (`Sequence[Section]`): the parts of the page.
        missing (`Sequence[tuple[str, str]]`): files that are not there, with what they would show.
    """
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"amount": amount, "duration": duration}
    style, script = (HERE / "style.css").read_text(), (HERE / "script.js").read_text()
    page = environment.get_template("page.html").render(
        title=title,
        kind=kind,
        tiles=tiles,
        files=files,
        missing=missing,
        sections=sections,
        style=Markup(style),
        script=Markup(script),
        policy=content_security_policy(style, script),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def content_security_policy(style: str, script: str) -> str:
    """Allow exactly this style sheet and this script, and nothing from anywhere else."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def sections_of(run: RunFiles, workflows: int, sample: int) -> list[Section]:
    """Return the parts of the page in order, without those that have nothing in them.

    Args:
        run (`RunFiles`): what the folder holds.
        workflows (`int`): best and worst workflows of a domain, so many of each.
        sample (`int`): rows in the table.
    """
    readers = (run.rollouts, run.rows, run.heldout)
    reader = next((reader for reader in readers if reader is not None and reader.rows), None)
    sections = []
    if run.heldout is not None or "heldout" in (run.summary or {}):
        sections.append(heldout_section(run))
    if run.rows is not None or "by_domain" in (run.summary or {}):
        sections.append(evaluation_section(run))
    if run.rollouts is not None or run.metrics is not None:
        sections += [loop_section(run), training_section(run), replay_section(run)]
    sections += [episodes_section(found) for found in (run.rows, run.heldout) if found is not None]
    if reader is not None:
        sections += [operators_section(reader), workflows_section(reader, workflows)]
        sections += [endings_section(reader), rows_section(reader, sample)]
    sections.append(configuration_section(run))
    return with_content(sections)


def with_content(sections: Sequence[Section]) -> list[Section]:
    """Leave out tables without rows, and sections with nothing in them."""
    sections = [replace(part, tables=[table for table in part.tables if table.rows]) for part in sections]
    return [part for part in sections if part.figures or part.tables or part.workflows]
