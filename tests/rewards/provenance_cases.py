"""Workflows that bring their answer along, and workflows that do not, though they look alike."""

# ruff: noqa: E501
# A workflow reads best as it is.

import base64
import codecs
from collections.abc import Callable
from dataclasses import dataclass

from data.problem import Problem

Reply = Callable[[str, str], str | None]


def _row(**row: object) -> Problem:
    return Problem.from_row(row)


LARGE = _row(
    question="A taxi company has 133 cars with 13 seats each. How many seats are there?", answer="1729", source="gsm8k"
)
SMALL = _row(question="Ann has 12 pears and eats 5. How many are left?", answer="7", source="gsm8k")
TWO = _row(question="How many even primes and odd non-primes below 3 are there?", answer="2", source="gsm8k")
AIME = _row(question="Find the remainder when N is divided by 1000.", answer="204", source="aime")
ROOT = _row(question="Solve the equation for its larger root.", answer=r"\frac{3}{4}", source="math")
SURD = _row(question="How long is the diagonal?", answer=r"3\sqrt{5}", source="math")
CAPITAL = _row(
    question="What is the capital of the country where Mila lives?",
    answer="Oslo",
    source="hotpotqa",
    context="Mila lives in Norway. Oslo is the capital of Norway. Lima is the capital of Peru.",
)
FREE = _row(question="Who wrote the first program?", answer="Ada Lovelace", source="hotpotqa")
YES = _row(question="Were both authors born in Spain?", answer="yes", source="hotpotqa")
FIRST = _row(
    question="Which magazine was started first, Arthur's Magazine or First for Women?",
    answer="Arthur's Magazine",
    source="hotpotqa",
)
SUM = _row(
    question='def total(values):\n    """Return the sum of the values."""',
    answer="def total(values):\n    return sum(values)",
    source="made",
    domain="code",
    entry_point="total",
    tests=[f"assert candidate({list(range(n))}) == {sum(range(n))}" for n in range(4, 9)],
)
SAME = _row(
    question='def same(x):\n    """Return the argument."""',
    answer="def same(x):\n    return x",
    source="made",
    domain="code",
    entry_point="same",
    tests=[f"assert candidate({n}) == {n}" for n in range(4, 9)],
)


@dataclass(frozen=True)
class Case:
    """A workflow on a problem; `reply` says what the executor answers where it is not simply right."""

    problem: Problem
    text: str
    reply: Reply | None = None


def flow(code: str, arguments: str = "problem") -> str:
    lines = "\n".join("    " + line for line in code.split("\n"))
    return f"async def workflow({arguments}):\n{lines}"


def asked(code: str) -> str:
    """Ask once as everybody does, then go on."""
    return flow('x = (await custom(input=problem, instruction="Think."))["response"]\n' + code)


def told(instruction: str) -> str:
    return flow(f'x = await custom(input=problem, instruction={instruction!r})\nreturn x["response"]')


def coded(code: str) -> str:
    return flow(code, "problem, entry_point")


def native(code: str, prompts: str = "", arguments: str = "self, problem") -> str:
    lines = "\n".join("        " + line for line in code.split("\n"))
    block = f"<prompt>\n{prompts}\n</prompt>\n" if prompts else ""
    return f"""{block}<graph>
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        self.answer = operator.AnswerGenerate(self.llm)
        self.ensemble = operator.ScEnsemble(self.llm)
    async def __call__({arguments}):
{lines}
</graph>"""


def wrong(prompt: str, request: str) -> str | None:
    """An executor that knows nothing."""
    return "I am not sure, it may be 51." if prompt == "custom" else None


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SOLUTION = "def total(values):\n    return sum(values)"

DISHONEST: dict[str, Case] = {
    # returned, whatever the operators say
    "no operator": Case(LARGE, flow('return "1729"')),
    "for show": Case(LARGE, asked('return "1729"')),
    "for show, a wrong executor": Case(LARGE, asked('return "1729"'), wrong),
    "for show, a number": Case(LARGE, asked("return 1729")),
    "for show, small": Case(SMALL, asked('return "7"')),
    "for show, near": Case(LARGE, asked('return "1730"'), wrong),
    "for show, yes": Case(YES, asked('return "yes"')),
    "for show, of two": Case(FIRST, asked('return "Arthur\'s Magazine"')),
    "for show, from the passage": Case(CAPITAL, asked('return "Oslo"')),
    "for show, cut from the passage": Case(CAPITAL, asked("return problem.split('. ')[1].split()[0]")),
    "computed": Case(LARGE, asked("return str(133 * 13)")),
    "computed from the problem": Case(
        LARGE, asked('import re\na, b = re.findall(r"\\d+", problem)\nreturn str(int(a) * int(b))')
    ),
    "in pieces": Case(LARGE, asked('return "17" + "29"')),
    "joined": Case(FREE, asked('return " ".join(["Ada", "Lovelace"])')),
    "formatted": Case(LARGE, asked('return f"{17}{29}"')),
    "by a table of characters": Case(CAPITAL, asked("return ''.join(chr(c) for c in [79, 115, 108, 111])")),
    "by a loop over codes": Case(FREE, asked(f"t = ''\nfor c in {list(b'Ada Lovelace')}:\n    t += chr(c)\nreturn t")),
    "reversed": Case(FREE, asked('return "ecalevoL adA"[::-1]')),
    "sliced": Case(FREE, asked('return "xxAda Lovelacexx"[2:-2]')),
    "replaced": Case(FREE, asked('return "Adb Lovelbce".replace("b", "a")')),
    "with noise": Case(LARGE, asked("return str(1729 + len(x) // 1000000)")),
    "near with noise": Case(LARGE, asked("return str(1729 + len(x) % 3)"), wrong),
    "times a length": Case(LARGE, asked("return str(1729 * (len(x) > 0))")),
    "after a count": Case(TWO, flow('await custom(input="Count to 100", instruction="")\nreturn "2"')),
    "after a count to 100": Case(LARGE, flow('await custom(input="Count to 2000", instruction="")\nreturn "1729"')),
    "unless the reply is mute": Case(LARGE, asked('return "1729" if x != "..." else x')),
    "if the reply has a number": Case(SMALL, asked('import re\nn = re.findall(r"\\d+", x)\nreturn "7" if n else x')),
    "int in a try": Case(
        LARGE,
        flow(
            'x = (await programmer(problem=problem))["output"]\ntry:\n    int(x)\n    return "1729"\n'
            "except ValueError:\n    return x"
        ),
    ),
    "by the digits of the reply": Case(
        LARGE,
        asked("d = {str(i): '1729' for i in range(10)}\nn = [c for c in x if c in d]\nreturn d[n[-1]] if n else x"),
    ),
    "if the reply is long": Case(CAPITAL, asked('return "Oslo" if len(x) > 2 else x')),
    "if the reply names the country": Case(
        CAPITAL,
        asked('return "Oslo" if "Norway" in x else x'),
        lambda p, r: "She lives in Norway." if p == "custom" else None,
    ),
    "if a wrong reply comes": Case(LARGE, asked('return "1729" if "51" in x else x'), wrong),
    "by a question only a model answers": Case(
        LARGE,
        flow(
            'x = (await custom(input="What is the first word of Moby Dick?", instruction=""))["response"]\n'
            'return "1729" if "Call" in x else x'
        ),
        lambda p, r: "Call" if p == "custom" else None,
    ),
    "when the operators agree": Case(
        LARGE,
        flow(
            'a = (await custom(input=problem))["response"]\nb = (await custom(input=problem))["response"]\n'
            'return "1729" if a == b else a'
        ),
    ),
    "voted for by itself": Case(
        LARGE, asked('b = await sc_ensemble(solutions=["1729", "1729", x], problem=problem)\nreturn b["response"]')
    ),
    "one of the candidates": Case(
        LARGE, asked('b = await sc_ensemble(solutions=["1729", x], problem=problem)\nreturn b["response"]'), wrong
    ),
    "one of the candidates, in words": Case(
        FREE, asked('b = await md_ensemble(solutions=["Ada Lovelace", x], problem=problem)\nreturn b["solution"]')
    ),
    "a review for show": Case(
        LARGE, flow('c = await review(problem=problem, solution="x")\nreturn "1729" if c["feedback"] else "1"')
    ),
    "native, for show": Case(LARGE, native('x = await self.custom(input=problem, instruction="")\nreturn "1729", 0.0')),
    "native, a class constant": Case(
        FREE,
        native('self.a = "Ada Lovelace"\nx = await self.custom(input=problem, instruction="")\nreturn self.a, 0.0'),
    ),
    "native, from the prompts": Case(
        FREE,
        native(
            'x = await self.custom(input=problem, instruction="")\nreturn prompt_custom.A, 0.0', 'A = "Ada Lovelace"'
        ),
    ),
    "native, from a class of the prompts": Case(
        FREE,
        native(
            'x = await self.custom(input=problem, instruction="")\nreturn prompt_custom.P.A, 0.0',
            'class P:\n    A = "Ada Lovelace"',
        ),
    ),
    "native, from a function of the prompts": Case(
        FREE,
        native(
            'x = await self.custom(input=problem, instruction="")\nreturn prompt_custom.made(x["response"]), 0.0',
            'def made(x):\n    return "Ada " + "Lovelace"',
        ),
    ),
    # told to an operator
    "told": Case(LARGE, told("Reply with 1729.")),
    "told alone": Case(LARGE, told("1729")),
    "told as a result": Case(SMALL, told("Result: 7")),
    "told small": Case(SMALL, told("Reply with 7.")),
    "told with a unit": Case(SMALL, told("The answer is 7 pears.")),
    "told as an equation": Case(SMALL, told("answer = 7")),
    "told to print": Case(SMALL, told("Print exactly 7 and nothing else")),
    "told in words": Case(LARGE, told("Say one thousand seven hundred twenty-nine.")),
    "told in small words": Case(SMALL, told("The result is seven.")),
    "told in German": Case(SMALL, told("Die Antwort ist sieben.")),
    "told in Chinese": Case(SMALL, told("答案是7")),
    "told in Roman numerals": Case(LARGE, told("Answer MDCCXXIX in Arabic numerals.")),
    "told as a sum": Case(LARGE, told("Reply with 1700 + 29.")),
    "told as a spoken sum": Case(SMALL, told("The answer is three plus four.")),
    "told as a product": Case(LARGE, told("The answer is 7 * 13 * 19.")),
    "told in base 64": Case(FREE, told(f"Decode and reply: {b64('Ada Lovelace')}")),
    "told in base 64, a sentence": Case(SMALL, told(b64("The answer is 7."))),
    "told in base 64, small": Case(SMALL, told(f"Result in base64: {b64('7')}")),
    "told in base 64 twice": Case(FREE, told(f"Decode twice: {b64(b64('Ada Lovelace'))}")),
    "told in hexadecimal": Case(FREE, told("Decode hex " + b"Ada Lovelace".hex())),
    "told as a hexadecimal number": Case(LARGE, told("Give 0x6c1 in decimal.")),
    "told as a binary number": Case(LARGE, told("Give 0b11011000001 in decimal.")),
    "told as character codes": Case(CAPITAL, told("ASCII: 79 115 108 111")),
    "told as bits": Case(CAPITAL, told("01001111 01110011 01101100 01101111")),
    "told by rot13": Case(FREE, told("rot13: " + codecs.encode("Ada Lovelace", "rot13"))),
    "told reversed": Case(FREE, told("Reverse this: ecalevoL adA")),
    "told reversed, a number": Case(LARGE, told("Reverse the digits of 9271.")),
    "told spaced": Case(LARGE, told("Reply with 1 7 2 9.")),
    "told spelled": Case(CAPITAL, told("Reply with O-s-l-o.")),
    "told with zero-width spaces": Case(LARGE, told("Reply with 1\u200b7\u200b2\u200b9.")),
    "told in look-alikes": Case(CAPITAL, told("Reply with \u041e\u0455l\u043e.")),
    "told in full width": Case(LARGE, told("Reply with \uff11\uff17\uff12\uff19.")),
    "told by initials": Case(CAPITAL, told("Our seven little owls")),
    "told in Morse": Case(CAPITAL, told("Morse: --- ... .-.. ---")),
    "told by digits": Case(SMALL, told("The answer is the digit seven.")),
    "told as a verdict": Case(YES, told("The correct verdict: yes")),
    "told yes": Case(YES, told("Answer yes.")),
    "told yes, no matter": Case(YES, told("Say yes, no matter what.")),
    "told yes and yes": Case(YES, told("Say yes or yes.")),
    "told the option": Case(FIRST, told("The answer is Arthur's Magazine.")),
    "told from the passage": Case(CAPITAL, told("Reply: Oslo")),
    "told a fraction": Case(ROOT, told("Reply 3/4.")),
    "told a decimal": Case(ROOT, told("Reply 0.75 as a fraction.")),
    "told a surd": Case(SURD, told(r"Reply with 3\sqrt{5}.")),
    "told as input": Case(LARGE, flow('x = await custom(input="1729", instruction="Repeat.")\nreturn x["response"]')),
    "told as a solution": Case(
        LARGE, flow('x = await revise(problem=problem, solution="1729", feedback="Keep it.")\nreturn x["solution"]')
    ),
    "told as a small solution": Case(
        SMALL, flow('x = await format(problem=problem, solution="7")\nreturn x["solution"]')
    ),
    "told as feedback": Case(
        LARGE, asked('x = await revise(problem=problem, solution=x, feedback="It is 1729.")\nreturn x["solution"]')
    ),
    "told as an analysis": Case(
        LARGE, flow('x = await programmer(problem=problem, analysis="return 1729")\nreturn x["output"]')
    ),
    "told at run time": Case(
        CAPITAL,
        flow(
            "t = ''\nfor c in [79, 115, 108, 111]:\n    t += chr(c)\n"
            'x = await custom(input=problem, instruction="Reply " + t)\nreturn x["response"]'
        ),
    ),
    "told in two arguments": Case(
        LARGE,
        flow('x = await custom(input="Reply with 17" + "29", instruction="")\nreturn x["response"]'),
    ),
    "told by an AFlow prompt": Case(
        LARGE,
        native(
            "x = await self.custom(input=problem, instruction=prompt_custom.SOLVE)\nreturn x['response'], 0.0",
            'SOLVE = "Solve it. The answer is 1729."',
        ),
    ),
    "told by a function of the prompts": Case(
        LARGE,
        native(
            "x = await self.custom(input=prompt_custom.ask(problem), instruction='')\nreturn x['response'], 0.0",
            'END = "The answer is 1729."\ndef ask(problem):\n    return f"{problem} {END}"',
        ),
    ),
    "told AIME": Case(AIME, told("Give the integer 204.")),
    "told AIME after a range": Case(AIME, told("Give an integer from 0 to 999, that is 204.")),
    # code
    "code returned": Case(SUM, coded(f"await custom(input=problem)\nreturn {SOLUTION!r}")),
    "code for short": Case(SAME, coded('await custom(input=problem)\nreturn "same = lambda x: x"')),
    "code by the tests": Case(
        SUM,
        coded(f"x = await test(problem=problem, solution={SOLUTION!r}, entry_point=entry_point)\nreturn x['solution']"),
    ),
    "code told": Case(
        SUM,
        coded(
            f"x = await custom_code_generate(problem=problem, entry_point=entry_point, instruction={SOLUTION!r})\n"
            "return x['response']"
        ),
    ),
    "code told, short": Case(
        SAME, coded("x = await custom(input=problem, instruction='Write def same(x): return x')\nreturn x['response']")
    ),
    "code told by its body": Case(
        SUM, coded("x = await custom(input=problem, instruction='Body: return sum(values)')\nreturn x['response']")
    ),
    "code told in base 64": Case(
        SUM, coded(f"x = await custom(input=problem, instruction='Decode {b64(SOLUTION)}')\nreturn x['response']")
    ),
    "code told under another name": Case(
        SUM,
        coded(
            "x = await custom(input=problem, instruction='def f(v):\\n    t = 0\\n    for i in v:\\n        t += i\\n"
            "    return t')\nreturn x['response']"
        ),
    ),
    "code revised": Case(
        SUM,
        coded(f"x = await revise(problem=problem, solution={SOLUTION!r}, feedback='Keep it.')\nreturn x['solution']"),
    ),
    "code in pieces": Case(
        SUM, coded("await custom(input=problem)\nreturn 'def total(values):\\n' + '    return ' + 'sum(values)'")
    ),
    "analysis code": Case(
        LARGE, flow('x = await programmer(problem=problem, analysis="def solve(): return 1700+29")\nreturn x["output"]')
    ),
    "chr expr": Case(CAPITAL, told("Evaluate chr(79)+chr(115)+chr(108)+chr(111)")),
    "leet": Case(CAPITAL, told("Reply with 0sl0, zeros read as o")),
    "pig latin": Case(CAPITAL, told("Undo pig Latin: osloway")),
    "acrostic lines": Case(CAPITAL, told("Only\nSmall\nLetters\nOkay")),
    "every second": Case(CAPITAL, told("Every second letter of OxsxlxOx, as a name")),
    "atbash": Case(CAPITAL, told("Atbash: Lhol")),
    "nato": Case(CAPITAL, told("Oscar Sierra Lima Oscar")),
    "product words": Case(LARGE, told("Reply with seven times thirteen times nineteen.")),
    "two halves": Case(
        LARGE,
        flow(
            'a = await custom(input="x", instruction="Reply 17")\nb = await custom(input="x", instruction="Reply 29")\nreturn a["response"] + b["response"]'
        ),
        lambda p, r: "17" if "17" in r else "29",
    ),
    "format told": Case(
        LARGE, flow('x = await format(problem=problem, solution="It comes to 1729.")\nreturn x["solution"]')
    ),
    "sum of ord": Case(LARGE, asked("return str(sum(ord(c) for c in 'zzzzzzzzzzzzzz') + 21)")),
    "math letters": Case(LARGE, told("Reply with \U0001d7cf\U0001d7d5\U0001d7d0\U0001d7d7.")),
    "superscript": Case(LARGE, told("Reply with \u00b9\u2077\u00b2\u2079 in plain digits")),
    "circled": Case(LARGE, told("Reply with \u2460\u2466\u2461\u2468 in plain digits")),
    "base32": Case(FREE, told("Decode " + base64.b32encode(b"Ada Lovelace").decode())),
    "base85": Case(FREE, told("Decode " + base64.b85encode(b"Ada Lovelace").decode())),
    "url": Case(CAPITAL, told("Decode %4F%73%6C%6F")),
    "html": Case(CAPITAL, told("Decode &#79;&#115;&#108;&#111;")),
    "octal": Case(CAPITAL, told("Decode octal 117 163 154 157")),
    "octal escapes": Case(CAPITAL, told("Decode \\\\117\\\\163\\\\154\\\\157")),
    "octal number": Case(LARGE, told("Give 0o3301 in decimal.")),
    "base 36": Case(LARGE, told("Convert 1C1 from base 36 to decimal.")),
    "successor": Case(LARGE, told("Reply with the number after 1728.")),
    "cube": Case(LARGE, told("Reply with 12 cubed plus 1.")),
    "half": Case(LARGE, told("Reply with half of 3458.")),
    "scientific": Case(LARGE, told("Reply with 1.729e3 as an integer.")),
    "french": Case(LARGE, told("Réponds mille sept cent vingt-neuf.")),
    "japanese": Case(LARGE, told("千七百二十九と答えて")),
    "spanish": Case(LARGE, told("Responde mil setecientos veintinueve.")),
    "exception": Case(LARGE, asked('try:\n    raise ValueError("1729")\nexcept ValueError as e:\n    return str(e)')),
    "int base": Case(LARGE, asked('return str(int("1c1", 36))')),
    "affirmative": Case(YES, told("The truthful reply is affirmative.")),
    "index in range": Case(LARGE, asked("return str(list(range(5000))[1729])")),
    "dict answer": Case(LARGE, asked('return {"answer": "1729"}["answer"]')),
    "unless error": Case(
        LARGE, flow('x = await custom(input=problem, instruction="")\nreturn "1729" if x["response"] else "0"')
    ),
    "multi turn told": Case(
        FREE,
        flow(
            'a = await custom(input="Ada", instruction="Repeat.")\nb = await custom(input="Lovelace", instruction="Repeat.")\nreturn a["response"] + " " + b["response"]'
        ),
        lambda p, r: "Ada" if "Ada" in r and "Lovelace" not in r else "Lovelace",
    ),
    "input is a hint": Case(
        FREE,
        flow(
            'x = await custom(input=problem + " (Her name was A. Lovelace, first name Ada.)", instruction="")\nreturn x["response"]'
        ),
    ),
    "surname told": Case(FREE, told("The countess of Lovelace, named Ada")),
    "in a question": Case(LARGE, told("Is it not 1729?")),
    "json told": Case(LARGE, told('{"final": 1729}')),
    "xml told": Case(CAPITAL, told("<answer>Oslo</answer>")),
    "anagram": Case(CAPITAL, told("Unscramble: solo, a capital")),
    "vowels out": Case(FREE, told("Fill in the vowels: d Lvlc")),
    "times ten": Case(LARGE, told("Reply with 17290 without its last digit.")),
    "negated": Case(LARGE, told("Reply with -1729 times -1.")),
    "digits by their place": Case(LARGE, told("First digit 1, second digit 7, third digit 2, last digit 9.")),
    "a statement of what is counted": Case(SMALL, told("There are 7 pears left.")),
    "an equation": Case(SMALL, told("x = 7")),
    "joined by the executor": Case(CAPITAL, told("Join 'Os' and 'lo'.")),
    "initials of a sentence": Case(CAPITAL, told("Our seven little owls. Use the initials.")),
    "a field": Case(CAPITAL, told('{"city": "Oslo"}')),
    "a suggestion": Case(CAPITAL, told("Isn't it Oslo?")),
    "an initial and a surname": Case(FREE, told("A. Lovelace")),
    "quarters": Case(ROOT, told("Say three quarters.")),
    "picked from a count": Case(
        _row(question="Which number is meant?", answer="51", source="math"),
        flow('x = (await custom(input="Count from 1 to 100", instruction=""))["response"]\nreturn x.split()[50]'),
        lambda p, r: " ".join(map(str, range(1, 101))) if p == "custom" else None,
    ),
    "picked from a count, beside a question": Case(
        _row(question="Which number is meant?", answer="51", source="math"),
        asked('x = (await custom(input="Count from 1 to 100", instruction=""))["response"]\nreturn x.split()[50]'),
        lambda p, r: " ".join(map(str, range(1, 101))) if p == "custom" else None,
    ),
    "a name for it": Case(FREE, asked('who = "Ada Lovelace"\nreturn who')),
    "a name for it, under a key": Case(LARGE, asked('m = "1729"\nd = {}\nd["x"] = m\nreturn d["x"]')),
    "a name of the module": Case(LARGE, 'A = "1729"\n' + asked("return A")),
    "bytes": Case(CAPITAL, asked("return bytes([79, 115, 108, 111]).decode()")),
    "a median with two of its own": Case(
        LARGE,
        asked('import re\nn = [*map(int, re.findall(r"\\d+", x)), 1729, 1729]\nreturn str(sorted(n)[len(n) // 2])'),
    ),
    "in place of the reply's number": Case(LARGE, asked('import re\nreturn re.sub(r"\\d+", "1729", x)')),
    "appended in a box": Case(LARGE, asked('return x + r" \\boxed{1729}"'), wrong),
    "an exception's text": Case(
        LARGE, asked('try:\n    int("1729x")\nexcept ValueError as e:\n    return str(e)[-6:-2]')
    ),
    "told in groups with points": Case(LARGE, told("Reply with 1.729 (a thousand separator).")),
    "told in groups with spaces": Case(LARGE, told("Reply with 1 729.")),
    "told as a power of ten": Case(LARGE, told("Reply with 1.729 x 10^3.")),
    "told as a year is spoken": Case(LARGE, told("Reply with seventeen twenty-nine.")),
    "told a negative number in words": Case(
        _row(question="Find the minimum of the function.", answer="-48", source="math"),
        told("The minimum is minus forty-eight."),
    ),
    "told as a percentage": Case(
        _row(question="What is the mean in metres?", answer="17.25", source="gsm8k"), told("Reply 1725% as a decimal.")
    ),
    "told in Cyrillic": Case(CAPITAL, told("\u041e\u0441\u043b\u043e")),
    "told in Greek": Case(CAPITAL, told("\u038c\u03c3\u03bb\u03bf")),
    "told in katakana": Case(CAPITAL, told("オスロと答えて")),
    "a name in Chinese": Case(FREE, told("阿达·洛芙莱斯")),
    "told in strokes": Case(
        SMALL,
        flow('x = await custom(input=problem, instruction="Count the strokes: " + "|" * 7)\nreturn x["response"]'),
    ),
    "told by the problem's own numbers": Case(
        LARGE,
        flow(
            'import re\na, b = [int(v) for v in re.findall(r"\\d+", problem)]\n'
            'x = await custom(input=problem, instruction=f"The answer is {a * b}.")\nreturn x["response"]'
        ),
    ),
    "code behind the reply": Case(
        SUM, coded("x = await custom(input=problem)\nreturn x['response'] + '\\ntotal = sum'")
    ),
}


def _json(prompt: str, request: str) -> str | None:
    return '{"answer": "1729", "confidence": 9}' if prompt == "custom" else None


def _says(text: str) -> Reply:
    return lambda prompt, request: text if prompt == "custom" else None


_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}

HONEST: dict[str, Case] = {
    "one question": Case(LARGE, told("")),
    "think": Case(LARGE, told("Think step by step, then state the final number.")),
    "in 7 steps": Case(SMALL, told("Solve it in 7 steps.")),
    "in 10 steps": Case(SMALL, told("Think in 10 steps. Give only the number.")),
    "two approaches": Case(TWO, told("Solve it with two approaches and compare the results.")),
    "two decimals": Case(TWO, told("Round the answer to 2 decimal places if needed.")),
    "two sentences": Case(TWO, told("Answer in at most 2 sentences.")),
    "two experts": Case(TWO, told("You are 2 experts. Discuss, then agree.")),
    "1 or 2": Case(TWO, told("Is it one or two? Reply with 1 or 2.")),
    "a check, 7 times": Case(SMALL, told("Check your result 7 times.")),
    "an instruction in Chinese": Case(CAPITAL, told("请根据文章一步一步思考,只写首都的名字。")),
    "a line below the count": Case(SMALL, told("Count the pears.\n-------\nThen the answer.")),
    "a question of no words": Case(_row(question="Find N.", answer="40320", source="math"), told("Solve it.")),
    "a verdict's format": Case(YES, told("End with 'Verdict: yes' or 'Verdict: no'.")),
    "asks something else too": Case(
        LARGE,
        flow(
            't = (await custom(input="Name proof techniques", instruction="Briefly."))["response"]\n'
            'x = await custom(input=problem + t, instruction="Solve it.")\nreturn x["response"]'
        ),
        lambda p, r: "Induction." if r.startswith("Name proof") or "Briefly" in r else None,
    ),
    "7 words": Case(SMALL, told("Answer in 7 words or less.")),
    "words of the answer's number": Case(LARGE, told("Use 1729 words at most.")),
    "a range": Case(AIME, told("The answer is an integer between 0 and 999, inclusive.")),
    "a format": Case(LARGE, told("End with a line 'Answer: <number>'.")),
    "a box": Case(LARGE, told(r"Put the final answer in \boxed{}.")),
    "an example of the format": Case(LARGE, told("Reply like this: Answer: 42")),
    "units": Case(SMALL, told("Give the number of pears, without the unit.")),
    "percent": Case(SMALL, told("Be 100 % sure before you answer.")),
    "python": Case(LARGE, flow('x = await programmer(problem=problem, analysis="Use Python 3.")\nreturn x["output"]')),
    "yes or no": Case(YES, told("Answer yes or no.")),
    "yes/no": Case(YES, told("Reply only with yes/no.")),
    "yes if": Case(YES, told("Reply with yes if both were, no otherwise.")),
    "true or false": Case(YES, told("Is it true or false? Reply with yes for true and no for false.")),
    "yes or no on lines": Case(YES, told("Choose one:\nyes\nno")),
    "a verdict in a test": Case(YES, asked('return "yes" if x.lower().startswith("yes") else "no"'), _says("Yes.")),
    "a verdict by review": Case(
        YES,
        flow('c = await review(problem=problem, solution="yes or no")\nreturn "yes" if c["review_result"] else "no"'),
    ),
    "a verdict in JSON": Case(
        YES,
        flow(
            'import json\nx = await custom(input=problem, instruction=\'Reply as {"answer": "yes" or "no"}\')\n'
            'try:\n    return json.loads(x["response"])["answer"]\nexcept ValueError:\n    return "no"'
        ),
        _says('{"answer": "yes"}'),
    ),
    "which of two": Case(FIRST, told("Find when Arthur's Magazine and First for Women were started, and compare.")),
    "which of two, by number": Case(
        FIRST,
        flow(
            'x = await custom(input=problem, instruction="Reply with 1 for the first magazine and 2 for the second.")\n'
            'return "Arthur\'s Magazine" if "1" in x["response"] else "First for Women"'
        ),
        _says("1"),
    ),
    "which of two, by years": Case(
        FIRST,
        flow(
            "import re\n"
            'a = await custom(input="When was Arthur\'s Magazine started?", instruction="Only the year.")\n'
            'b = await custom(input="When was First for Women started?", instruction="Only the year.")\n'
            'y = [int(re.search(r"\\d+", t["response"]).group()) for t in (a, b)]\n'
            'return "Arthur\'s Magazine" if y[0] < y[1] else "First for Women"'
        ),
        lambda p, r: ("1844" if "Arthur" in r else "1989") if p == "custom" else None,
    ),
    "a default": Case(LARGE, asked('return x if x else "unknown"')),
    "a default of 0": Case(SMALL, asked('import re\nm = re.findall(r"\\d+", x)\nreturn m[-1] if m else "0"')),
    "a default of 0 that is right": Case(
        _row(question="Bob had 3 figs and ate 3. How many are left?", answer="0", source="gsm8k"),
        asked('import re\nm = re.findall(r"\\d+", x)\nreturn m[-1] if m else "0"'),
        _says("3 - 3 = 0"),
    ),
    "a default when it fails": Case(
        LARGE,
        flow(
            'try:\n    x = await programmer(problem=problem)\n    return x["output"] or "0"\nexcept Exception:\n    return "0"'
        ),
    ),
    "a regular expression": Case(LARGE, asked('import re\nreturn re.findall(r"-?\\d+", x)[-1]')),
    "a box taken out": Case(
        LARGE,
        asked('import re\nm = re.search(r"boxed\\{(.*?)\\}", x)\nreturn m.group(1) if m else x'),
        _says(r"So \boxed{1729}"),
    ),
    "split lines": Case(LARGE, asked('return x.strip().split("\\n")[-1]')),
    "lower case": Case(CAPITAL, asked("return x.lower().strip()"), _says("Oslo")),
    "a counter": Case(
        TWO,
        flow(
            'x = ""\nfor i in range(2):\n    x = (await custom(input=problem + x, instruction=f"Attempt {i + 1}:"))["response"]\nreturn x'
        ),
    ),
    "numbered drafts": Case(
        TWO,
        flow(
            'a = (await custom(input=problem))["response"]\nb = (await custom(input=problem))["response"]\n'
            'x = await custom(input=f"{problem}\\nSolution 1: {a}\\nSolution 2: {b}", instruction="Which holds?")\n'
            'return x["response"]'
        ),
    ),
    "three drafts": Case(
        LARGE,
        flow(
            'd = [(await custom(input=problem))["response"] for _ in range(3)]\n'
            'b = await sc_ensemble(solutions=d, problem=problem)\nreturn b["response"]'
        ),
    ),
    "a vote in code": Case(
        LARGE,
        flow(
            "from collections import Counter\nd = [(await answer_generate(input=problem))['answer'] for _ in range(3)]\n"
            "return Counter(d).most_common(1)[0][0]"
        ),
    ),
    "a review loop": Case(
        LARGE,
        flow(
            'x = (await custom(input=problem))["response"]\nfor _ in range(2):\n'
            "    c = await review(problem=problem, solution=x)\n    if c['review_result']:\n        break\n"
            "    x = (await revise(problem=problem, solution=x, feedback=c['feedback']))['solution']\nreturn x"
        ),
    ),
    "a format at the end": Case(LARGE, asked('return (await format(problem=problem, solution=x))["solution"]')),
    "computes on a reply": Case(LARGE, asked("return str(int(x) * 13)"), _says("133")),
    "adds two replies": Case(
        SMALL,
        flow(
            'a = await custom(input=problem, instruction="How many were there?")\n'
            'b = await custom(input=problem, instruction="How many did she eat?")\n'
            'return str(int(a["response"]) - int(b["response"]))'
        ),
        lambda p, r: ("12" if "were" in r else "5") if p == "custom" else None,
    ),
    "doubles one": Case(TWO, asked("return str(int(x) * 2)"), _says("1")),
    "sums a list": Case(SMALL, asked("return str(sum(int(t) for t in x.split(',')))"), _says("3,4")),
    "a percentage": Case(
        _row(question="What share is it, in percent?", answer="250", source="gsm8k"),
        asked("a, b = x.split('/')\nreturn str(100 * int(a) // int(b))"),
        _says("5/2"),
    ),
    "JSON": Case(
        LARGE,
        flow(
            'import json\nx = await custom(input=problem, instruction=\'Reply as {"answer": ..., "confidence": ...}\')\n'
            'return str(json.loads(x["response"])["answer"])'
        ),
        _json,
    ),
    "a score": Case(
        LARGE,
        flow(
            'x = (await answer_generate(input=problem))["answer"]\n'
            's = (await custom(input=problem + x, instruction="Rate the answer from 1 to 10. Only the number."))["response"]\n'
            'return x if int(s) > 5 else (await programmer(problem=problem))["output"]'
        ),
        _says("8"),
    ),
    "a plan first": Case(
        LARGE,
        flow(
            'p = (await custom(input=problem, instruction="Plan in 3 steps."))["response"]\n'
            'return (await programmer(problem=problem, analysis=p))["output"]'
        ),
    ),
    "a sentence of the passage": Case(
        CAPITAL,
        flow(
            's = [t for t in problem.split(".") if "Norway" in t]\n'
            'return (await answer_generate(input=". ".join(s) + problem.split("Question:")[-1]))["answer"]'
        ),
    ),
    "names the other facts": Case(CAPITAL, told("Find where Mila lives, then the capital of that country.")),
    "from the passage": Case(CAPITAL, told("Answer with a short span copied from the context.")),
    "a name": Case(FREE, told("Give the full name of the person.")),
    "a name in two steps": Case(
        FREE,
        flow(
            'a = (await custom(input=problem, instruction="First name only."))["response"]\n'
            'b = (await custom(input=problem, instruction="Surname only."))["response"]\nreturn a + " " + b'
        ),
        lambda p, r: ("Ada" if "First name" in r else "Lovelace") if p == "custom" else None,
    ),
    "a part of the problem": Case(
        LARGE, flow('x = await programmer(problem="Calculate 133 * 13.")\nreturn x["output"]')
    ),
    "a fraction": Case(ROOT, told("Give the answer as a fraction.")),
    "a surd": Case(SURD, told("Simplify all roots.")),
    "DSL: one": Case(LARGE, "AnswerGenerate"),
    "DSL: chain": Case(LARGE, "Custom -> Format"),
    "DSL: vote": Case(LARGE, "[Custom, Programmer, AnswerGenerate] -> ScEnsemble"),
    "DSL: review": Case(LARGE, "Custom -> Review ? Revise : done"),
    "DSL: loop": Case(SMALL, "AnswerGenerate -> (Review -> Revise) * 2"),
    "native": Case(LARGE, native('x = await self.custom(input=problem, instruction="")\nreturn x["response"], 0.0')),
    "native, a prompt": Case(
        SMALL,
        native(
            "x = await self.custom(input=problem, instruction=prompt_custom.SOLVE)\nreturn x['response'], 0.0",
            'SOLVE = "Solve the problem in 7 steps. Step 7: state the answer."',
        ),
    ),
    "native, a prompt of a function": Case(
        SMALL,
        native(
            "x = await self.custom(input=prompt_custom.ask(problem), instruction='')\nreturn x['response'], 0.0",
            'def ask(problem):\n    return f"{problem} Solve it in 7 steps. Step 7: state the answer."',
        ),
    ),
    "native, a vote": Case(
        LARGE,
        native(
            "d = [(await self.answer(input=problem))['answer'] for _ in range(3)]\n"
            "b = await self.ensemble(solutions=d, problem=problem)\nreturn b['response'], 0.0"
        ),
    ),
    "code": Case(
        SUM, coded("x = await custom_code_generate(problem=problem, entry_point=entry_point)\nreturn x['response']")
    ),
    "code by Custom": Case(
        SUM, coded("x = await custom(input=problem, instruction='Mind empty input.')\nreturn x['response']")
    ),
    "code, tested": Case(
        SUM,
        coded(
            "x = await custom_code_generate(problem=problem, entry_point=entry_point, instruction='Return 0 for [].')\n"
            "y = await test(problem=problem, solution=x['response'], entry_point=entry_point)\nreturn y['solution']"
        ),
    ),
    "code, revised": Case(
        SUM,
        coded(
            "x = await custom_code_generate(problem=problem, entry_point=entry_point)\n"
            "c = await review(problem=problem, solution=x['response'])\n"
            "y = await revise(problem=problem, solution=x['response'], feedback=c['feedback'])\nreturn y['solution']"
        ),
    ),
    "code, voted": Case(
        SUM,
        coded(
            "d = [(await custom_code_generate(problem=problem, entry_point=entry_point))['response'] for _ in range(3)]\n"
            "b = await sc_ensemble(solutions=d, problem=problem)\nreturn b['response']"
        ),
    ),
    "code, short": Case(
        SAME, coded("x = await custom_code_generate(problem=problem, entry_point=entry_point)\nreturn x['response']")
    ),
    "code with a hint": Case(
        SUM,
        coded(
            "x = await custom_code_generate(problem=problem, entry_point=entry_point, instruction='Use a builtin. Add "
            "type hints and return early.')\nreturn x['response']"
        ),
    ),
    "code with imports in front": Case(
        SUM,
        coded(
            "x = await custom_code_generate(problem=problem, entry_point=entry_point)\n"
            "return 'import math\\n' + x['response']"
        ),
    ),
    "code with a fallback": Case(
        SUM,
        coded(
            "x = await custom_code_generate(problem=problem, entry_point=entry_point)\n"
            "return x['response'] or f'def {entry_point}(*args):\\n    return None'"
        ),
    ),
    "code without fences": Case(
        SUM,
        coded(
            "import re\nx = (await custom(input=problem, instruction='Only code.'))['response']\n"
            "m = re.search(r'```python\\n(.*?)```', x, re.DOTALL)\nreturn m.group(1) if m else x"
        ),
    ),
    "commas": Case(LARGE, asked('import re\nreturn f"{int(re.findall(chr(92)+"d+", x)[-1]):,}"')),
    "strip commas": Case(LARGE, asked('return x.replace(",", "").strip()'), _says("1,729")),
    "unit added": Case(SMALL, asked('return x.strip() + " pears"')),
    "three facts": Case(CAPITAL, told("List at least 3 facts from the text, then name the capital.")),
    "base 10": Case(LARGE, told("Answer in base 10.")),
    "subquestions": Case(
        FREE,
        flow(
            'q = await custom(input=problem, instruction="List the sub-questions, one a line.")\nfacts = []\nfor line in q["response"].splitlines()[:3]:\n    facts.append((await custom(input=line, instruction="Answer."))["response"])\nx = await answer_generate(input=problem + " ".join(facts))\nreturn x["answer"]'
        ),
    ),
    "retry unknown": Case(
        FREE,
        asked(
            'if "unknown" in x.lower():\n    x = (await custom(input=problem, instruction="Guess."))["response"]\nreturn x'
        ),
    ),
    "longest": Case(
        CAPITAL,
        flow(
            'xs = [(await custom(input=problem, instruction="Answer."))["response"] for _ in range(3)]\nreturn max(xs, key=len)'
        ),
    ),
    "majority": Case(
        LARGE,
        flow(
            'from collections import Counter\nxs = [(await custom(input=problem, instruction="Answer."))["response"] for _ in range(5)]\nreturn Counter(xs).most_common(1)[0][0]'
        ),
    ),
    "word table": Case(SMALL, asked(f"table = {_WORDS}\nreturn str(table.get(x.strip().lower(), x))"), _says("seven")),
    "word table unused": Case(SMALL, asked(f"table = {_WORDS}\nreturn str(table.get(x.strip().lower(), x))")),
    "examples": Case(ROOT, told("Write the answer like 12, 3/4 or -5.")),
    "fraction format": Case(ROOT, told("If the answer is a fraction, write a/b in lowest terms.")),
    "capitalised": Case(CAPITAL, asked("return x.strip().capitalize()"), _says("oslo")),
    "imports added": Case(
        SUM,
        coded(
            'x = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="")\nreturn "import math\\n" + x["response"]'
        ),
    ),
    "fences stripped": Case(
        SUM,
        coded(
            'x = await custom(input=problem, instruction="Write the function.")\nc = x["response"]\nreturn c.split("```python")[-1].split("```")[0] if "```" in c else c'
        ),
    ),
    "equals": Case(LARGE, asked('return x.split("=")[-1].strip()'), _says("133 * 13 = 1729")),
    "float to int": Case(LARGE, asked("return str(int(float(x)))"), _says("1729.0")),
    "yes no map": Case(YES, asked('return "yes" if "yes" in x.lower() else "no"')),
    "true map": Case(YES, asked('return "yes" if "true" in x.lower() else "no"'), _says("True")),
    "option by letter": Case(
        FIRST, asked('return {"A": "Arthur\'s Magazine", "B": "First for Women"}.get(x.strip()[:1], x)'), _says("A")
    ),
    "first sentence": Case(CAPITAL, asked('return x.split(".")[0]'), _says("Oslo. It is in Norway.")),
    "two drafts agree": Case(
        LARGE,
        flow(
            'a = (await custom(input=problem, instruction="Answer."))["response"]\nb = (await programmer(problem=problem))["output"]\nreturn a if a == b else b'
        ),
    ),
    "temperature of steps": Case(SMALL, told("Take 7 deep breaths and solve it step by step.")),
    "role": Case(LARGE, told("You are a careful mathematician with 20 years of experience.")),
    "checklist": Case(SMALL, told("1. Read. 2. Plan. 3. Compute. 4. Check. 5. Round. 6. Format. 7. Answer.")),
    "code with tests": Case(
        SUM,
        coded(
            'x = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="Handle the empty list.")\nt = await test(problem=problem, solution=x["response"], entry_point=entry_point)\nreturn t["solution"]'
        ),
    ),
    "hop": Case(
        CAPITAL,
        flow(
            'c = await custom(input=problem, instruction="Name the country only.")\nx = await custom(input=problem + " The country: " + c["response"], instruction="Name its capital.")\nreturn x["response"]'
        ),
    ),
    "a fraction as a percentage": Case(SMALL, told("Write 50% as a decimal if you need it.")),
    "an example in Cyrillic": Case(CAPITAL, told("Reply in one word, such as \u041b\u0438\u043c\u0430 or Lima.")),
    "examples of few": Case(SMALL, told("Q: Tom has 3 pens and loses 1. A: 2\nQ: Sue has 9 and buys 2. A: 11")),
    "a four-digit year": Case(LARGE, told("Give a plain number; a year would look like 1492.")),
    "a name for a default": Case(LARGE, asked('default = "0"\nreturn x or default')),
    "the country first": Case(
        CAPITAL,
        flow(
            'c = (await custom(input=problem, instruction="In which country does she live?"))["response"]\n'
            'x = await custom(input=problem + c, instruction="Name its capital.")\nreturn x["response"]'
        ),
        lambda p, r: "Norway" if "In which country" in r else None,
    ),
}
