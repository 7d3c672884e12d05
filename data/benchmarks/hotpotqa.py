"""HotpotQA, distractor setting (https://arxiv.org/abs/1809.09600): two paragraphs answer it, eight distract.

Example row of the Hub's `hotpotqa/hotpot_qa`, configuration `distractor`:

    {"id": "5a7613c15542994ccc9186bf", "question": "VIVA Media AG changed it's name in 2004. What ...?",
     "answer": "Gesellschaft mit beschränkter Haftung", "type": "bridge", "level": "hard",
     "supporting_facts": {"title": ["VIVA Media", ...], "sent_id": [0, ...]},
     "context": {"title": ["Constantin Medien", ...], "sentences": [["Constantin Medien AG ...", ...], ...]}}

The benchmark's own JSON files have `_id`, and `context` as a list of [title, sentences].
"""

from typing import Any

from data.benchmarks.row import Row, column, shortened, text


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row; `keep` names the paragraphs that must survive trimming.

    Raises:
        ValueError: a column is missing or of another shape.
    """
    paragraphs = _paragraphs(column(row, "context"))
    needed = _supporting_titles(row.get("supporting_facts") or [])
    return {
        "id": str(column(row, "id", "_id")),
        "question": text(row, "question").strip(),
        "answer": text(row, "answer"),
        "context": "\n\n".join(paragraph for _, paragraph in paragraphs),
        "keep": [paragraph for title, paragraph in paragraphs if title in needed],
        "extra": {"facts": sorted(needed)} if needed else {},
    }


def _paragraphs(context: Any) -> list[tuple[str, str]]:
    """Titles, and their paragraphs as text."""
    try:
        if isinstance(context, dict):
            context = list(zip(column(context, "title"), column(context, "sentences"), strict=True))
        return [(str(title), f"{title}: {''.join(sentences).strip()}") for title, sentences in context]
    except (TypeError, ValueError):
        raise ValueError(f"context must have titles and their sentences, not {shortened(context)}") from None


def _supporting_titles(facts: Any) -> set[str]:
    try:
        titles = column(facts, "title") if isinstance(facts, dict) else [title for title, _ in facts]
        return set(map(str, titles))
    except (TypeError, ValueError):
        raise ValueError(f"supporting_facts must have titles and sentence numbers, not {shortened(facts)}") from None
