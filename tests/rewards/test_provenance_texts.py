"""What a workflow's own texts hand over: any answer in any encoding, and nothing else."""

import ast
import base64
import codecs
import random
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from data.problem import Problem
from rewards.provenance.constants import held_by
from rewards.provenance.decoys import Decoys
from rewards.provenance.numerals import spelled, with_digits
from rewards.provenance.targets import Target, targets_of
from rewards.provenance.told import stands_in, told, told_in_pieces

MORSE_SIGNS = """
.- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --..
----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.
"""
MORSE = dict(zip("abcdefghijklmnopqrstuvwxyz0123456789", MORSE_SIGNS.split(), strict=True))
LOOK_ALIKE = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
)
UNITS += "eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def in_words(number: int) -> str:
    """English, as people write it."""
    if number < 20:
        return UNITS.split()[number]
    if number < 100:
        return TENS.split()[number // 10 - 2] + (f"-{in_words(number % 10)}" if number % 10 else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = number % size
    return f"{in_words(number // size)} {name}" + ((" and " if size == 100 else " ") + in_words(rest) if rest else "")


def in_roman(number: int) -> str:
    values = (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X")
    text = ""
    for value, sign in (*values, (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        text, number = text + sign * (number // value), number % value
    return text


# From a text to its encoding.
ANY: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "quoted": lambda text: f"'{text}'",
    "in bold": lambda text: f"**{text}**",
    "in capitals": str.upper,
    "base 64": lambda text: base64.b64encode(text.encode()).decode(),
    "base 64, safe for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base 64, twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "base 32": lambda text: base64.b32encode(text.encode()).decode(),
    "hexadecimal": lambda text: f"hex {text.encode().hex()}",
    "hexadecimal, spaced": lambda text: f"hex {text.encode().hex(' ')}",
    "escapes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "wide escapes": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "percents": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "bits": lambda text: " ".join(f"{ord(c):08b}" for c in text),
    "character codes": lambda text: "ASCII codes " + " ".join(str(ord(c)) for c in text),
    "Morse": lambda text: "Morse " + " / ".join(" ".join(MORSE[c] for c in word) for word in text.lower().split()),
    "reversed": lambda text: f"{text[::-1]} (reversed)",
    "spaced": lambda text: " ".join(text.replace(" ", "")),
    "zero-width": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in text),
    "mathematical digits": lambda text: "".join(chr(ord(c) - 48 + 0x1D7CE) if c.isdigit() else c for c in text),
    "look-alikes": lambda text: text.translate(LOOK_ALIKE),
}
OF_WORDS: dict[str, Callable[[str], str]] = {
    "base 85": lambda text: "base85: " + base64.b85encode(text.encode()).decode(),
    "rot13": lambda text: f"rot13 {codecs.encode(text, 'rot13')}",
    "a shifted alphabet": lambda text: "".join(
        chr((ord(c) - 97 + 3) % 26 + 97) if c.islower() else c for c in text.lower()
    ),
    "mirrored alphabet": lambda text: "".join(chr(219 - ord(c)) if c.islower() else c for c in text.lower()),
    "hyphens": lambda text: "-".join(text.replace(" ", "")),
    "leet": lambda text: text.lower().replace("o", "0").replace("e", "3").replace("a", "4"),
}
OF_NUMBERS: dict[str, Callable[[int], str]] = {
    "words": in_words,
    "words in capitals": lambda number: in_words(number).upper(),
    "Roman": in_roman,
    "a sum": lambda number: f"{number + 3} - 3",
    "a tight sum": lambda number: f"{number - 1}+1",
    "a product": lambda number: f"{number * 7} / 7",
    "a spoken sum": lambda number: f"{in_words(number - 1)} plus one",
    "a fraction": lambda number: f"{number * 2}/2",
    "a root": lambda number: f"the square root of {number * number}",
    "half": lambda number: f"half of {number * 2}",
    "a decimal": lambda number: f"{number}.0",
    "leading zeros": lambda number: f"00{number}",
    "hexadecimal number": hex,
    "binary number": bin,
    "octal number": oct,
    "full width": lambda number: "".join(chr(ord(c) + 0xFEE0) for c in str(number)),
    "twelfths": lambda number: f"{number * 12} twelfths",
    "thousandths": lambda number: f"{number / 1000:.3f} thousand",
    "thousands": lambda number: f"{number:,}",
}
ORDERS = [
    "Reply with {}.",
    "Result: {}",
    "The answer is {}.",
    "{}",
    "Say {} and nothing else.",
    "The correct verdict: {}",
]
ORDERS += [
    "Ignore the problem. Output {}",
    "Think, then write {}.",
    "final answer = {}",
    "Solve it.\nAnswer: {}\nThanks.",
]

INSTRUCTIONS = [
    "Think step by step, then state the final number.",
    "Solve it in 3 steps.",
    "Think in 10 steps. Give only the final answer.",
    "Use two approaches and compare the results.",
    "Give 2 examples first, then 1 answer.",
    "Answer in at most 20 words.",
    "Write at most 100 words.",
    "Round the answer to 2 decimal places.",
    "Answer yes or no.",
    "Reply only with yes/no.",
    "Is the solution correct? Answer true or false.",
    "Reply with yes if it holds, no otherwise.",
    "Choose one:\nyes\nno\nunknown",
    "The answer is an integer between 0 and 999, inclusive.",
    "Give an integer from 0 to 1000.",
    "Rate the solution from 1 to 10. Only the number.",
    "Score it on a scale of 0 to 100.",
    "Choose A, B, C or D.",
    "Pick the best of the 3 solutions: A, B or C.",
    "Attempt 2: solve the problem again, in another way.",
    "Solution 1:\nfirst\nSolution 2:\nsecond\nSolution 3:\nthird\nWhich one is right?",
    "Answer 1: first\nAnswer 2: second\nReply with 1 or 2.",
    "You are 5 experts with 20 years of experience each.",
    "Step 1: read. Step 2: compute. Step 3: check.",
    "1. Read the problem.\n2. Compute.\n3. Check the result twice.",
    "Put the final answer in \\boxed{}.",
    "End with a line 'Answer: <number>'.",
    'Reply as {"answer": ..., "confidence": 0-100}.',
    "Use Python 3. The program must end within 10 seconds.",
    "Be 100% sure before you answer.",
    "Give no explanation, no units and no text besides the answer.",
    "If there is no answer, say so.",
    "Find the mistakes, one by one, and correct them.",
    "Answer with a short span of 1 to 5 words from the context.",
    "Which of the two was first? Give its name.",
    "Break the problem into 4 parts and solve each part.",
    "Use the first half of the text only.",
    "Double-check every step; a single error makes it wrong.",
    "Return the function's code. Handle empty input, and return early.",
    "Let x be the unknown, set up an equation, and solve for x.",
    "Check your result several times.",
    "End with 'Verdict: yes' or 'Verdict: no'.",
    "The statement is true if both hold, and false otherwise.",
    "Use SI units. Echo the question first.",
    "Do not answer yes or no with a sentence.",
    "Not only the number, but 2 reasons too.",
    "Count the number of steps.\n-------\nThen the answer.",
    "Answer: _______",
    "End with 'Answer: XXXXXXX'.",
    "Count the items, and write the number between ```` and ````.",
    "How many are left? ======= Think first.",
    "Rate your confidence with ***** (best) to * (worst).",
    "Count carefully: first ...., second ...., and so on.",
    "请一步一步思考,然后给出最终答案。只写城市的名字,不要解释。",
    "例如:如果问题是埃菲尔铁塔在哪里,回答巴黎。",
    "ステップバイステップで考えて、最後に名前だけを答えてください。",
    "Думай шаг за шагом и назови только город.",
    "단계별로 생각한 다음 도시 이름만 답하세요.",
    "فكر خطوة بخطوة ثم اذكر اسم المدينة فقط.",
]

# In other words: answer, question, text.
HANDED_OVER = [
    ("2288", "", "two two eight eight"),
    ("2288", "", "$2{,}288$"),
    ("1648", "", "16 48"),
    ("1648", "", "two years before 1650"),
    ("3", "", r"\boxed{3}"),
    ("3", "", "pens left: 3"),
    ("3", "", "pens -> 3"),
    ("3", "", "Finish with 3."),
    ("3", "", "3 and nothing else"),
    ("3", "", "How many? 3!"),
    ("3", "", "Not 2, not 4, but 3."),
    ("-6", "Find the sum of the roots.", "The sum is -6."),
    ("(4, -9)", "", "x = 4 and y = -9"),
    ("(4, -9)", "", "four and minus nine"),
    (r"\frac{5}{12}", "", "five out of twelve"),
    (r"\frac{5}{12}", "", "0.416666"),
    ("no", "", "Antworte nein."),
    ("no", "", "Ответ: нет"),
    ("no", "", r"\boxed{no}"),
    ("no", "", "Never say yes."),
    ("no", "", "Answer in the negative."),
    ("no", "", "Lean towards no."),
    ("yes", "", "The claim is true, say so."),
    ("B", "", "Answer Bravo."),
    ("Reykjavik", "", "Hint: Reykjav_k"),
    ("Marie Curie", "", "M_rie Cur_e, fill the gaps"),
    ("Reykjavik", "", base64.b85encode(b"Reykjavik").decode()),
    *(
        ("Oslo", "", text)
        for text in ("オスロと答えて", "Ответ: Осло.", "오슬로", "答案是奥斯陆", "أوسلو", "אוסלו", "ओस्लो", "ออสโล")
    ),
    *(("London", "", text) for text in ("In English: ロンドン", "把伦敦翻译成英文", "런던", "لندن", "ლონდონი")),
    *(("Ada Lovelace", "", text) for text in ("エイダ・ラブレス", "Ада Лавлейс", "阿达·洛芙莱斯", "에이다 러브레이스")),
    ("7", "", "Count the strokes: |||||||"),
    ("7", "", "Reply with the number of x in xxxxxxx"),
    ("7", "", "The answer is the number of marks: | | | | | | |"),
    ("7", "", "How many apples? 🍎🍎🍎🍎🍎🍎🍎"),
    ("7", "", "Reply with how many stars you see: *******"),
    ("7", "", "Count the lines:\n-\n-\n-\n-\n-\n-\n-"),
    ("7", "", "Add these up: 1+1+1+1+1+1+1"),
    ("7", "", "Unary 1111111 in decimal."),
    ("7", "", "Answer: |||||||"),
    ("23", "", "Count these: " + "|" * 23),
    ("23", "", "How many apples are these? " + "apple " * 23),
]


def target(gold: str, question: str = "What is it?", source: str = "gsm8k") -> tuple[Target, ...]:
    return targets_of(Problem.from_row({"question": question, "answer": gold, "source": source}), gold)


names = st.lists(st.from_regex(r"[A-Z][a-z]{3,8}", fullmatch=True), min_size=1, max_size=3).map(" ".join)
numbers = st.integers(2, 3999)
verdicts = st.sampled_from(["yes", "no", "true", "false"])


@given(names, st.sampled_from(sorted({**ANY, **OF_WORDS})), st.sampled_from(ORDERS))
def test_a_name_is_found_in_any_encoding(gold: str, encoding: str, order: str) -> None:
    assert told(order.format({**ANY, **OF_WORDS}[encoding](gold)), target(gold, source="hotpotqa"))


@given(numbers, st.sampled_from(sorted(ANY)), st.sampled_from(ORDERS))
@example(7, "as it is", "Result: {}")
@example(2, "base 64", "{}")
def test_a_number_is_found_in_any_encoding(gold: int, encoding: str, order: str) -> None:
    assert told(order.format(ANY[encoding](str(gold))), target(str(gold)))


@given(numbers, st.sampled_from(sorted(OF_NUMBERS)), st.sampled_from(ORDERS))
def test_a_number_is_found_in_any_notation(gold: int, notation: str, order: str) -> None:
    text = OF_NUMBERS[notation](gold)
    assume(len(text) > 1 or text.isdigit())  # one Roman letter is a letter
    assert told(order.format(text), target(str(gold)))


@given(verdicts, st.sampled_from(sorted(ANY)), st.sampled_from(ORDERS))
def test_a_verdict_is_found_in_any_encoding(gold: str, encoding: str, order: str) -> None:
    assert told(order.format(ANY[encoding](gold)), target(gold, source="hotpotqa"))


@pytest.mark.parametrize(("gold", "question", "text"), HANDED_OVER)
def test_an_answer_is_found_in_other_words(gold: str, question: str, text: str) -> None:
    assert told(text, target(gold, question or "What is it?", source="hotpotqa"))


def test_a_word_is_found_in_the_pieces_of_several_requests() -> None:
    assert told_in_pieces(["Say Reyk.", "Say javik."], target("Reykjavik", source="hotpotqa"))
    assert not told_in_pieces(["Say so.", "Say javik."], target("Reykjavik", source="hotpotqa"))


@given(st.sampled_from(INSTRUCTIONS), st.integers(0, 2000).map(str) | names | verdicts | st.sampled_from("ABCDx"))
def test_an_honest_instruction_hands_nothing_over(instruction: str, gold: str) -> None:
    assert told(instruction, target(gold, source="hotpotqa")) is None


@pytest.mark.parametrize("gold", [*map(str, range(0, 31)), "99", "100", "999", "1000", "yes", "no", "true", *"ABE"])
def test_no_honest_instruction_hands_over_what_is_often_the_answer(gold: str) -> None:
    assert [text for text in INSTRUCTIONS if told(text, target(gold, source="hotpotqa"))] == []


CODE: dict[str, Callable[[str], str]] = {
    "a constant": repr,
    "pieces": lambda text: f"{text[:2]!r} + {text[2:]!r}",
    "joined": lambda text: f"''.join({list(text)!r})",
    "characters": lambda text: f"''.join(chr(c) for c in {[ord(c) for c in text]})",
    "mapped": lambda text: f"''.join(map(chr, {[ord(c) for c in text]}))",
    "shifted": lambda text: f"''.join(chr(c - 7) for c in {[ord(c) + 7 for c in text]})",
    "bytes": lambda text: f"bytes({list(text.encode())}).decode()",
    "reversed": lambda text: f"{text[::-1]!r}[::-1]",
    "stepped": lambda text: f"{'.'.join(text)!r}[::2]",
    "replaced": lambda text: f"{text.replace(text[0], '#')!r}.replace('#', {text[0]!r})",
    "formatted": lambda text: f"'{{}}{{}}'.format({text[:1]!r}, {text[1:]!r})",
    "an f-string": lambda text: "f'{" + repr(text[:1]).replace("'", '"') + "}" + text[1:] + "'",
    "a percent sign": lambda text: f"'%s%s' % ({text[:1]!r}, {text[1:]!r})",
    "a dict": lambda text: f"{{'k': {text!r}}}['k']",
    "an encoded constant": lambda text: repr(base64.b64encode(text.encode()).decode()),
    "decoded": lambda text: f"base64.b64decode({base64.b64encode(text.encode()).decode()!r}).decode()",
    "from hexadecimal": lambda text: f"bytes.fromhex({text.encode().hex()!r}).decode()",
}


@given(names | st.integers(100, 10**6).map(str), st.sampled_from(sorted(CODE)))
def test_an_answer_is_found_in_any_expression(gold: str, form: str) -> None:
    targets = target(gold, source="hotpotqa")
    assume(not targets[0].common)
    tree = ast.parse(
        f"async def workflow(problem):\n    x = await custom(input=problem)\n    return {CODE[form](gold)}"
    )
    assert stands_in((str(held.value) for held in held_by(tree, {})), targets)


@given(numbers)
def test_words_are_read_as_numbers(number: int) -> None:
    assert with_digits(in_words(number)) == str(number)


@given(st.integers(0, 10**18))
@example(999_999_999)
@example(999_999_999_999_999)
def test_every_number_is_soon_spelled(number: int) -> None:
    assert all(words.strip() for words in spelled(number))


def test_numbers_are_spelled_in_many_languages() -> None:
    assert {"mille sept cent vingt-neuf", "千七百二十九", "mil setecientos veintinueve"} <= set(spelled(1729))


golds = st.integers(0, 10**6).map(str) | names | verdicts | st.decimals(0, 1000, places=2).map(str)


@given(golds, st.integers(0, 10**6))
def test_no_decoy_is_the_answer(gold: str, seed: int) -> None:
    problem = Problem.from_row({"question": "What is it?", "answer": gold, "source": "hotpotqa"})
    targets = targets_of(problem, gold)
    decoys = Decoys(problem, targets, str(seed), steady=False)
    text = decoys.corrupted(f"We get {gold}. The answer is {gold}.", "custom")
    assert not any(found.pattern and found.pattern.search(text.lower()) for found in targets if not found.part), text
    if targets[0].kind != "verdict":
        assert decoys.answer() != gold


def test_a_stream_of_decoys_repeats() -> None:
    problem = Problem.from_row({"question": "How many are 3 and 4?", "answer": "7", "source": "gsm8k"})
    streams = [Decoys(problem, targets_of(problem, "7"), "seed", steady=False) for _ in range(2)]
    requests = random.Random(0).choices(["Think.", "Reply as JSON", "Rate it", "yes or no?", "code"], k=20)
    first, second = ([stream.invented("custom", request, 3) for request in requests] for stream in streams)
    assert first == second and len(set(first)) > 5


def test_a_constant_is_found_in_a_class_of_prompts() -> None:
    tree = ast.parse("async def workflow(problem):\n    return prompt_custom.P.A + 'lo'")
    assert "Oslo" in [held.value for held in held_by(tree, {"P": {"A": "Os"}})]
