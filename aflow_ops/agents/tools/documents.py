"""The `read` tool: whole documents, page by page."""

import re
from collections.abc import Sequence
from dataclasses import replace

from aflow_ops.agents.tools.calls import ToolRefusalError
from data.passages import Passage

PAGE_CHARS = 2_000
_NUMBERED = re.compile(r"^\[([^\]\n]{1,80})\] (.+)$", re.MULTILINE)
_NAMED = 8


class Documents:
    """Documents by their ids. Passages that a document was cut into (`notes.md#2`) lead to it.

    Args:
        documents (`Sequence[Passage]`): whole ones.
        page_chars (`int`): longest page; a page ends with a line where it can.

    Example:

        >>> Documents([Passage("ferns.md", "Ferns", "They have spores.")]).read("ferns.md#1")
        'ferns.md, page 1 of 1: Ferns\\nThey have spores.'
    """

    def __init__(self, documents: Sequence[Passage], page_chars: int = PAGE_CHARS) -> None:
        self._documents = {document.id: document for document in documents}
        self._page_chars = page_chars

    def passages_on(self, page: str, name: str) -> list[Passage]:
        """Return what somebody has seen who read a page: that page of the document, and the passages that it names in
        brackets.

        Args:
            page (`str`): of `read`.
            name (`str`): what was read.
        """
        wanted = name[:300].strip(" []\"'")
        document = self._documents.get(wanted) or self._documents.get(wanted.rpartition("#")[0])
        read = [] if document is None else [replace(document, text=page)]
        return [*read, *(Passage(found[1], wanted, found[2]) for found in _NUMBERED.finditer(page))]

    def __len__(self) -> int:
        return len(self._documents)

    def read(self, name: str, page: int = 1) -> str:
        """Return one page of a document, under a line that says which.

        Args:
            name (`str`): its id, or that of one of its passages.
            page (`int`): from 1.

        Raises:
            ToolRefusalError: there is no such document or page; says what there is.
        """
        wanted = name[:300].strip()
        document = self._documents.get(wanted) or self._documents.get(wanted.rpartition("#")[0])
        if document is None:
            if not self._documents:
                raise ToolRefusalError("there are no documents to read: search instead")
            known = ", ".join(list(self._documents)[:_NAMED])
            raise ToolRefusalError(f"there is no document {wanted[:80]!r}; there are {known}")
        pages = list(self._pages(document.text))
        if not 1 <= page <= len(pages):
            raise ToolRefusalError(f"{document.id} has pages 1 to {len(pages)}, not {page}")
        head = f"{document.id}, page {page} of {len(pages)}"
        return f"{head}: {document.title}\n{pages[page - 1]}" if document.title else f"{head}\n{pages[page - 1]}"

    def _pages(self, text: str) -> list[str]:
        pages, start = [], 0
        while start < len(text):
            end = min(len(text), start + self._page_chars)
            if end < len(text):
                line = text.rfind("\n", start + 1, end)
                end = line + 1 if line > start else end
            pages.append(text[start:end].strip())
            start = end
        return pages or [""]
