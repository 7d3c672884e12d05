import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from aflow_ops.errors import UsageError
from aflow_ops.language import parse_workflow
from aflow_ops.operators import OPERATORS, load_operators
from data.problem import DataError
from recipes.policy.loading import trained_prompt_style, trained_sources
from recipes.policy.warm_start import ensure_policy, fingerprint_of
from recipes.run.replacing import check_replaceable
from recipes.sft_warmstart import WarmStartArguments, main, warm_start_dataset, warm_start_pairs

OPERATOR = """
from aflow_ops.operators import Operator, register_operator


@register_operator
class Proofread(Operator):
    \"\"\"Look for slips.\"\"\"

    summary = "looks for slips"
    returns = ("mended",)
    main = "mended"
    prompts = {"proofread": {"user": "Mend this: $text", "max_tokens": 64}}

    async def __call__(self, text: str) -> dict[str, str]:
        return {"mended": await self.ask("proofread", text=text)}
"""
CORPUS = """
- name: proofread
  domains: [math]
  form: short
  text: |
    async def workflow(problem):
        result = await proofread(text=problem)
        return result["mended"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with an operator and a workflow that uses it; the operator is forgotten afterwards."""
    before = dict(OPERATORS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proofread.py").write_text(OPERATOR)
    (tmp_path / "mine.yaml").write_text(CORPUS)
    yield tmp_path
    OPERATORS.clear()
    OPERATORS.update(before)


def test_a_folder_with_anything_but_a_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    check_replaceable(tmp_path / "runs")
    check_replaceable(tmp_path / "absent")
    (tmp_path / "runs" / "precious.txt").write_text("here")
    with pytest.raises(UsageError, match="runs exists and holds no model"):
        check_replaceable(tmp_path / "runs")
    (tmp_path / "runs" / "config.json").write_text("{}")
    check_replaceable(tmp_path / "runs")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--resume_from_checkpoint", "auto"), "resume_from_checkpoint"),
        (("--load_in_4bit", "--use_peft", "false"), "use_peft"),
        (("--from_scratch", "--untie_embeddings", "--use_peft"), "no output layer"),
        (("--report_to", "wandbb"), "wandbb"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    flags: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sft_warmstart.py", "--use_cpu", "--bf16", "false", "--dry_run", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, *flags])
    with pytest.raises(UsageError, match=words):
        main()


def arguments(**settings: object) -> WarmStartArguments:
    return WarmStartArguments(sources=["arithmetic"], domain_mix="math=1", num_examples=60, **settings)  # type: ignore[arg-type]


def test_an_operator_of_ones_own_is_named_and_taught(own: Path) -> None:
    load_operators(["proofread.py"])
    pairs = warm_start_pairs(arguments(corpus=["mine.yaml"]), seed=0)
    assert any("await proofread(" in completion for _, completion in pairs)
    assert any("await custom(" in completion for _, completion in pairs)
    for style in ("brief", "full"):
        assert "proofread" in warm_start_dataset(pairs, style)[0]["prompt"][0]["content"]


def test_the_designs_in_the_dsl_are_read_from_any_folder(own: Path) -> None:
    named = arguments(corpus=["data/workflow_corpus_dsl.yaml"], forms=["dsl"])
    taught = {completion for _, completion in warm_start_pairs(named, seed=0)}
    assert {"```python\nProgrammer\n```", "```python\nCustom -> Format\n```"} <= taught, "both files' designs"
    assert not any("async def" in completion for completion in taught)


def test_the_flags_reach_the_warm_start(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--use_cpu", "--bf16", "false", "--dry_run", "--output_dir", "out", "--num_examples", "20"]
    flags += ["--sources", "arithmetic", "--domain_mix", "math=1"]
    monkeypatch.setattr(sys, "argv", ["sft_warmstart.py", *flags, "--corpus", "mine.yaml"])
    with pytest.raises(UsageError, match=r"mine\.yaml: proofread is no math workflow: .*proofread"):
        main()  # nobody said what it is
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--operators", "proofread.py"])
    main()
    assert "20 examples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: a, form: short, domains: [maths], text: x}", "entry 1: domains="),
        ("- {name: a, form: long, domains: [math], text: x}", "form='long'"),
        ("- {name: a, form: short, domains: [math]}", "needs name, form and text"),
        ("name: a", "must be a list"),
        ("[", "cannot be read"),
    ],
)
def test_a_corpus_that_is_none_is_said_with_its_entry(text: str, said: str, own: Path) -> None:
    (own / "mine.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        warm_start_pairs(arguments(corpus=["mine.yaml"]), seed=0)


def test_a_workflow_is_taught_only_as_it_stands(own: Path) -> None:
    (own / "mine.yaml").write_text(CORPUS.replace("await proofread(text", "custom(input").replace("mended", "response"))
    with pytest.raises(UsageError, match="would be taught with a fault"):
        warm_start_pairs(arguments(corpus=["mine.yaml"]), seed=0)


def test_a_runs_operators_reach_its_warm_start(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = own / "warm.yaml"
    config.write_text("corpus: [mine.yaml]\n")
    plain, told = fingerprint_of(config, 1, ()), fingerprint_of(config, 1, ["proofread.py"])
    assert plain != told
    (own / "policy").mkdir()
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):  # the second finds it done
        ensure_policy("policy", str(config), 1, ["proofread.py"])
    (command,) = commands
    assert command[command.index("--operators") + 1] == "proofread.py"
    (own / "mine.yaml").write_text(CORPUS + "\n")
    ensure_policy("policy", str(config), 1, ["proofread.py"])
    assert len(commands) == 2


def test_a_warm_started_policy_knows_its_prompt_and_its_problems(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--from_scratch --vocab_size 320 --hidden_size 64 --num_layers 1 --num_examples 8 --max_steps 1 --seed 3"
    flags += " --sources arithmetic --domain_mix math=1 --prompt_style brief --per_device_train_batch_size 4"
    flags += " --use_cpu --bf16 false --activation_checkpointing false --use_peft false --output_dir policies/tiny"
    flags += " --untie_embeddings --backup_url backup"
    monkeypatch.setattr(sys, "argv", ["sft_warmstart.py", *flags.split()])
    main()
    folder = own / "policies/tiny"
    assert (trained_prompt_style(str(folder)), trained_sources(str(folder))) == ("brief", ["arithmetic"])
    text = (folder / "config.yaml").read_text()
    assert text.startswith("# accelerate launch recipes/sft_warmstart.py --config config.yaml\n")
    settings = yaml.safe_load(text)
    assert (settings["output_dir"], settings["num_examples"]) == ("policies/tiny", 8)
    assert "lm_head.weight" in load_file(folder / "model.safetensors"), "an output layer of its own"
    check_replaceable(folder)
    assert list((own / "backup").rglob("model.safetensors*")), "it is backed up"
    monkeypatch.setattr(sys, "argv", ["sft_warmstart.py", "--config", str(folder / "config.yaml"), "--dry_run"])
    main()  # it makes the same again


def test_an_operator_that_is_left_out_of_a_domain_is_taught_in_the_others() -> None:
    args = WarmStartArguments(
        sources=["arithmetic", "invented_facts", "small_functions"], num_examples=240, forms=["short", "dsl"],
        leave_out=["math:Programmer"],
    )  # fmt: skip
    calls: dict[str, set[str]] = {}
    for problem, text in warm_start_pairs(args, 0):
        workflow = parse_workflow(text, domain=problem.domain, has_entry_point=problem.entry_point is not None)
        calls.setdefault(problem.domain, set()).update(workflow.operators)
    assert "Programmer" not in calls["math"] and "Programmer" in calls["qa"] | calls["code"]
    assert {"Custom", "AnswerGenerate"} <= calls["math"]
    with pytest.raises(ValueError, match="DOMAIN:OPERATOR"):
        WarmStartArguments(leave_out=["Programmer"])
    with pytest.raises(ValueError, match="untie_embeddings is for a policy that is built here"):
        WarmStartArguments(untie_embeddings=True)
