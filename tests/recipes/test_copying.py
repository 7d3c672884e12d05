"""What a team's tiny policy needs to copy: pieces that stay the same, attention that copies, conversations taught."""

import asyncio
import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from aflow_ops.errors import UsageError
from aflow_ops.executor.types import Message
from aflow_ops.sandbox import Sandbox
from data.invented_facts import ANIMALS, COLOURS, FIRST_NAMES, GOODS, JOBS
from data.invented_worlds import chains_of, invented_worlds
from data.registry import load_problems
from recipes.agents_warmstart import Turn, conversation_rows, copied_words, last_turns, scripted_turns
from recipes.agents_warmstart import main as warm_start_main
from recipes.policy.generation import generate_completions
from recipes.policy.search_qa_script import SearchQAScript
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.search_qa import ROLES, search_team
from recipes.settings.layers import CONFIGS

ASKED = ["In which town does Mila Torvan live?", "What colour is the car of Mila Torvan?"]
TOLD = ["[p13] Mila Torvan lives in Quorby.", "The home of Mila Torvan is in Quorby."]


def chat(*texts: str) -> list[Message]:
    """A system message, then what was told and said in turn."""
    system: Message = {"role": "system", "content": "You answer."}
    turns: list[Message] = [
        {"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)
    ]
    return [system, *turns]


TURNS: list[Turn] = [
    (chat(ASKED[0]), "Mila Torvan lives home"),
    (chat(ASKED[0], "Mila Torvan lives home", TOLD[0]), "Quorby lies"),
    (chat(ASKED[1]), "[]"),
    (chat(TOLD[0]), "[p13]"),
    (chat(TOLD[1]), "ANSWER: Quorby"),
]


def test_a_word_that_is_kept_apart_is_the_same_pieces_wherever_it_stands() -> None:
    texts = [*ASKED, *TOLD, "Mila Torvan lives home", "ANSWER: Quorby", "[p13]"] * 50
    words = ["Mila", "Torvan", "Quorby", "p13"]
    tokenizer = train_tokenizer(texts, 700, words)
    for word in ("Mila Torvan", "Quorby", "p13"):
        pieces = tokenizer.encode(word)
        for text in (text for text in texts if word in text):
            ids = tokenizer.encode(text)
            assert pieces in [ids[at : at + len(pieces)] for at in range(len(ids))], (word, tokenizer.tokenize(text))
    assert len(tokenizer.encode("Quorby")) == len(tokenizer.encode("p13")) == 1
    assert len(tokenizer.encode("42")) == 2, "other numbers are read digit by digit"
    cut_anyhow = train_tokenizer(texts, 700)
    assert cut_anyhow.encode("Mila Torvan")[0] not in cut_anyhow.encode(ASKED[0])


def test_what_is_said_only_after_it_was_told_counts_as_copied() -> None:
    assert set(copied_words(TURNS)) == {"Mila", "Torvan", "Quorby", "p13"}


def test_a_conversation_is_taught_once_and_what_its_agent_was_told_is_not(tmp_path: Path) -> None:
    last = last_turns(TURNS)
    assert last == TURNS[1:]
    tokenizer = train_tokenizer([message["content"] for messages, _ in TURNS for message in messages], 400)
    trainer = SFTTrainer(
        model=build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=256, seed=0),
        args=SFTConfig(output_dir=str(tmp_path), assistant_only_loss=True, use_cpu=True, bf16=False, report_to="none"),
        train_dataset=conversation_rows(last),
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([trainer.train_dataset[0]])
    own = batch["input_ids"][batch["labels"] != -100]
    assert tokenizer.decode(own) == "Mila Torvan lives home<|im_end|>Quorby lies<|im_end|>"
    whole = tokenizer.apply_chat_template(chat(ASKED[0], "Mila Torvan lives home", TOLD[0], "Quorby lies"))
    assert batch["input_ids"][0].tolist() == list(whole["input_ids"])


def test_attention_that_starts_copying_makes_what_stands_there_likelier() -> None:
    tokenizer = train_tokenizer(ASKED * 5, 400)
    tokens = torch.randint(300, (64, 24), generator=torch.Generator().manual_seed(0))

    def preference(copying: float) -> float:
        policy = build_tiny_policy(
            tokenizer, hidden_size=128, num_layers=2, max_length=64, seed=0, initializer_range=0.06, copying=copying
        )
        with torch.no_grad():
            logprobs = policy(tokens).logits[:, -1].log_softmax(-1)
        earlier = tokens[:, 4:-1]  # the last token is likely by itself, for it is what the position holds
        return float(logprobs.gather(1, earlier).mean() - logprobs[:, :300].mean())

    assert preference(0.3) > preference(0.0) + 0.1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--assistant_only_loss", "false"], "add --assistant_only_loss"),
        (["--topk", "-1"], "topk=-1"),
        (["--team", "recipes.swe:repository_team"], "--topk 2: recipes.swe:repository_team makes a team that does not"),
    ],
)
def test_settings_that_would_teach_something_else_are_refused(
    flags: Sequence[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = str(CONFIGS / "search_qa_warmstart.yaml")
    argv = ["warm", "--config", config, "--output_dir", str(tmp_path / "policy"), "--num_episodes", "2", *flags]
    monkeypatch.setattr(sys, "argv", [*argv, "--dry_run"])
    with pytest.raises(UsageError, match=said):
        warm_start_main()


def test_what_the_script_of_search_qa_copies_is_names_values_and_ids(sandbox: Sandbox) -> None:
    problems = load_problems("invented_worlds", "train", 100, 0)
    words = copied_words(asyncio.run(scripted_turns(search_team(sandbox), SearchQAScript(), problems, 0)))
    values = {*JOBS, *ANIMALS, *COLOURS, *GOODS}
    others = [word for word in words if word not in values and not re.fullmatch(r"p\d+", word)]
    assert len(words) > 120 and len(set(FIRST_NAMES) & set(others)) > 10
    assert sum(word[0].isupper() for word in others) / len(others) > 0.95, others
    assert not {"What", "which", "does", "ANSWER", "UNKNOWN", "lives"} & set(words)


@pytest.mark.long
def test_the_warm_start_of_search_qa_copies_names_of_worlds_that_it_has_not_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = str(CONFIGS / "search_qa_warmstart.yaml")
    policy = tmp_path / "policy"
    monkeypatch.setattr(sys, "argv", ["warm", "--config", config, "--output_dir", str(policy), "--seed", "100"])
    warm_start_main()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy).eval(), AutoTokenizer.from_pretrained(policy)
    questions = [problem.question for problem in islice(invented_worlds(12345), 200)]
    prompts: list[list[Message]] = [
        [
            {"role": "system", "content": ROLES[0].prompt},
            {"role": "user", "content": f"{question}\n\nKnown:\n(nothing)"},
        ]
        for question in questions
    ]
    written = generate_completions(model, tokenizer, prompts, max_new_tokens=30, temperature=1.0)
    subjects = [chains_of(question)[0].subject for question in questions]
    named = [subject in text for subject, text in zip(subjects, written, strict=True)]
    assert sum(named) / len(named) > 0.6, written[:10]  # the script itself leaves the name out of one query in eight
