"""Wide Mandarin text for the tokenizer: words of a large dictionary in no order, everyday sentences, numbers.

The dictionary is jieba's (MIT), with its frequencies. Everything is in simplified characters and without punctuation.
"""

import functools
from pathlib import Path
from random import Random

from training.grammar import expand

DIGITS = ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九")

_COMMONEST = 30_000
_EVERYDAY = [
    "[我|他|她|我们|你们|他们|大家|老师|医生|经理|邻居|弟弟|妹妹|爸爸|妈妈|同事|客户][昨天|今天|明天|刚才|上个星期|下个月|每天|周末|早上|晚上|]"
    "[想|要|不想|打算|准备|已经|常常|从来不|必须|应该][去|来|到|离开|回到|经过]"
    "[学校|医院|银行|超市|机场|火车站|公园|图书馆|办公室|饭店|市中心|海边|北京|上海|广州|成都|国外|乡下]"
    "[看书|吃饭|开会|买东西|见朋友|休息|上班|拿文件|接孩子|散步|旅游|看电影|办手续|取钱|]",
    "[这|那|哪][个|件|条|本|张|辆|家|座|位][苹果|衣服|问题|书|桌子|汽车|商店|城市|先生|电话|消息|办法|地方|合同|照片|房子]"
    "[很|非常|不太|有点|特别|比较|真的]"
    "[好|贵|便宜|漂亮|新|旧|远|近|有意思|麻烦|重要|方便|安静|奇怪|清楚|干净|危险|有名|容易|难]",
    "[请问|你知道|告诉我|我想知道|能不能告诉我|]"
    "[洗手间|地铁站|出口|电梯|停车场|前台|餐厅|最近的药店|会议室|售票处|警察局]"
    "[在哪里|怎么走|远不远|几点关门|在几楼|还开着吗|要排队吗]",
    "[因为|虽然|如果|既然][天气|时间|价格|身体|路上|信号|工作|电脑|网络]"
    "[不好|太晚了|有变化|出了问题|不够|很忙|堵车|坏了|恢复了]"
    "[所以|但是|那么|就|我们就]"
    "[改天再说|先回家|等一等|换一个|打电话告诉你|不去了|重新安排|请人帮忙|还是可以的|继续努力]",
    "[您拨打的电话|您要找的人|您的账户|您的订单|您的快递|您的会员卡|您的密码|您的预约]"
    "[已关机|正在通话中|余额不足|已经发出|暂时无法接通|已经到期|输入有误|已经取消|正在处理|需要确认]"
    "[请稍后再拨|请按一|请按二|请按井号键|请联系客服|请留言|谢谢|请重新输入|请不要挂机|]",
    "[一共|大概|至少|最多|还剩|需要|花了|等了|买了|卖了|寄了]"
    "[十一|十二|十三|十五|十八|二十|二十五|三十|三十六|四十|五十|六十四|七十|八十九|九十|一百|一百二十|三百|五百|一千|两千|三万]"
    "[个人|块钱|分钟|公里|公斤|本书|杯咖啡|张票|天|小时|次|台电脑|封信|个箱子]",
    "[二零二]{digit}年[一|二|三|四|五|六|七|八|九|十|十一|十二]月[一|三|五|八|十|十二|十六|二十|二十三|二十七|三十]号"
    "[上午|下午|晚上|早上|]{hour}点[|半|一刻|十分|四十五分]",
    "[你好|喂|不好意思|对不起|谢谢|麻烦你|没关系|请等一下|再见|好的|是的|不是|可能|当然]"
    "[我听不清楚|你说什么|请再说一遍|我马上就到|我不是这个意思|你打错了|我是王先生|我姓李|稍等|今天不方便|改天联系|辛苦了|明白了|]",
]
_HOURS = ("一", "两", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")


@functools.cache
def _words() -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The commonest words of two to four characters, and how likely each is drawn."""
    import jieba

    found: list[tuple[float, str]] = []
    for line in (Path(jieba.__file__).parent / "dict.txt").read_text(encoding="utf-8").splitlines():
        word, frequency, _ = line.split(" ")
        if 2 <= len(word) <= 4 and all("\u4e00" <= character <= "\u9fff" for character in word):
            found.append((float(frequency), word))
    found.sort(reverse=True)
    # The square root lets rare syllables be heard too: the commonest words alone are few.
    return tuple(w for _, w in found[:_COMMONEST]), tuple(f**0.5 for f, _ in found[:_COMMONEST])


def common_words() -> tuple[str, ...]:
    """The words that utterances are made of, commonest first."""
    return _words()[0]


def scrambled(rng: Random) -> str:
    """Words without grammar: nothing but the sound tells them."""
    words, weights = _words()
    return "".join(rng.choices(words, weights, k=rng.randrange(2, 7)))


def digits(rng: Random, count: int) -> str:
    """Digits one by one, on the telephone often with 幺 for 一."""
    number = "".join(rng.choice(DIGITS) for _ in range(count))
    return number.replace("一", "幺") if rng.random() < 0.4 else number


def wide_text(rng: Random) -> str:
    """One utterance of general Mandarin."""
    kind = rng.random()
    if kind < 0.45:
        return scrambled(rng)
    text = expand(rng.choice(_EVERYDAY), rng).replace(" ", "")
    return text.replace("{digit}", rng.choice(DIGITS)).replace("{hour}", rng.choice(_HOURS))
