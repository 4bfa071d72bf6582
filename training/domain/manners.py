# ruff: noqa: E501 - a pattern is read as one line
"""How callers ask for a style or a language, for the rest of the call or for the last answer again."""

from training.grammar import Patterns

_PLEASE = (
    "[can you|could you|please|would you|could you please|can you please|will you|i want you to|i would like you to]"
)
_SPEAK = "[speak|talk|answer|answer me|reply|talk to me|speak to me|go on]"
_SAY = "[say|repeat|tell me]"
_THAT = "[that|it|this|your answer|what you said|the last sentence|what you just said|the last thing]"
_AGAIN = "[again|once more|one more time|]"
_PLEADING = "[please|if you can|if possible|for me|]"
_FROM_NOW = "[from now on|for the rest of the call|now|]"


def _mood(adverb: str, adjective: str) -> list[str]:
    return [
        f"{_PLEASE} {_SPEAK} [more|a bit more|a little more|] {adverb} {_FROM_NOW}",
        f"{_PLEASE} [sound|be|try to sound|try to be] [more|a bit more|a little more|] {adjective} {_PLEADING}",
        f"{_PLEASE} {_SPEAK} [in a|with a] [more|really|very|] {adjective} [voice|tone|way] {_PLEADING}",
        f"[use|try|give me|put on|switch to|change to] a [more|] {adjective} [voice|tone] {_PLEADING}",
        f"[can you|could you|do you know how to|are you able to] sound {adjective}",
        f"[sound|be] [more|a bit more|a little more] {adjective} {_PLEADING}",
        f"[speak|talk] [more|a bit more|] {adverb} {_PLEADING}",
        f"[you sound|your voice is|you are] [too flat|so flat|so boring|too cold|like a machine|not {adjective} at all] [sound|be] [more|a bit more] {adjective}",
        f"[i would like|i want|i prefer] [to hear|] [you|it|your voice] [to sound|to be|] [more|] {adjective}",
        f"[let me hear|let us hear|show me] your {adjective} voice",
        f"[how about|what about] [a|some] {adjective} [voice|tone] {_PLEADING}",
    ]


def _again_so(adverb: str, adjective: str) -> list[str]:
    return [
        f"{_PLEASE} {_SAY} {_THAT} [again|once more|one more time|] [more|] {adverb}",
        f"{_PLEASE} {_SAY} {_THAT} {_AGAIN} [in a|with a] [more|really|very|] {adjective} [voice|tone|way]",
        f"[say|repeat] [that|it] {_AGAIN} [but|only|just|] [more|] {adverb} [this time|please|]",
        f"[again|once more|one more time|the same] [but|and|just] [more|really|this time|] {adverb} [please|]",
        f"[again|once more|one more time] in a [more|] {adjective} [voice|tone] [please|]",
        f"[how would that|how would it|what would that] sound [when you are|if you were|if you are] {adjective}",
        f"[say|repeat|tell me] [that|it] [as if you were|as though you were|like you are|like somebody who is] [very|really|] {adjective}",
        f"[i would like|i want] to hear [that|it] [again|once more] [more|] {adverb}",
        f"[i liked that|that was good|nice] [now|and now] [say|repeat] [it|that] {adverb}",
    ]


def _pace_again(adverb: str, otherwise: str) -> list[str]:
    how = f"[{adverb}|a bit {adverb}|a little {adverb}|{otherwise}]"
    return [
        f"{_PLEASE} {_SAY} {_THAT} [again|once more|one more time|] {how}",
        f"[say|repeat] [that|it] {_AGAIN} [but|only|just|] {how} [this time|please|]",
        f"[again|once more|one more time|the same|repeat] [but|and|just|] {how} [please|]",
        f"[i would like|i want] to hear [that|it] [again|once more] {how}",
        f"[sorry|pardon|excuse me|] [could you|can you] go over [that|it] again {how}",
    ]


def _in_language(name: str) -> list[str]:
    return [
        f"[do|can] you [speak|talk|understand|know] [a little|some|] {name}",
        f"{_PLEASE} [speak|talk|answer|continue|reply|go on|talk to me|speak to me] [in|] {name} {_PLEADING}",
        f"[can we|could we|may we|shall we|let us|let's] [maybe|perhaps|rather|] [speak|talk|continue|do this|go on] in {name} {_PLEADING}",
        f"[switch|change|switch over] to {name} [please|now|]",
        f"[change|switch] the language to {name} {_PLEADING}",
        f"[in|] {name} please",
        f"[i|my wife|my mother|my father] [would rather|would prefer to|prefer to|would like to|wants to] [speak|talk|hear|use] {name}",
        f"[i|my wife|my mother] [only|] [understand|understands|speak|speaks] [only|] {name} [better|]",
        f"[is there|do you have] [somebody|an option|a version|a line|a service] [in|for] {name}",
        f"{_FROM_NOW} [only|] {name} please",
        f"[does this line work|is this service available|is this hotline|are you] [also|] in {name}",
    ]


def _again_in(name: str) -> list[str]:
    return [
        f"{_PLEASE} {_SAY} {_THAT} {_AGAIN} in {name}",
        f"[say|repeat] [that|it] {_AGAIN} [but|] in {name} {_PLEADING}",
        f"{_PLEASE} translate {_THAT} [to|into] {name}",
        f"[how do you say|what is|what would be] [that|this|it] in {name}",
        f"[again|once more|one more time|the same] in {name} {_PLEADING}",
        f"[i did not|i didn't|my wife did not|i could not] [understand|follow|get that] [say it|can you say it|repeat it|again] in {name}",
        f"[now|and now] [the same|that|say it|repeat that] in {name} {_PLEADING}",
    ]


_CHINESE = "[chinese|mandarin|mandarin chinese]"
_HAPPY = "[happily|cheerfully|joyfully|with joy|excitedly|gladly]", "[happy|joyful|excited|lively|friendly]"
_SAD = "[sadly|sorrowfully|unhappily|gloomily|mournfully]", "[sad|sorrowful|unhappy|gloomy|mournful|depressed]"
_CALM = "[calmly|softly|gently|peacefully|quietly]", "[calm|relaxed|gentle|peaceful|soothing|quiet]"

MANNERS: Patterns = {
    "happy": [*_mood(*_HAPPY), "[sound|be|try to be|could you be] [more|a bit more|a little more] cheerful [please|]"],
    "sad": _mood(*_SAD),
    "calm": _mood(*_CALM),
    "normal": [
        f"{_PLEASE} [speak|talk|sound|answer] [normally|normal|as usual|as before|like before|like at the beginning|the usual way] [again|please|]",
        "[go back|switch back|return|change back] to [normal|your normal voice|your usual voice|the normal speed|the way you spoke before|the usual tone]",
        "[your normal voice|normal speed|the normal way|normal voice|the usual voice] [again|please|is fine|will do|again please]",
        "[stop|you can stop|no need to keep|please stop] [talking like that|speaking like that|doing that voice] [now|be normal|speak normally|]",
        "[just|please|you can] [be normal|talk normally|speak normally|talk as usual] [again|now|please]",
    ],
    "repeat_slow": _pace_again("[slower|more slowly]", "[slowly|not so fast]"),
    "repeat_fast": _pace_again("[faster|more quickly|quicker]", "[quickly|not so slowly]"),
    "repeat_happy": _again_so(*_HAPPY),
    "repeat_sad": _again_so(*_SAD),
    "repeat_calm": _again_so(*_CALM),
    "chinese": _in_language(_CHINESE),
    "english": _in_language("english"),
    "repeat_chinese": _again_in(_CHINESE),
    "repeat_english": _again_in("english"),
}
