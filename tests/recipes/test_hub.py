"""Publishing a run, against a real HTTP server that speaks the Hub's protocol."""

import dataclasses
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants

from aflow_ops.domains import domain_prompt
from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from aflow_ops.policy_prompt import policy_messages
from data.domains import DOMAINS
from data.problem import ProblemView
from data.registry import SOURCES
from recipes import grpo_mixed
from recipes.hub.card import describe_source
from recipes.hub.publication import HubError, Publication
from recipes.hub.publish import publish
from recipes.hub.staging import portable, published_config, read_run, stage
from recipes.policy.generation import generate_completions
from recipes.policy.loading import base_model_of, load_policy, trained_prompt_style
from recipes.run.command import run_command
from recipes.run.config import changed_settings, read_config, write_config
from recipes.settings.layers import CONFIGS
from recipes.settings.parse import parse_arguments
from recipes.training.agent_adapters import use_role_adapters
from recipes.training.trainer import WorkflowGRPOTrainer
from tests import commands
from tests.conftest import KEY
from tests.fake_hub import NOWHERE, TOKEN, FakeHub, use_hub
from tests.recipes.finished_run import GOLD, give_roles, save_base, save_run
from tests.recipes.test_grpo_replay import flags as replay_flags
from tests.recipes.test_grpo_replay import run as replay_run
from tests.recipes.test_training_signals import tiny_config
from tests.recipes.tiny_run import COMPLETIONS, given_completions, make_trainer
from tests.stub_endpoint import StubEndpoint

ROOT = Path(__file__).parents[2]
NAME = "you/designer"
PUBLISHED = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "base_model/chat_template.jinja",
    "base_model/config.json", "base_model/generation_config.json", "base_model/model.safetensors",
    "base_model/tokenizer.json", "base_model/tokenizer_config.json", "chat_template.jinja", "config.yaml",
    "evaluation.csv", "reward_curve.png", "summary.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    save_run(folder, save_base(folder / "base"))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as server:
        use_hub(monkeypatch, server.url, tmp_path / "hf", TOKEN)
        yield server


def push_script(*arguments: object, hub: FakeHub | None = None, token: str | None = TOKEN) -> commands.Done:
    """`scripts/push_to_hub.py` as a user runs it who was never there before."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        use_hub(patch, hub.url if hub else NOWHERE, Path(home), token)
        return commands.run("scripts/push_to_hub.py", *arguments)


def fails(done: commands.Done, code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    for word in words:
        assert word in done.stderr
    assert TOKEN not in done.stderr + done.stdout


# what is published


def test_only_what_is_on_the_list_is_published_and_nothing_of_this_machine_in_it(made: Path, run: Path) -> None:
    folder = stage(read_run(run), Publication(NAME))
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(files) == PUBLISHED
    for name, path in files.items():
        content = path.read_bytes()
        for leak in (KEY, GOLD, "secret", "10.1.2.3", str(made), str(Path.home()) + "/", "/tmp/", "/work/"):
            assert leak.encode() not in content, (name, leak)
    config = yaml.safe_load(files["config.yaml"].read_text())
    assert config["sources"] == ["arithmetic", "squad", "mine.jsonl"]
    assert config["model_name_or_path"] == "base_model"
    assert files["config.yaml"].read_text().startswith("# accelerate launch recipes/grpo_mixed.py --config config.yaml")
    table = files["evaluation.csv"].read_text().splitlines()
    assert table[-1] == "all,6,0.2,0.7,0.5,0.5,0.5,1.0,1.0,Revise,0.5"
    assert not (run / ".hub.partial").exists()


def test_the_card_is_whole_and_its_metadata_is_the_hubs(run: Path) -> None:
    text = (stage(read_run(run), Publication(NAME, license="apache-2.0")) / "README.md").read_text()
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag, data.language) == (
        "apache-2.0", "peft", "text-generation", "en",
    )  # fmt: skip
    assert data.base_model is None  # its base is on no hub but in the repository itself
    assert data.datasets == ["rajpurkar/squad_v2"]
    assert {"aflow", "grpo", "trl"} <= set(data.tags)
    assert data.model_name == "designer"
    rewards = {
        result.dataset_type: result.metric_value for result in data.eval_results if "reward" in result.metric_type
    }
    assert rewards == {"aflow-heldout-all": 0.7, "aflow-heldout-math": 0.7, "aflow-heldout-qa": 0.7}
    assert yaml.safe_load(text.split("---\n")[1])["model-index"][0]["name"] == "designer"
    for said in ("+0.500 | [+0.500, +0.500]", "0.500 `Revise`", "| `Custom` | 0.400 |", "`some-model`", "## Limits",
                 "| the best of each domain | 0.500 | +0.200 | [+0.200, +0.200] |",
                 "`apache-2.0`", "reward_curve.png", "mine.jsonl", 'style="brief"'):  # fmt: skip
        assert said in text, said
    assert "{{" not in text and "{%" not in text and "None" not in text


@pytest.mark.parametrize("domain", [*DOMAINS, "spelling"])
def test_the_card_shows_a_problem_of_a_domain_that_the_policy_was_trained_on(domain: str, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["heldout"]["by_domain"] = {domain: summary["heldout"]["by_domain"]["math"]}
    (run / "summary.json").write_text(json.dumps(summary))
    text = (stage(read_run(run), Publication(NAME)) / "README.md").read_text()
    shown: ProblemView = eval(text.split("\nproblem = ")[1].split("\n")[0])
    assert shown.domain == domain
    assert domain not in DOMAINS or shown.question == domain_prompt(domain).sample.question
    command = text.split("python scripts/run_workflow.py ")[1].split("\n```")[0]
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    flags = words.stdout.splitlines()
    assert flags[flags.index("--question") + 1] == shown.question
    assert ("--domain" in flags) == (domain != "math") and ("--context_file" in flags) == (shown.context is not None)


def test_the_card_says_what_every_embedded_source_is() -> None:
    assert [name for name in SOURCES if "own problems" in describe_source(name)] == []
    assert "the trainer's own problems" in describe_source("mine.jsonl")


def test_a_base_on_the_hub_is_named_with_its_license_and_not_sent_along(run: Path, hub: FakeHub) -> None:
    base = Publication(NAME, base_model="owner/base")
    publish(run, Publication("owner/base", license="other-license"))  # a model with a card that has a license
    folder = stage(read_run(run), base)
    data = ModelCard.load(folder / "README.md").data
    assert (data.base_model, data.license) == ("owner/base", "other-license")
    assert not (folder / "base_model").exists()
    assert base_model_of(str(folder)) == "owner/base"
    assert yaml.safe_load((folder / "config.yaml").read_text())["model_name_or_path"] == "owner/base"


def test_a_run_without_results_or_settings_is_published_as_what_it_is(run: Path) -> None:
    (run / "summary.json").unlink(), (run / "config.yaml").unlink(), (run / "reward_curve.png").unlink()
    folder = stage(read_run(run), Publication(NAME))
    text = (folder / "README.md").read_text()
    assert "No held-out evaluation" in text and "model-index" not in text and "None" not in text
    assert not (folder / "config.yaml").exists()


def test_rollouts_go_along_only_when_asked_and_never_with_a_key(run: Path) -> None:
    asked = Publication(NAME, include_rollouts=True)
    with pytest.raises(UsageError, match=r"rollouts.jsonl, line 1, holds what looks like a key"):
        stage(read_run(run), asked)
    assert not (run / "hub").exists() and not (run / ".hub.partial").exists()
    part = run / "rollouts-00001.jsonl.gz"
    part.write_bytes(gzip.compress((run / "rollouts.jsonl").read_bytes()))
    (run / "rollouts.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"rollouts-00001.jsonl.gz, line 1, holds what looks like a key"):
        stage(read_run(run), asked)
    part.write_bytes(gzip.compress(b"{}\n"))
    files = {"rollouts-00001.jsonl.gz", "rollouts.jsonl", "heldout.jsonl"}
    assert files <= {path.name for path in stage(read_run(run), asked).iterdir()}
    again = stage(read_run(run), Publication(NAME))
    assert not files & {path.name for path in again.iterdir()}


def test_paths_and_private_addresses_stay_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert portable({"a": [f"{tmp_path}/x/y", "/elsewhere/z", "~/w", "a/b", 1]}) == {"a": ["x/y", "z", "w", "a/b", 1]}
    public = "https://key:word@api.example.com:8443/v1?token=1"
    assert published_config({"executor_base_url": public}, "r") == {
        "executor_base_url": "https://api.example.com:8443/v1"
    }
    for private in ("http://localhost:8000/v1", "http://gpu7/v1", "http://10.0.0.1/v1", "http://llm.corp.internal/v1"):
        assert published_config({"executor_base_url": private}, "r") == {}


# the way there and back


def completion_of(model: Any, tokenizer: Any) -> str:
    prompt = policy_messages(ProblemView("What is 6 * 7?", "math"), "brief")
    return generate_completions(model, tokenizer, [prompt], max_new_tokens=8, temperature=0)[0]


def test_what_was_pushed_is_loaded_from_the_hub_and_writes_the_same(made: Path, run: Path, hub: FakeHub) -> None:
    assert publish(run, Publication(NAME, private=True)) == f"{hub.url}/{NAME}"
    repository = hub.repositories[NAME]
    assert set(repository.files) == PUBLISHED
    assert repository.private
    assert repository.files["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()
    assert base_model_of(NAME) == f"{NAME}/base_model"
    assert trained_prompt_style(NAME) == "brief"
    there = completion_of(*load_policy(f"{NAME}/base_model", NAME))
    here = completion_of(*load_policy(str(made / "base"), str(run)))
    assert there == here != completion_of(*load_policy(str(made / "base")))


def test_every_role_has_its_adapter_on_the_hub_too(made: Path, run: Path, hub: FakeHub) -> None:
    write_config(run, "recipes/math_tool.py", read_config(run) or {})
    give_roles(run, analyzer="default", executor="executor", verifier=None)
    publish(run, Publication(NAME))
    files = hub.repositories[NAME].files
    own = {"agents.json", "executor/adapter_config.json", "executor/adapter_model.safetensors"}
    assert set(files) == PUBLISHED | own
    assert json.loads(files["executor/adapter_config.json"])["base_model_name_or_path"] == f"{NAME}/base_model"
    card = files["README.md"].decode()
    for said in ("plays the agents of a team", "| `executor` | `executor/` |", "`verifier` | none: the base model",
                 f"run_agents.py recipes/math_tool.py --question \"...\" --model {NAME}/base_model --adapter {NAME}",
                 "untrained roles | trained", "+0.500"):  # fmt: skip
        assert said in card, said
    assert "valid" not in card and "None" not in card and "multi-agent" in ModelCard(card).data.tags

    tokens = torch.arange(30)[None]
    logits = {}
    for place, base in ((str(run), str(made / "base")), (NAME, f"{NAME}/base_model")):
        model, _ = load_policy(base, place)
        use = use_role_adapters(model, place)
        for role in ("verifier", "executor", "analyzer"):
            with use(role), torch.no_grad():
                logits[place, role] = model(tokens).logits
    for role in ("verifier", "executor", "analyzer"):
        assert torch.equal(logits[NAME, role], logits[str(run), role]), role
    with torch.no_grad():
        assert torch.equal(logits[NAME, "verifier"], load_policy(str(made / "base"))[0](tokens).logits)
    assert not torch.allclose(logits[NAME, "executor"], logits[NAME, "analyzer"])

    (run / "executor" / "adapter_model.safetensors").unlink()
    with pytest.raises(UsageError, match="executor has no adapter"):
        read_run(run)
    (run / "agents.json").write_text('{"adapters": {"executor": "../elsewhere"}}')
    with pytest.raises(UsageError, match="elsewhere' is no name of an adapter"):
        read_run(run)


@pytest.mark.long
def test_the_snippet_of_the_card_writes_a_workflow(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    publish(run, Publication(NAME))
    text = hub.repositories[NAME].files["README.md"].decode()
    snippet = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert names["workflow"] and capsys.readouterr().out == names["workflow"] + "\n"
    assert names["output"].shape[1] <= names["inputs"]["input_ids"].shape[1] + 12


@pytest.mark.parametrize("broken", ["PUT /lfs/", "POST /api/models/you/designer/commit/main"])
def test_a_push_that_broke_off_is_repeated_and_sends_only_what_is_missing(broken: str, run: Path, hub: FakeHub) -> None:
    method, path = broken.split()
    hub.refuse = lambda m, p: 413 if m == method and p.startswith(path) else None
    with pytest.raises(HubError, match="you/designer was not pushed: the Hub answered 413"):
        publish(run, Publication(NAME))
    assert not hub.repositories[NAME].files
    hub.refuse = lambda m, p: None
    hub.requests.clear()
    publish(run, Publication(NAME))
    assert set(hub.repositories[NAME].files) == PUBLISHED
    sent = [request for request in hub.requests if request[0] == "PUT"]
    assert len(sent) == (3 if method == "PUT" else 0)


def test_push_to_hub_says_what_is_wrong(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    push = [run, "--hub_model_id", NAME]
    fails(push_script(*push, hub=hub, token=None), 2, "HF_TOKEN", "hf auth login")
    fails(push_script(*push, hub=hub, token=TOKEN[:-1] + "x"), 1, "does not accept the token (401)")
    hub.refuse = lambda method, path: 403 if path == "/api/repos/create" else None
    fails(push_script(*push, hub=hub), 1, "may not write there (403)")
    hub.refuse = lambda method, path: None
    fails(push_script(*push), 1, "http://127.0.0.1:9 cannot be reached")
    fails(push_script(tmp_path / "absent", "--hub_model_id", NAME), 2, "absent has no adapter")
    fails(push_script(run, "--hub_model_id", "designer"), 2, "must be of the form you/name")
    config = json.loads((run / "adapter_config.json").read_text())
    (run / "config.yaml").unlink()
    (run / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/base"}))
    fails(push_script(*push, hub=hub), 2, "/gone/base", "--base_model")
    assert not hub.repositories


def test_a_dry_run_needs_neither_token_nor_network_and_shows_the_files(run: Path, hub: FakeHub) -> None:
    done = push_script(run, "--hub_model_id", NAME, "--dry_run", token=None)
    assert done.returncode == 0, done.stderr
    assert {str(Path(line.split()[-1]).relative_to(run / "hub")) for line in done.stdout.splitlines()} == PUBLISHED
    assert push_script(run, "--hub_model_id", NAME, hub=hub).stdout == f"pushed to {hub.url}/{NAME}\n"
    assert set(hub.repositories[NAME].files) == PUBLISHED


# from a recipe


@pytest.mark.parametrize("name", ["quickstart", "grpo_code"])
def test_the_effective_settings_make_the_same_run(name: str, tmp_path: Path) -> None:
    flags = ["--executor", "local", "--use_cpu", "true", "--bf16", "false", "--seed", "7", "--lora_dropout", "0.05"]
    flags += ["--hub_model_id", "you/x", "--per_device_train_batch_size", "8", "--num_generations", "8"]
    args = parse_arguments(f"{name}.yaml", "", ["--config", str(CONFIGS / f"{name}.yaml"), *flags])
    script = f"recipes/{name}.py"
    write_config(tmp_path, script, args.config(script).chosen)
    text = (tmp_path / "config.yaml").read_text()
    assert "hub_" not in text
    again = parse_arguments(f"{name}.yaml", "", ["--config", str(tmp_path / "config.yaml")])
    for part in ("recipe", "model", "executor"):
        assert getattr(again, part) == getattr(args, part)
    given, found = (dataclasses.asdict(parsed.training) for parsed in (args, again))
    own = ("hub_model_id", "accelerator_config", "logging_dir", "distributed_state")
    assert {k: v for k, v in given.items() if k not in own} == {k: v for k, v in found.items() if k not in own}
    before = read_config(tmp_path)
    assert before is not None
    assert changed_settings(before, again.config(script)) == []
    again.training.learning_rate, again.recipe.prompt_style = 5e-3, "json"
    changed = changed_settings(before, again.config(script))
    assert {words.partition(" ")[0] for words in changed} == {"prompt_style", "learning_rate"}
    assert any(words.endswith(" -> 0.005") for words in changed)


def test_the_trainers_own_push_gives_the_same_files(config: ExecutorConfig, hub: FakeHub, tmp_path: Path) -> None:
    changes = {"push_to_hub": True, "hub_model_id": NAME, "save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    trainer = make_trainer(config, tmp_path / "run", **changes)
    trainer._generate_single_turn = given_completions(trainer, COMPLETIONS)
    trainer.train()
    assert not hub.repositories  # no checkpoint was pushed
    trainer.model.peft_config["default"].base_model_name_or_path = str(save_base(tmp_path / "base"))
    trainer.push_to_hub()
    trainer.close()
    expected = PUBLISHED - {"config.yaml", "evaluation.csv", "reward_curve.png", "summary.json"}
    assert set(hub.repositories[NAME].files) == expected
    assert b"It is a PEFT adapter" in hub.repositories[NAME].files["README.md"]


def recipe(monkeypatch: pytest.MonkeyPatch, trainer: type[WorkflowGRPOTrainer], *flags: object) -> int:
    monkeypatch.setattr(sys, "argv", ["grpo_mixed.py", *map(str, flags)])
    monkeypatch.setattr(grpo_mixed, "WorkflowGRPOTrainer", trainer)
    return run_command(grpo_mixed.main)


class GivenTrainer(WorkflowGRPOTrainer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._generate_single_turn = given_completions(self, COMPLETIONS)


def test_a_push_that_fails_at_the_end_loses_nothing_and_says_how_to_repeat_it(
    stub: StubEndpoint, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    flags = ["--config", tiny_config(tmp_path), "--executor", "openai", "--executor_base_url", stub.url]
    flags += ["--max_steps", 1, "--push_to_hub", "true", "--hub_model_id", NAME, "--hub_private_repo", "true"]
    hub.refuse = lambda method, path: 403 if path.endswith("/preupload/main") else None
    code = recipe(monkeypatch, GivenTrainer, *flags)
    error, out = capsys.readouterr().err, tmp_path / "run"
    assert code == 1, error
    again = f"python scripts/push_to_hub.py {out} --hub_model_id {NAME} --private"
    assert f"(403): use one with write access, or a --hub_model_id of your own; everything is saved in {out}" in error
    assert error.strip().endswith(again)
    assert (out / "adapter_model.safetensors").is_file() and (out / "summary.json").is_file()
    hub.refuse = lambda method, path: None
    done = push_script(*again.split()[2:], hub=hub)
    assert done.returncode == 0, done.stderr
    assert set(hub.repositories[NAME].files) == PUBLISHED
    assert hub.repositories[NAME].private


def test_a_recipe_that_cannot_push_does_not_start(
    stub: StubEndpoint, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    flags = ["--config", tiny_config(tmp_path), "--executor", "openai", "--executor_base_url", stub.url]
    flags += ["--push_to_hub", "true"]

    def refused(code: int, word: str, *more: str) -> None:
        assert recipe(monkeypatch, GivenTrainer, *flags, *more) == code
        assert word in capsys.readouterr().err
        assert not (tmp_path / "run").exists()

    refused(2, "--hub_model_id you/name")
    refused(2, "must be of the form you/name", "--hub_model_id", "designer")
    refused(2, "HF_TOKEN", "--hub_model_id", NAME, "--hub_token", TOKEN)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused(1, "(401)", "--hub_model_id", NAME)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    refused(2, "no token for the Hub", "--hub_model_id", NAME)


def test_the_adapter_of_the_tests_changes_the_policy(made: Path) -> None:
    weights = [load_policy(str(made / "base"), adapter)[0] for adapter in (None, str(made / "run"))]
    tokens = torch.arange(8)[None]
    plain, adapted = (model(tokens).logits for model in weights)
    assert not torch.allclose(plain, adapted, atol=0.05)


# runs on trajectories


def test_a_run_on_trajectories_is_pushed_by_the_script_and_loaded_again(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay_run(monkeypatch, replay_flags(tmp_path, "run", "--max_steps", "1")) == 0
    done = push_script(tmp_path / "run", "--hub_model_id", NAME, hub=hub)
    assert done.returncode == 0, done.stderr
    model, tokenizer = load_policy(base_model_of(NAME), NAME)
    local, _ = load_policy(str(tmp_path / "base"), str(tmp_path / "run"))
    prompt = [policy_messages(ProblemView("What is 1 + 1?", "math"), "brief")]
    texts = [generate_completions(each, tokenizer, prompt, max_new_tokens=16, temperature=0) for each in (model, local)]
    assert texts[0] == texts[1]
    card = ModelCard.load(NAME).content
    assert "with GRPO on trajectories" in card and "gsm_symbolic" not in card
    assert trained_prompt_style(NAME) == "brief"
