"""What an unfinished evaluation has so far, so that a second start goes on from there and pays nothing twice."""

import hashlib
import json
from pathlib import Path
from typing import Any

from aflow_ops.executor import ExecutorUsage
from data.files import write_atomically

Row = dict[str, Any]


def fingerprint(*facts: object) -> str:
    """Return a hash of everything that decides the rows."""
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()


class Journal:
    """Completions, graded rows and payments of an unfinished evaluation, written down as they come.

    Args:
        path (`Path`): the journal; one of another evaluation is not used.
        facts (`str`): the evaluation's `fingerprint`.

    Attributes:
        facts (`str`): the same.
        completions (`dict[int, str]`): by sample.
        rows (`dict[int, Row]`): by sample.
        paid (`ExecutorUsage`): what all starts together paid the executor.
    """

    def __init__(self, path: Path, facts: str) -> None:
        self.path, self.facts = path, facts
        self.completions: dict[int, str] = {}
        self.rows: dict[int, Row] = {}
        self.paid = ExecutorUsage()
        self._paid_for: set[str] = set()
        entries = self._read(facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:  # without a last line that a kill cut off
            file.write(json.dumps(facts) + "\n")
            file.writelines(json.dumps(entry) + "\n" for entry in entries)
        self._file = path.open("a", encoding="utf-8")

    def add_completion(self, sample: int, text: str) -> None:
        """Keep what the policy wrote."""
        self.completions[sample] = text
        self._write({"completion": [sample, text]})

    def add_row(self, sample: int, row: Row) -> None:
        """Keep a graded row."""
        self.rows[sample] = row
        self._write({"row": [sample, row]})

    def add_payment(self, key: str | None, usage: ExecutorUsage) -> None:
        """Keep what one reply took; a reply that a kill kept out of the cache is not counted a second time."""
        if self.count_payment(key, usage):
            self._write({"paid": vars(usage), "key": key})

    def count_payment(self, key: str | None, usage: ExecutorUsage) -> bool:
        """Count what one reply took, which a process of the evaluation keeps itself; whether it was new."""
        if key is not None and key in self._paid_for:
            return False
        self.paid += usage
        if key is not None:
            self._paid_for.add(key)
        return True

    def close(self, *, finished: bool) -> None:
        """Close the file; a finished evaluation needs no journal."""
        self._file.close()
        if finished:
            self.path.unlink()

    def _write(self, entry: dict[str, Any]) -> None:
        """Append a line at once: of several processes that write, none is mixed with another's."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _read(self, facts: str) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        if not lines or lines[0] != json.dumps(facts):
            return []
        entries = []
        for line in lines[1:]:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off when the run was killed
            entries.append(entry)
            if "completion" in entry:
                self.completions[entry["completion"][0]] = entry["completion"][1]
            elif "row" in entry:
                self.rows[entry["row"][0]] = entry["row"][1]
            else:
                self.count_payment(entry["key"], ExecutorUsage(**entry["paid"]))
        return entries
