"""One evaluation in parts, on as many machines: `--shard 3/8`, and `--merge` for what one run would have left.

Shards are runs of problems in the evaluation's own order, so that their rows.jsonl one after the other are the whole
one, byte for byte. `shard.json` beside it says of which evaluation it is, with what it was made, and holds what the
rows do not: payments and wall times.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError
from aflow_ops.secrets import without_secrets
from data.files import write_atomically
from scripts.evaluating.journal import fingerprint

MANIFEST = "shard.json"


@dataclass(frozen=True)
class Shard:
    """A part of the problems.

    Args:
        number (`int`): which one, from 1.
        of (`int`): how many there are.
    """

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parsed(cls, text: str) -> "Shard":
        """Read `3/8`, as `argparse` types do.

        Raises:
            ArgumentTypeError: it is not of that form, or there is no such part.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(f"{text!r} must be K/N with K from 1 to N, e.g. 3/8")
        return cls(int(number), int(of))

    def part(self, count: int) -> range:
        """Return which of `count` problems are its own; the parts follow each other and differ in size by one at most.

        Raises:
            UsageError: there are fewer problems than shards.
        """
        if count < self.of:
            raise UsageError(f"--shard {self}: there are {count} problems; use at most so many shards")
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


def write_manifest(
    folder: Path, files: Sequence[str], shard: Shard, facts: object, settings: Mapping[str, Any], **kept: Any
) -> None:
    """Seal a finished shard.

    Args:
        folder (`Path`): of the shard.
        files (`Sequence[str]`): what is merged, and not touched any more.
        shard (`Shard`): which part it is.
        facts (`object`): what tells the whole from other ones; JSON.
        settings (`Mapping[str, Any]`): readable, by flag; to tell what differs between shards that do not fit.
        kept: what merging needs beside the files; JSON.
    """
    manifest = {
        "shard": shard.number,
        "of": shard.of,
        "facts": facts,
        "settings": json.loads(json.dumps(without_secrets(dict(settings)), default=str)),
        "files": {name: _digest(folder / name) for name in files},
        **kept,
    }
    with write_atomically(folder / MANIFEST) as file:
        file.write(json.dumps({**manifest, "seal": fingerprint(manifest)}, indent=1) + "\n")


def read_shards(folders: Sequence[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Read the shards of one evaluation or search, in order.

    Raises:
        UsageError: a folder that is no shard, one that was changed, shards of different runs, one that is missing or
            there twice; says which.
    """
    found = [(folder, _manifest(folder)) for folder in folders]
    (first, whole), *others = found
    for folder, manifest in others:
        for name in sorted({*whole["settings"], *manifest["settings"]}):
            one, other = whole["settings"].get(name), manifest["settings"].get(name)
            if one != other:
                raise UsageError(f"--merge: {folder} was made with --{name} {other}, {first} with {one}")
        if manifest["of"] != whole["of"]:
            raise UsageError(f"--merge: {folder} is one of {manifest['of']} shards, {first} one of {whole['of']}")
        if manifest["facts"] != whole["facts"]:
            raise UsageError(f"--merge: {folder} and {first} are of different problems, workflows or weights")
    numbers: dict[int, Path] = {}
    for folder, manifest in found:
        if manifest["shard"] in numbers:
            raise UsageError(f"--merge: {folder} and {numbers[manifest['shard']]} are both shard {manifest['shard']}")
        numbers[manifest["shard"]] = folder
    if missing := sorted({*range(1, whole["of"] + 1)} - numbers.keys()):
        names = ", ".join(f"{number}/{whole['of']}" for number in missing)
        raise UsageError(f"--merge: shard {names} is missing; give the folders of all shards")
    return sorted(found, key=lambda each: each[1]["shard"])


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seal = manifest.pop("seal")
    except FileNotFoundError:
        raise UsageError(f"--merge: {folder} has no {MANIFEST}: it is no finished shard") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"--merge: {path} cannot be read ({type(error).__name__})") from None
    if seal != fingerprint(manifest):
        raise UsageError(f"--merge: {path} was changed after the shard was finished; run the shard again")
    shard = Shard(manifest["shard"], manifest["of"])
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            raise UsageError(
                f"--merge: {folder / name} is missing; run shard {manifest['shard']}/{manifest['of']} again"
            )
        if _digest(folder / name) != digest:
            raise UsageError(f"--merge: {folder / name} was changed after it was written; run shard {shard} again")
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
