"""Telling rows that are the same, nearly the same, or in the test set: in a small database on disk, not in memory.

- the same: equal text after lower-casing, without punctuation and extra spaces, but with the signs of formulas;
- nearly the same: Jaccard similarity of the questions' shingles of 3, estimated by MinHash (Broder, 1997) with
  locality-sensitive banding; only of questions about the same passage, with the same numbers and the same gold answer
  (programs aside, where each solution is different), for one word can turn a long question into another;
- contaminated: shares a run of 13 words with a test question (Brown et al., 2020, arXiv:2005.14165, appendix C).
"""

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from data.domains import domain_row
from data.problem import Problem

NGRAM_WORDS = 13
SHINGLE_WORDS = 3
# 64 hashes in 16 bands of 4: rows with similarity 0.85 meet in some band with probability 0.99999.
HASHES, BANDS = 64, 16
_PRIME = np.uint64(2**31 - 1)
_RANDOM = np.random.default_rng(13)
_FACTORS = _RANDOM.integers(1, 2**31 - 1, HASHES, dtype=np.uint64)
_OFFSETS = _RANDOM.integers(0, 2**31 - 1, HASHES, dtype=np.uint64)
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Words, numbers and signs that are more than punctuation: 3 - 5 is not 3 + 5, nor 5! or f'(x) the same as 5 and f(x).
_TOKEN = re.compile(rf"{_NUMBER.pattern}|\w+|(?<=[\d)])!|(?<=\w)'+(?=\()|[^\w\s.,;:!?$\"'“”‘’]")


def words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def tokens(text: str) -> list[str]:
    """Words, numbers and the signs of formulas in lower case, without punctuation."""
    return _TOKEN.findall(text.lower())


def minhash(shingles: set[int]) -> NDArray[np.uint64]:
    """MinHash signature of a set of 31-bit numbers, shape (64,)."""
    values = np.fromiter(shingles, dtype=np.uint64, count=len(shingles))[:, None]
    signature: NDArray[np.uint64] = ((values * _FACTORS + _OFFSETS) % _PRIME).min(axis=0)
    return signature


class Fingerprints:
    """Remembers rows by their fingerprints. A context manager; the database is gone with it.

    Args:
        threshold (`float`): similarity in (0, 1] from which two rows are nearly the same; above 1 none is.
    """

    def __init__(self, threshold: float = 0.85) -> None:
        self.threshold = threshold

    def __enter__(self) -> "Fingerprints":
        self._folder = TemporaryDirectory(prefix="aflow-recipes-")
        self._database = sqlite3.connect(Path(self._folder.name) / "fingerprints.db")
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE seen (hash INTEGER PRIMARY KEY);"
            "CREATE TABLE grams (hash INTEGER PRIMARY KEY);"
            "CREATE TABLE signatures (row INTEGER PRIMARY KEY, signature BLOB);"
            "CREATE TABLE bands (hash INTEGER, row INTEGER);"
            "CREATE INDEX by_band ON bands (hash);"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def seen(self, problem: Problem) -> bool:
        """Whether a row with the same text was here before; remembers this one."""
        text = "\x1f".join(" ".join(tokens(part)) for part in (problem.question, problem.context or ""))
        done = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_hash(text),))
        return done.rowcount == 0

    def nearly_seen(self, problem: Problem) -> bool:
        """Whether a row that is nearly the same was here before; remembers this one only if not."""
        if self.threshold > 1:
            return False
        shingles = {_hash(text) & 0x7FFFFFFF for text in _runs(tokens(problem.question), SHINGLE_WORDS)}
        if not shingles:
            return False
        signature = minhash(shingles)
        golds = () if domain_row(problem.domain).has_tests else problem.golds
        same = "\x1f".join([problem.context or "", *_NUMBER.findall(problem.question), "", *golds])
        keys = [
            _hash(f"{band}\x1f{same}\x1f{part.tobytes().hex()}") for band, part in enumerate(np.split(signature, BANDS))
        ]
        for (blob,) in self._database.execute(
            "SELECT signature FROM signatures WHERE row IN "
            f"(SELECT row FROM bands WHERE hash IN ({','.join('?' * len(keys))}))",
            keys,
        ):
            if float(np.mean(np.frombuffer(blob, dtype=np.uint64) == signature)) >= self.threshold:
                return True
        row = self._database.execute("INSERT INTO signatures (signature) VALUES (?)", (signature.tobytes(),)).lastrowid
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(key, row) for key in keys])
        return False

    def add_test(self, problem: Problem) -> bool:
        """Remember a test question in all three ways; returns whether a row with the same text was here before."""
        grams = [(_hash(gram),) for gram in _long_runs(problem)]
        self._database.executemany("INSERT OR IGNORE INTO grams VALUES (?)", grams)
        self.nearly_seen(problem)
        return self.seen(problem)

    def contaminated(self, problem: Problem) -> bool:
        """Whether the row's question shares 13 words in a row with a test question."""
        return any(
            self._database.execute("SELECT 1 FROM grams WHERE hash = ?", (_hash(gram),)).fetchone()
            for gram in _long_runs(problem)
        )


def _long_runs(problem: Problem) -> Iterator[str]:
    found = words(problem.question)
    return _runs(found, NGRAM_WORDS) if len(found) >= NGRAM_WORDS else iter(())


def _runs(found: list[str], size: int) -> Iterator[str]:
    """Runs of `size` words; one of fewer words when there are no more."""
    for start in range(max(1, len(found) - size + 1) if found else 0):
        yield " ".join(found[start : start + size])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True)
