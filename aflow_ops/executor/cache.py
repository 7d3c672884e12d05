"""The response cache: one small SQLite database, shared by all processes of a run and by later runs.

A key covers everything that decides a reply: who answers, model, messages, sampling parameters, and the sample
index unless the temperature is 0. Values are JSON text, never pickles.
"""

import hashlib
import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

from diskcache import Cache, JSONDisk, Timeout

from aflow_ops.executor.transport import Call, Completion

# Part of every key: raised when the meaning of an entry changes.
VERSION = 2
SIZE_LIMIT_BYTES = 2 * 2**30


def cache_key(identity: str, model: str, call: Call, sample: int) -> str:
    """Return the key of a request, a hex digest.

    Args:
        identity (`str`): who answers: two servers of one model name share nothing.
        model (`str`): the model's name there.
        call (`Call`): the request.
        sample (`int`): tells equal requests apart that must be different samples; above temperature 0 only.
    """
    request = {
        "version": VERSION,
        "identity": identity,
        "model": model,
        "messages": [[message["role"], message["content"]] for message in call.messages],
        "temperature": float(call.temperature),
        "max_tokens": call.max_tokens,
        "stop": list(call.stop),
        "sample": sample if call.temperature > 0 else 0,
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class ResponseCache:
    """Replies on disk, safe for several processes, least recently stored dropped first.

    Args:
        folder (`Path`): created when missing.

    Raises:
        OSError: it cannot be opened; says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.dropped = 0
        try:
            self._cache = Cache(
                str(folder), disk=JSONDisk, size_limit=SIZE_LIMIT_BYTES, eviction_policy="least-recently-stored"
            )
        except (sqlite3.DatabaseError, OSError) as error:
            raise OSError(
                f"{folder}: the response cache cannot be opened ({error}); free some space or remove it, or choose "
                "another --executor_cache_dir ('none' for none)"
            ) from error

    def get(self, key: str) -> Completion | None:
        """Return the reply stored under a key; an entry that cannot be read is dropped."""
        try:
            entry: Any = self._cache.get(key)
            if entry is None:
                return None
            tokens = tuple((int(token), float(value)) for token, value in entry[3]) if len(entry) > 3 else None
            return Completion(str(entry[0]), int(entry[1]), int(entry[2]), tokens)
        except Timeout:
            return None
        except (ValueError, TypeError, IndexError, KeyError, OSError, zlib.error, sqlite3.DatabaseError):
            self._drop(key)
            return None

    def put(self, key: str, reply: Completion) -> None:
        """Store a reply. A full disk or a busy database costs the entry, not the run."""
        try:
            tokens = [] if reply.tokens is None else [reply.tokens]
            self._cache.set(key, [reply.text, reply.prompt_tokens, reply.completion_tokens, *tokens])
        except (Timeout, OSError, sqlite3.DatabaseError):
            return

    def statistics(self) -> dict[str, int]:
        """Return how much is stored, by all runs, and how many broken entries this process met."""
        try:
            return {"entries": len(self._cache), "bytes": self._cache.volume(), "dropped": self.dropped}
        except (Timeout, OSError, sqlite3.DatabaseError):
            return {"entries": 0, "bytes": 0, "dropped": self.dropped}

    def _drop(self, key: str) -> None:
        self.dropped += 1
        try:
            self._cache.delete(key)
        except (Timeout, OSError, sqlite3.DatabaseError):
            return

    def close(self) -> None:
        """Close the database."""
        self._cache.close()
