"""Names by their sound: `オスロ`, `Осло`, `오슬로`, `奥斯陆` and `أوسلو` say `Oslo`.

Words in other scripts are put in Latin letters, as the names of their characters in Unicode or a table of the
characters that Chinese writes foreign names with tell, and compared with a name by the consonants that are left when
those that languages confuse (l and r, b and p, v and f) are one. It takes four of them, or three with the vowels.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from rewards.provenance.targets import Target, by_sound, plain

ENOUGH, ENOUGH_WITH_VOWELS = 4, 3
_MAX_WORDS = 200
# Scripts with capitals, which names begin with.
_CASED = ("CYRILLIC", "GREEK", "ARMENIAN")
_TRANSCRIPTION = """
a阿 ai艾爱埃愛 an安 ao奥澳奧 ba巴 bai拜 ban班 bao保鲍 bei贝貝 ben本 bi比彼毕 bin宾 bo波博伯勃 bu布 cha查 che彻
ci茨 da达達 dai戴 dan丹 dao道 de德 den登邓 di迪蒂 din丁 don东 du杜 dun顿敦頓 duo多 e厄 en恩 l尔爾 fa法 fan凡范
fei菲费 fen芬 fon冯 fo佛 fu弗夫福芙 ka加卡 gai盖 gan甘 gon冈贡 gao高 ge戈格葛 gen根 gu古 ha哈 hai海 han汉 hao豪
he赫 hen亨 hon洪 hu胡 hua华華 huai怀 hui惠 huo霍 ji吉基季 jia贾 jan简 jie杰傑 jin金津 kai凯 kan坎 kon康孔 kao考
ke科克 ken肯 ku库 kui奎 kun昆 la拉 lai莱赖萊 lan兰朗蘭 lao劳 le勒 lei雷蕾 li里利莉丽 lin林琳 lon隆
lu卢鲁陆露盧魯陸 lun伦倫 luo罗洛羅 ma马玛馬 mai迈麦 man曼芒 mao毛 mei梅 men门蒙 mi米密 min明 mo莫墨默 mu姆穆
na纳娜納 nai奈 nan南 nei内 ni尼妮 nin宁 nu努 nuo诺諾 niu纽 pa帕 pai派 pan潘庞 pei佩 pen彭 pi皮 pin平 po珀 pu普
cha恰 chao乔喬 che切 chon琼 re热 ri日 ron荣 ru茹 rui瑞 sa萨 sai赛塞 san桑 se瑟 sen森 sha沙莎 she舍 shen圣盛
shi施史什 shu舒 si斯丝思 son松 su苏蘇 suo索 ta塔 tai泰 tan坦汤 tao陶 te特 ten腾 ti提 tin廷 ton通 tu图 tuo托 va瓦
van万 vei威韦维未魏維 ven温 vo沃 vu伍乌 si西希锡 sha夏 shao肖 she谢 sin辛欣 shu休许 ya亚雅亞 yan扬 ye耶叶 yi伊
yin因英 yu尤于 yue约約 zha扎 zhan詹 zhen珍 zhi芝 zhu朱 zi兹 zuo佐 ze泽
"""
_CHINESE: dict[str, str] = {
    sign: sound for sound, signs in re.findall(r"([a-z]+)([^\sa-z]+)", _TRANSCRIPTION) for sign in signs
}
# A letter that is a vowel more often than a consonant.
_VAV = "ו"
_KANA = {"si": "shi", "ti": "chi", "tu": "tsu", "zi": "ji", "di": "ji", "hu": "fu"}
_HANGUL = (("ng", "n"), ("eo", "o"), ("eu", "u"), ("ae", "e"))
_FOREIGN = re.compile(r"[^\W\d_a-zA-Z\u00c0-\u024f][^\s\d!-/:-@\[-`{-~、。，：「」・·؟]*")
# From the longest on: what a letter or several stand for among the consonants that are told apart.
_CONSONANTS = (
    (re.compile(r"dzh|dj|sch|tch|sh|ch|zh|ts|tz|z|j|c(?=[eiy])"), "s"), (re.compile(r"ph|[bfvp]"), "p"),
    (re.compile(r"th|[dt]"), "t"), (re.compile(r"x"), "ks"), (re.compile(r"ck|kh|gh|qu|[cgkq]"), "k"),
    (re.compile(r"r"), "l"), (re.compile(r"h"), ""),
)  # fmt: skip
_VOWELS = str.maketrans("iyuw", "eeoo")


def found_by_sound(text: str, target: Target) -> str | None:
    """Return a text in which a name in another script is replaced by it; `None` when there is none.

    Args:
        text (`str`): what a workflow wrote.
        target (`Target`): what is looked for; only names are.
    """
    if text.isascii() or target.kind != "text" or target.common:
        return None
    words = [word for match in _FOREIGN.finditer(text) for word in _of_one_script(match.group())][:_MAX_WORDS]
    wanted = _sounds("".join(plain(target.text).split()))
    for size in range(1, len(target.words) + 1):
        for start in range(len(words) - size + 1):
            group = words[start : start + size]
            if any(word[0].islower() and unicodedata.name(word[0]).startswith(_CASED) for word in group):
                continue
            if any(_alike(sound, name) for sound in _sounds("".join(map(_in_latin, group))) for name in wanted):
                return f"{plain(text)} {plain(target.text)}"
    return None


def _of_one_script(word: str) -> Iterator[str]:
    """The pieces of a word that are written in one script each; of Chinese only what transcribes names."""
    piece, last = "", ""
    for character in word:
        script = unicodedata.name(character, "").partition(" ")[0]
        if character == "ー" or unicodedata.category(character).startswith("M"):
            script = last or script
        if script == "CJK" and character not in _CHINESE:
            script = ""
        if piece and script != last:
            yield piece
            piece = ""
        piece, last = piece + (character if script else ""), script
    if piece:
        yield piece


@lru_cache(4096)
def _in_latin(word: str) -> str:
    return "".join(map(_sound, by_sound(word)))


def _sound(character: str) -> str:
    """What one character says, by its table or its name in Unicode."""
    if character.isascii() or character in _CHINESE:
        return _CHINESE.get(character, character)
    if character == _VAV:
        return "o"
    kind, _, name = unicodedata.name(character, " ").lower().rpartition(" ")
    if "katakana" in kind or "hiragana" in kind:
        return "" if name in ("tu", "mark") and "letter" not in kind.removesuffix(" small") else _KANA.get(name, name)
    if "hangul" in kind:
        for written, said in _HANGUL:
            name = name.replace(written, said)
        return name
    if "thai" in kind or "lao" in kind:
        name = "" if "sara" in kind or "mai" in kind else kind.split()[-1]
    if "virama" in name:
        return ""
    consonants = re.match(r"[^aeiou]*", name)
    return (consonants.group() if consonants else "") or name[:1]


def _sounds(latin: str) -> tuple[tuple[str, str], ...]:
    """The consonants of a word, with a sign in front when it begins with a vowel, and its vowels.

    Three ways: `j` and `w` are consonants here and vowels there.
    """
    found = []
    for word in dict.fromkeys((latin, latin.replace("j", "y"), latin.replace("w", "v"))):
        skeleton = word
        for pattern, sound in _CONSONANTS:
            skeleton = pattern.sub(sound, skeleton)
        skeleton = re.sub(r"([^aeo])\1+", r"\1", re.sub(r"[^a-z]", "", skeleton.translate(_VOWELS)))
        consonants = re.sub(r"[aeo]", "", skeleton)
        vowels = re.sub(r"[^aeo]", "", skeleton)
        found.append(("'" * (skeleton[:1] in "aeo") + consonants, vowels))
    return tuple(found)


def _alike(sound: tuple[str, str], name: tuple[str, str]) -> bool:
    """Whether a word may say a name."""
    (consonants, vowels), (name_consonants, name_vowels) = sound, name
    if consonants != name_consonants or len(consonants) < ENOUGH_WITH_VOWELS:
        return False
    heard = iter(vowels)
    return len(consonants) >= ENOUGH or (len(name_vowels) > 1 and all(vowel in heard for vowel in name_vowels))
