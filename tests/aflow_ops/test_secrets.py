import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aflow_ops.secrets import HIDDEN, hide_secrets, holds_secret, is_secret_name, without_secrets

ALPHANUMERIC = string.ascii_letters + string.digits


def body(least: int, most: int = 48, alphabet: str = ALPHANUMERIC) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most).filter(lambda text: any(c.isdigit() for c in text))


# What services hand out, as their documentation shows it.
KEYS = st.one_of(
    st.tuples(st.sampled_from(["sk-", "sk-proj-", "sk-ant-api03-", "pk-", "pk_live_", "key-", "sk_test_"]), body(20)),
    st.tuples(st.just("sk-"), body(4, 6).map(lambda text: f"{text}{'*' * 12}{text}")),
    st.tuples(st.just("hf_"), body(30)),
    st.tuples(st.sampled_from(["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]), body(36, 36)),
    st.tuples(st.just("AKIA"), body(16, 16, string.ascii_uppercase + string.digits)),
    st.tuples(st.sampled_from(["Bearer ", "bearer "]), body(16)),
    st.tuples(st.just("-----BEGIN "), st.sampled_from(["", "RSA ", "EC ", "OPENSSH "]), st.just("PRIVATE KEY-----")),
).map("".join)


@given(KEYS, st.sampled_from(["{}", "key: {}", '{{"note": "{}"}}', "Incorrect API key provided: {}.", "a={},b"]))
def test_every_kind_of_key_is_found_wherever_it_stands(key: str, frame: str) -> None:
    text = frame.format(key)
    assert holds_secret(text)
    assert key not in hide_secrets(text) and HIDDEN in hide_secrets(text)


@given(KEYS)
def test_hiding_twice_is_hiding_once(key: str) -> None:
    once = hide_secrets(f"at https://me:word@host/v1?a=b, {key}")
    assert hide_secrets(once) == once


ORDINARY = [
    "key-value pairs and key-value-pairs", "sk-learn, sk-learn-contrib and pk-fire", "hf_hub_download(repo_id)",
    "He is the bearer of bad news; the standard bearer responsibilities", "What is 12 + 30 * 2?", "Is x?y=3 valid?",
    "task-1234567890 and disk-0123456789", "https://example.com/a/b#c", "a@b.com wrote to c@d.org: //x",
    "turkey-2024 monkey_business keyboard-layout", "max_tokens=5, top_p=0.95, key-frame 2", "ghost_writer ghp_",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_untouched(text: str) -> None:
    assert not holds_secret(text)
    assert hide_secrets(text) == text


@given(st.text(string.ascii_letters + " \n.,:-_'", max_size=200))
def test_words_are_no_secrets(text: str) -> None:
    assume(max(map(len, text.replace("-", " ").replace("_", " ").split()), default=0) < 20)
    assume("uthorization" not in text and "earer" not in text.lower())
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "HF_TOKEN", "MYKEY", "hub_token", "api_key", "api-key", "--hub-token", "apiKey", "apikey",
     "AWS_SECRET", "db_password", "credentials", "Authorization".lower(), "wandb_key"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert without_secrets({name: "a"}) == {name: HIDDEN}


@pytest.mark.parametrize("name", ["max_tokens", "keys", "monkey", "tokenizer", "num_key_value_heads", "token_ids", ""])
def test_names_that_only_look_secret_stay(name: str) -> None:
    assert not is_secret_name(name)


def test_a_variables_value_is_found_unless_it_is_too_short_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PASSWORD", "correct horse")
    monkeypatch.setenv("OTHER_KEY", "none")
    assert holds_secret("they said correct horse")
    assert hide_secrets("correct horse, none") == f"{HIDDEN}, none"


def test_a_url_keeps_its_host_and_loses_what_opens_it() -> None:
    shown = hide_secrets("https://me:word@host/v1?api-key=word,http://localhost:8000/v1")
    assert shown == f"https://{HIDDEN}@host/v1?{HIDDEN},http://localhost:8000/v1"


def test_nested_settings_are_copied_without_secrets() -> None:
    settings = {"kwargs": {"token": "t", "revision": "main"}, "list": ["sk-0123456789"], "n": 5, "none": None}
    expected = {"kwargs": {"token": HIDDEN, "revision": "main"}, "list": [HIDDEN], "n": 5, "none": None}
    assert without_secrets(settings) == expected
