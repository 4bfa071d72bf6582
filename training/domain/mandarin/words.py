"""Digits, days and times in Mandarin, by their English words."""

from training.corpus import DIGITS
from training.domain.sentences import DAYS

DIGIT_CHARACTERS = dict(zip(DIGITS, "零一二三四五六七八九", strict=True))
WEEK = dict(zip((*DAYS, "Sunday"), "一二三四五六日", strict=True))
HOURS = {
    "seven": "七点", "eight": "八点", "nine": "九点", "ten": "十点", "eleven": "十一点", "twelve": "十二点",
    "one": "一点", "two": "两点", "three": "三点", "four": "四点", "five": "五点", "six": "六点",
}  # fmt: skip
_MORNING = ("nine", "ten", "eleven")
_NUMERALS = "零一二三四五六七八九"


def numeral(value: int) -> str:
    """1 to 99: 五, 十二, 二十, 九十九. Raises ValueError for others."""
    if not 1 <= value <= 99:
        raise ValueError(f"{value} is not between 1 and 99")
    tens, ones = divmod(value, 10)
    leading = "" if not tens else "十" if tens == 1 else f"{_NUMERALS[tens]}十"
    return leading + (_NUMERALS[ones] if ones else "")


def count(value: int) -> str:
    """As `numeral`, before a measure word: 两 for two."""
    return "两" if value == 2 else numeral(value)


def say_number(number: str) -> str:
    return "".join(DIGIT_CHARACTERS[word] for word in number.split())


def say_day(day: str) -> str:
    return f"周{WEEK[day]}"


def say_time(time: str) -> str:
    """With its part of the day, for pick-ups: nine to half past five."""
    hour, _, half = time.partition(" ")
    part = "上午" if hour in _MORNING else "中午" if hour == "twelve" else "下午"
    return f"{part}{HOURS[hour]}{'半' if half else ''}"
