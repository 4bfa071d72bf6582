"""A persona's facts in Mandarin; and personas made at random, split by their parts as in domain/facts.py.

Hours and prices are those of an English persona in other words, so that a persona of both languages says the same in
both, and a price is in the same split in both.
"""

import functools
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from training.domain import facts
from training.domain.facts import Facts, Pool
from training.domain.mandarin.words import HOURS, count, numeral, say_day
from training.languages import Language
from training.splits import Split

YUAN = "yuan"
CURRENCIES = {"euros": "欧元", "dollars": "美元", "pounds": "英镑", YUAN: "元"}
NAMES = (
    "小美", "小林", "小雨", "小杰", "小云", "小雪", "小梅", "小燕", "小敏", "小芳", "小军", "小宇", "小晴", "小兰",
    "晓晓", "丽丽", "婷婷", "佳佳", "明明", "圆圆", "乐乐", "思思", "媛媛", "王芳", "李娜", "张伟", "刘洋", "陈静",
    "杨帆", "赵磊", "周杰", "吴敏", "徐丽", "孙涛", "马超", "胡斌", "郭强", "何欢", "高飞", "罗丹",
)  # fmt: skip
_COMPANY_FIRST = (
    "海港", "北极星", "城市", "大江", "金牛", "飞燕", "蓝天", "雄狮", "神鹰", "都会", "银河", "绿洲", "泰山", "东海",
    "大桥", "古城", "猎鹰", "朝阳", "先锋", "红狐", "枫叶", "远航", "迅达", "快马", "信鸽",
)  # fmt: skip
_COMPANY_LAST = ("快递", "快递", "速递", "物流", "快运", "速运", "货运", "包裹")
_STREETS = (
    "码头", "人民", "解放", "中山", "建设", "和平", "胜利", "长江", "黄河", "北京", "南京", "上海", "广州", "新华",
    "文化", "学院", "公园", "花园", "市场", "湖滨", "海滨", "桥头", "枫林", "松柏", "樱花", "桃园", "梅园", "青年",
    "幸福", "光明", "友谊", "迎宾", "体育", "科技", "工业", "东风",
)  # fmt: skip
_STREET_KINDS = ("路", "路", "路", "街", "街", "大道", "巷")
_VALUES = {facts.number_words(value): value for value in range(1, 100)}


@dataclass(frozen=True)
class MandarinFacts(Facts):
    """The same facts, in the words that are said in Mandarin."""

    language: ClassVar[Language] = "zh"

    name: str = "小美"
    company: str = "海港快递"
    opens: str = "上午九点"
    closes: str = "下午六点"
    saturday_opens: str = "上午十点"
    saturday_closes: str = "下午两点"
    address: str = "码头街十二号"
    small: str = "四"
    medium: str = "七"
    large: str = "十一"
    currency: str = "元"

    @property
    def greeting(self) -> str:
        return f"您好，这里是{self.company}，我是{self.name}，请问有什么可以帮您？"

    @property
    def identity(self) -> str:
        return f"我是{self.company}的智能语音助手{self.name}。"

    @property
    def hours(self) -> str:
        return (
            f"我们周一到周五{self.opens}到{self.closes}营业，周六{self.saturday_opens}到{self.saturday_closes}营业，"
            "周日休息。"
        )

    @property
    def weekend(self) -> str:
        return f"我们周六{self.saturday_opens}到{self.saturday_closes}营业，周日休息。"

    @property
    def where(self) -> str:
        return f"我们的地址是{self.address}。"

    @property
    def prices(self) -> str:
        unit = self.currency
        return f"寄一个小件{self.small}{unit}，中件{self.medium}{unit}，大件{self.large}{unit}。"

    def hours_on(self, day: str) -> str:
        """`day` Monday to Saturday."""
        hours = (self.saturday_opens, self.saturday_closes) if day == "Saturday" else (self.opens, self.closes)
        return f"我们{say_day(day)}{hours[0]}到{hours[1]}营业。"

    def price_of(self, size: str) -> str:
        """`size`: small, medium or large."""
        name = {"small": "小件", "medium": "中件", "large": "大件"}[size]
        return f"寄一个{name}{getattr(self, size)}{self.currency}。"

    def prompt(self) -> str:
        """In one wording, the plainest."""
        return f"你是{self.company}的{self.name}。{self.hours}{self.where}{self.prices}"

    def said_otherwise(self, rng: Random) -> str:
        """The same facts as another operator would write them: other sentences, in another order."""
        unit = self.currency
        hours = rng.choice(
            [
                self.hours,
                f"营业时间：周一到周五{self.opens}到{self.closes}，周六{self.saturday_opens}到{self.saturday_closes}，"
                "周日不营业。",
                f"周一至周五{self.opens}开门，{self.closes}关门。周六从{self.saturday_opens}开到{self.saturday_closes}。"
                "周日休息。",
            ]
        )
        where = rng.choice([self.where, f"地址：{self.address}。", f"我们在{self.address}。"])
        prices = rng.choice(
            [
                self.prices,
                f"小件{self.small}{unit}，中件{self.medium}{unit}，大件{self.large}{unit}。",
                f"价格：小包裹{self.small}{unit}，中包裹{self.medium}{unit}，大包裹{self.large}{unit}。",
            ]
        )
        stated = [hours, where, prices]
        rng.shuffle(stated)
        who = rng.choice(
            [
                f"你是{self.company}的{self.name}。",
                f"你叫{self.name}，是{self.company}的客服助手。",
                f"你的名字是{self.name}，你在{self.company}工作。",
            ]
        )
        return "".join([who, *stated])


DEFAULT = MandarinFacts()


def _opening(hour: str) -> str:
    return f"{'早上' if hour in ('seven', 'eight') else '上午'}{HOURS[hour]}"


def _closing(hour: str) -> str:
    return f"{'晚上' if hour in ('seven', 'eight') else '下午'}{HOURS[hour]}"


def say_hours(hours: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    """Opening and closing, Saturday's too, from English."""
    return _opening(hours[0]), _closing(hours[1]), _opening(hours[2]), _closing(hours[3])


def say_prices(prices: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    """Small, medium, large and currency from English."""
    small, medium, large = (count(_VALUES[price]) for price in prices[:3])
    return small, medium, large, CURRENCIES[prices[3]]


def translate(english: Facts, who: tuple[str, str], address: str) -> MandarinFacts:
    """The English hours and prices with a Mandarin name, company and address."""
    hours = say_hours((english.opens, english.closes, english.saturday_opens, english.saturday_closes))
    prices = say_prices((english.small, english.medium, english.large, english.currency))
    return MandarinFacts(*who, *hours, address, *prices)


def random_who(split: Split, rng: Random) -> tuple[str, str]:
    """Name and company."""

    def make(rng: Random) -> tuple[str, str]:
        return rng.choice(NAMES), rng.choice(_COMPANY_FIRST) + rng.choice(_COMPANY_LAST)

    return facts.in_split(make, lambda who: f"who {who[0]} {who[1]}", split, rng)


def random_address(split: Split, rng: Random) -> str:
    def make(rng: Random) -> str:
        return f"{rng.choice(_STREETS)}{rng.choice(_STREET_KINDS)}{numeral(rng.randrange(1, 100))}号"

    return facts.in_split(make, lambda address: f"address {address}", split, rng)


def random_facts(split: Split, rng: Random) -> MandarinFacts:
    """A persona all of whose parts are of the split (hours of any)."""
    english = facts.random_facts(split, rng, (YUAN,))
    return translate(english, random_who(split, rng), random_address(split, rng))


def shared_pool(prices: int = 100) -> Pool:
    """The English pool with those prices alone that the Mandarin pool has too."""
    pool = facts.training_pool()
    return replace(pool, prices=pool.prices[:prices])


@functools.cache
def training_pool(who: int = 250, addresses: int = 400, prices: int = 60, seed: int = 1) -> Pool:
    """The parts of training personas; the default persona's, and the prices of the shared pool, are among them."""
    rng = Random(f"mandarin pool {seed}")
    d = DEFAULT
    known = [*shared_pool().prices, *(facts.random_prices("train", rng, (YUAN,)) for _ in range(prices))]
    default_prices = (d.small, d.medium, d.large, d.currency)
    return Pool(
        tuple(dict.fromkeys([(d.name, d.company), *(random_who("train", rng) for _ in range(who))])),
        tuple(dict.fromkeys([d.address, *(random_address("train", rng) for _ in range(addresses))])),
        tuple(dict.fromkeys([default_prices, *(say_prices(each) for each in known)])),
        d,
        tuple(say_hours(hours) for hours in facts.all_hours()),
    )
