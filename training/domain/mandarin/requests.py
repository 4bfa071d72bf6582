"""Single requests in Mandarin: a wording with its slots filled, fillers, hesitations and restarts around it."""

from random import Random

from training.domain.mandarin.errands import ERRANDS
from training.domain.mandarin.talk import TALK
from training.domain.mandarin.words import HOURS, WEEK, say_number
from training.domain.numbers import random_number
from training.domain.replies import Request
from training.domain.sampling import Wordings
from training.domain.sentences import DAYS, TIMES
from training.grammar import Patterns, tidy
from training.languages import language_of
from training.splits import Split

PATTERNS: Patterns = {**ERRANDS, **TALK}
INTENTS = tuple(PATTERNS)
WORDINGS = Wordings(PATTERNS)
random_wording = WORDINGS.random

_BEFORE = (
    "你好", "您好", "喂", "喂你好", "你好请问", "嗯", "呃", "那个", "不好意思", "请问", "hello", "对了", "那",
    "还有", "再问一下", "是这样的", "好的", "ok", "哎", "打扰一下", "还有一个问题", "另外", "然后", "嗨", "早上好",
    "下午好", "哦", "好", "那行", "hi", "小姐您好", "啊", "再请教一下", "晚上好", "先生您好",
)  # fmt: skip
_ASKING = ("请", "想", "问", "我想问", "麻烦", "打听", "不知道", "能", "可")  # after which 请问 is too much
_AFTER = ("谢谢", "谢谢您", "麻烦了", "谢谢啊", "麻烦您了", "谢谢你", "谢谢了", "多谢", "thank you")
_POLITE, _THANKS = ("请问", "问一下", "一下"), ("谢谢", "麻烦了", "you")
_NO_FILLERS = {"greet", "yes", "no", "bye", "repeat", "thanks", "how", "slower", "faster"}
_HESITATIONS = ("嗯", "呃", "那个", "这个", "就是", "就是说", "额", "怎么说呢")
# A sentence may halt after these, or begin anew.
_OPENERS = (
    "我想要", "我想问一下", "我想", "我要", "我的", "我们", "你们", "您那边", "请问", "帮我", "麻烦您", "麻烦", "请",
    "能不能", "可不可以", "可以", "我", "想问一下", "你", "您", "那个", "刚才", "不知道", "单号", "快递", "包裹",
)  # fmt: skip
_ENGLISH_DAY = 0.04
_AS_YAO = 0.35  # 幺 for one, which is hard to tell from seven on a telephone


def number_as_said(number: str, rng: Random) -> str:
    """Digits in English words as a Mandarin speaker says them: 四七幺九."""
    said = say_number(number)
    return said.replace("一", "幺") if rng.random() < _AS_YAO else said


def day_as_said(day: str, rng: Random) -> str:
    """`day`: Monday to Sunday. 星期六, 周六, 礼拜六, now and then Saturday."""
    if rng.random() < _ENGLISH_DAY:
        return day
    if day == "Sunday" and rng.random() < 0.4:
        return rng.choice(["星期日", "周日", "周日"])
    return rng.choice(["星期", "星期", "周", "周", "礼拜"]) + ("天" if day == "Sunday" else WEEK[day])


def time_as_said(time: str, rng: Random) -> str:
    """`time` as in sentences.TIMES: 十点半, 上午十点半, 十点三十分; 两点, 下午两点钟."""
    hour, _, half = time.partition(" ")
    text = HOURS[hour]
    if half:
        text += rng.choice(["半", "半", "半", "三十", "三十分"])
    elif rng.random() < 0.15:
        text += rng.choice(["钟", "整"])
    if rng.random() < 0.5:
        return text
    parts = {"nine": ("上午", "早上"), "ten": ("上午", "上午", "早上"), "eleven": ("上午",), "twelve": ("中午",)}
    return rng.choice(parts.get(hour, ("下午",))) + text


def hesitate(text: str, rng: Random) -> str:
    """Halts after the sentence's first words, or begins it twice."""
    opener = next((opener for opener in _OPENERS if text.startswith(opener)), "")
    halt = rng.choice(_HESITATIONS)
    if opener and rng.random() < 0.4:
        return opener + (halt if rng.random() < 0.5 else "") + text
    return opener + halt + text.removeprefix(opener)


def make_request(intent: str, split: Split, rng: Random, number: str | None = None) -> tuple[str, Request]:
    """A caller's sentence of this intent, and what it means. Everything in it is of the given split."""
    text = random_wording(intent, split, rng)
    while language_of(text) != "zh":  # "ok" alone is of no language
        text = random_wording(intent, split, rng)
    slots: dict[str, str] = {"language": "zh"}
    if "{number}" in text:
        slots["number"] = number or random_number(rng, split)
        text = text.replace("{number}", number_as_said(slots["number"], rng))
    if "{day}" in text:
        sunday = rng.random() < (0.16 if intent == "hours_day" else 0.04)
        slots["day"] = "Sunday" if sunday else rng.choice(DAYS)
        text = text.replace("{day}", day_as_said(slots["day"], rng))
    if "{time}" in text:
        slots["time"] = rng.choice(TIMES)
        text = text.replace("{time}", time_as_said(slots["time"], rng))
    if intent not in _NO_FILLERS:
        if rng.random() < 0.1:
            text = hesitate(text, rng)
        if rng.random() < 0.35:
            before = rng.choice(_BEFORE)
            if not (text.startswith(before) or (before.endswith(_POLITE) and text.startswith(_ASKING))):
                text = f"{before} {text}"
        if rng.random() < 0.12 and not text.endswith(_THANKS):
            text = f"{text} {rng.choice(_AFTER)}"
    return tidy(text), Request.of(intent, slots)


def bare_number(split: Split, rng: Random, number: str | None = None) -> tuple[str, Request]:
    """Just the digits."""
    number = number or random_number(rng, split)
    return number_as_said(number, rng), Request("number", number=number, language="zh")
