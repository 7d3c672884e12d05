"""The folder that is uploaded: what of a run is published, and that no key is in it."""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import yaml
from httpx2 import HTTPError  # comes with huggingface_hub
from huggingface_hub import ModelCard, get_token

from aflow_ops.errors import UsageError
from aflow_ops.secrets import holds_secret
from recipes.hub.card import BaseModel, CardFacts, model_card, result_rows
from recipes.hub.publication import BASE_FOLDER, Publication, is_repository
from recipes.run.config import CONFIG_FILE, place_of
from recipes.run.role_adapters import NAMES_FILE, RoleAdapters, own_adapters, read_role_adapters
from recipes.run.rollout_log import open_part

HUB_FOLDER = "hub"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
WEIGHT_FILES = ("adapter_config.json", "adapter_model.safetensors")
ADAPTER_FILES = (*WEIGHT_FILES, NAMES_FILE, *TOKENIZER_FILES)
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    *TOKENIZER_FILES,
)
ROLLOUT_FILES = ("rollouts.jsonl", "rollouts-*.jsonl.gz", "heldout.jsonl")
_BLOCK_BYTES = 1 << 20
# Settings files of the libraries: small, and some of them remember where they were loaded from.
_SETTINGS = ("adapter_config.json", "config.json", "generation_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Run:
    """What a run left in its folder, as far as a card and a config need it.

    Args:
        folder (`Path`): `outputs/<run>`.
        adapter (`Mapping[str, Any]`, *optional*): its `adapter_config.json`; `None` for a whole model.
        config (`Mapping[str, Any]`): its `config.yaml`; empty if it has none.
        summary (`Mapping[str, Any]`): its `summary.json`; empty if it has none.
        command (`str`): first line of its `config.yaml`.
        roles (`Mapping[str, str | None]`): the adapter of each role of a team (`recipes/run/role_adapters.py`).
    """

    folder: Path
    adapter: Mapping[str, Any] | None
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    roles: RoleAdapters = field(default_factory=dict)


def read_run(folder: Path) -> Run:
    """Read a run's folder, or that of a merged model.

    Raises:
        UsageError: it has no adapter and no model, a role's is missing, or one of its files is damaged.
    """
    adapter = _read_json(folder / "adapter_config.json")
    weights = "adapter_model.safetensors" if adapter is not None else "model*.safetensors"
    if not folder.is_dir() or not any(folder.glob(weights)):
        raise UsageError(f"{folder} has no adapter and no model: not the folder of a run that was trained to its end")
    roles = read_role_adapters(folder / NAMES_FILE) if adapter is not None else {}
    for name in own_adapters(roles):
        if not all((folder / name / file).is_file() for file in WEIGHT_FILES):
            raise UsageError(f"{folder / name} has no adapter: {NAMES_FILE} says that a role has one there")
    text = (folder / CONFIG_FILE).read_text(encoding="utf-8") if (folder / CONFIG_FILE).is_file() else ""
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{folder / CONFIG_FILE} is not valid YAML: {error}") from None
    command = text.splitlines()[0] if text.startswith("#") else ""
    return Run(folder, adapter, config, _read_json(folder / "summary.json") or {}, command, roles)


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from None
    return found


def stage(run: Run, publication: Publication) -> Path:
    """Write the folder that is uploaded; an earlier one is replaced when the new one is complete.

    Returns:
        `Path`: `RUN_DIR/hub`.

    Raises:
        UsageError: the base model is a local folder that is not there, or a file holds a key.
    """
    target, partial = run.folder / HUB_FOLDER, run.folder / f".{HUB_FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _fill(partial, run, publication)
        refuse_secrets(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fill(folder: Path, run: Run, publication: Publication) -> None:
    """Write everything that is published into an empty folder."""
    _link_files(run.folder, folder, ADAPTER_FILES if run.adapter is not None else MODEL_FILES)
    for name in own_adapters(run.roles):
        (folder / name).mkdir()
        _link_files(run.folder / name, folder / name, WEIGHT_FILES)
    base = _stage_base(run, publication, folder) if run.adapter is not None else None
    settings = {}
    if base is not None and run.config.get("warm_start_config", "none") == "none":  # which builds the base anew
        settings["model_name_or_path"] = base.subfolder or base.repo_id
    config = _write_config(folder, run, **settings)
    if run.summary:
        _write_json(folder / "summary.json", portable(run.summary))
        _write_table(folder / "evaluation.csv", result_rows(run.summary.get("heldout") or {}))
    _link_files(run.folder, folder, ("reward_curve.png", *(ROLLOUT_FILES if publication.include_rollouts else ())))
    origin = base.repo_id if base else str(config.get("model_name_or_path"))
    on_hub = is_repository(origin) and origin != publication.hub_model_id and not Path(origin).is_dir()
    facts = CardFacts(
        hub_model_id=publication.hub_model_id,
        base=base,
        origin=origin if on_hub else None,
        config=config,
        summary=run.summary,
        license={"license": publication.license} if publication.license else license_of(origin) if on_hub else {},
        files=files_of(folder),
        roles=run.roles,
        recipe=recipe_of(run.command),
    )
    model_card(facts).save(folder / "README.md")


def recipe_of(command: str) -> str:
    """Return the recipe's file, as the first line of a `config.yaml` calls it."""
    return next((word for word in command.split() if word.endswith(".py")), "RECIPE.py")


def _write_config(folder: Path, run: Run, **settings: str) -> dict[str, Any]:
    """Write a run's settings, where it has any, as they are published; return them.

    Args:
        folder (`Path`): where to.
        run (`Run`): whose.
        settings: those that are others for whoever downloads it.
    """
    config = published_config(run.config, run.folder.name)
    if config:
        config |= settings
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (folder / CONFIG_FILE).write_text(f"{run.command}\n{text}".lstrip(), encoding="utf-8")
    return config


def files_of(folder: Path) -> list[str]:
    """Return the files of a staged folder, relative to it, in order."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _link_files(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Put files into the staged folder: settings without local paths, everything else as it is, without a copy."""
    for path in sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_file()}):
        if path.name in _SETTINGS:
            _write_json(target / path.name, portable(_read_json(path) or {}))
            continue
        try:
            os.link(path.resolve(), target / path.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, target / path.name)


def _stage_base(run: Run, publication: Publication, folder: Path) -> BaseModel:
    """Find the adapter's base model; a local one goes along, for nobody else has it.

    Raises:
        UsageError: it is a local folder that is not there.
    """
    assert run.adapter is not None
    name = publication.base_model or str(run.config.get("model_name_or_path") or run.adapter["base_model_name_or_path"])
    local = place_of(name, run.folder, "config.json") or Path(name)
    if publication.base_model is None and any(local.glob("model*.safetensors")):
        (folder / BASE_FOLDER).mkdir()
        _link_files(local, folder / BASE_FOLDER, MODEL_FILES)
        _write_config(folder / BASE_FOLDER, read_run(local))
        name = f"{publication.hub_model_id}/{BASE_FOLDER}"
        base = BaseModel(name, publication.hub_model_id, BASE_FOLDER)
    elif is_repository(name):
        revision = None if publication.base_model else run.config.get("model_revision")
        base = BaseModel(name, name, revision=None if revision == "main" else revision)
    else:
        raise UsageError(
            f"the base model {name} is no folder with a model here, and no name on the Hub; where is it there? "
            "--base_model NAME"
        )
    for place in (folder, *(folder / name for name in own_adapters(run.roles))):
        path = place / "adapter_config.json"
        _write_json(path, {**(_read_json(path) or {}), "base_model_name_or_path": base.name})
    return base


def license_of(repo_id: str) -> dict[str, str]:
    """Return the license fields of a model's card on the Hub, or of its cached copy; none when neither can be had."""
    try:
        data = ModelCard.load(repo_id, ignore_metadata_errors=True).data.to_dict()
    except (OSError, HTTPError, ValueError):
        return {}
    return {name: data[name] for name in ("license", "license_name", "license_link") if isinstance(data.get(name), str)}


def published_config(config: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Return a run's settings without what only holds on its machine: absolute paths, a private endpoint's address."""
    found = {name: portable(value) for name, value in config.items() if name != "executor_cache_dir"}
    if config.get("executor_cache_dir") == "none":
        found["executor_cache_dir"] = "none"
    if "output_dir" in found:
        found["output_dir"] = f"outputs/{run}"
    urls = [_public_url(url) for url in str(found.pop("executor_base_url", None) or "").split(",") if url.strip()]
    if urls and all(urls):
        found["executor_base_url"] = ",".join(url for url in urls if url)
    return found


def _public_url(url: str) -> str | None:
    """An address that others can reach, without the user, the password and the query that it may hold."""
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    if "." not in host or host.endswith((".local", ".internal", ".lan")) or host.replace(".", "").isdigit():
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def portable(value: Any) -> Any:
    """Return JSON-like data with every absolute path in it made relative to this folder, or cut to its last part."""
    if isinstance(value, Mapping):
        return {name: portable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(item) for item in value]
    if not isinstance(value, str) or not value.startswith(("/", "~")) or "\n" in value:
        return value
    path = Path(value).expanduser()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def refuse_secrets(folder: Path) -> None:
    """Make sure that no key is in a staged folder: none of a known kind, of this process, or of the Hub's login.

    Raises:
        UsageError: names the file.
    """
    token = get_token()
    for name in files_of(folder):
        if name.endswith((".safetensors", ".png")):
            continue
        with open_part(folder / name) as file:
            for first, block in _blocks(file):
                if _has_key(block, token):
                    lines = enumerate(block.splitlines(), start=first)
                    number = next((number for number, line in lines if _has_key(line, token)), first)
                    raise UsageError(f"{name}, line {number}, holds what looks like a key; nothing was uploaded")


def _blocks(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield blocks of lines as text, with their first line's number; asking line by line would take long."""
    first = 1
    while lines := file.readlines(_BLOCK_BYTES):
        yield first, b"".join(lines).decode("utf-8", "replace")
        first += len(lines)


def _has_key(text: str, token: str | None) -> bool:
    return holds_secret(text) or (token is not None and token in text)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if rows:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
                for row in rows
            )
