"""Questions to an exported language model: what it understands, states, remembers, in which language and style."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from services.decoder.weights import Checkpoint as Decoder
from services.tokenizer.weights import Checkpoint as Tokenizer
from training import corpus, kokoro, voices
from training.decoder.voice import speak
from training.domain.callers import request_of
from training.domain.numbers import LONGEST, SHORTEST
from training.domain.personas import DEFAULTS, Languages, default_persona, random_persona
from training.domain.replies import Receptionist
from training.domain.sentences import DAYS, STYLES, Style
from training.judge import error_rate, normalise, transcribe_in
from training.languages import Language, language_of
from training.lm.data import Codes, prefix_ids
from training.lm.speaker import Score, Speaker
from training.paths import REPLY_RATE, SPEECH_RATE
from training.questions import by_hand, make_question, mandarin_by_hand
from training.splits import assert_disjoint
from training.tokenizer.encode import Utterance, encode_waves
from training.unseen import UNSEEN
from training.unseen_zh import UNSEEN_ZH

Scores = dict[str, Score]

CONTEXTUAL = {"yes", "no", "recall", "repeat", "book_time"}
FACTUAL = (
    "hours", "hours_day", "hours_weekend", "address", "price_small", "price_medium", "price_large", "price_all",
    "identity",
)  # fmt: skip
_BETWEEN = ("yes", "address", "hours", "price_small", "hours_day", "thanks")
_STYLED_ASKED = ("hours", "address", "price_all", "cancel", "transfer", "number")
_PACK = re.compile(r"^kokoro(\w+?)(?:\+(\w+))?(?:@[\d.]+)?@")
_MANDARIN_SLOTS = re.compile(r"[零一二三四五六七八九十两半]|上午|下午|中午|早上|晚上|星期|周[日天]?|点")


def digits_of(text: str) -> list[str]:
    """The digits said, one by one, in English words."""
    if language_of(text) == "en":
        return [word for word in normalise(text) if word in corpus.DIGITS]
    numerals = "零一二三四五六七八九"
    return [corpus.DIGITS[numerals.index(character)] for character in normalise(text) if character in numerals]


def kind_of(reply: str) -> str:
    """An answer without its slots."""
    if language_of(reply) == "zh":
        return _MANDARIN_SLOTS.sub("", reply)
    slots = {*corpus.DIGITS, *(day.lower() for day in DAYS), "ten", "eleven", "twelve", "thirty"}
    return " ".join(word for word in normalise(reply) if word not in slots)


def by_intent(callers: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    found: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in callers:
        found[utterance.clip.intent].append(utterance)
    return found


def _long_numbers(callers: Sequence[Utterance]) -> set[str]:
    numbers = (u.clip.slots.get("number", "") for u in callers)
    return {number for number in numbers if len(number.split()) >= SHORTEST}


def _packs(callers: Sequence[Utterance]) -> set[str]:
    """Kokoro's voices that speak, alone or mixed."""
    return {pack for u in callers if (match := _PACK.match(u.clip.voice)) for pack in match.groups() if pack}


def in_unseen_voice(utterance: Utterance) -> bool:
    return bool(_packs([utterance]) & {*kokoro.ENGLISH_UNSEEN, *kokoro.MANDARIN_UNSEEN})


def held_out(callers: Sequence[Utterance], trained: Sequence[Utterance]) -> list[Utterance]:
    """Callers whose sentence training does not have: a filler before a known wording can make an unknown one.

    Raises AssertionError when a number of theirs (of three digits or more), or a voice that is kept for tests, is in
    training.
    """
    assert_disjoint(_long_numbers(trained), _long_numbers(callers), "numbers")
    assert_disjoint(_packs(trained), [*kokoro.ENGLISH_UNSEEN, *kokoro.MANDARIN_UNSEEN], "voices")
    known = {u.clip.text for u in trained}
    return [u for u in callers if u.clip.intent == "noise" or u.clip.text not in known]


def _voice_family(utterance: Utterance) -> str:
    if utterance.clip.intent == "noise":
        return "noise"
    if in_unseen_voice(utterance):
        return "unseen voice " + utterance.clip.voice.split("@")[0].removeprefix("kokoro")
    return utterance.clip.voice.split("@")[0][:6]


def understanding(speaker: Speaker, callers: Sequence[Utterance], view: int, language: Language) -> Scores:
    """Single questions to the default persona, not greeted: exact text, kind of answer (row), digits; by voice too."""
    persona = DEFAULTS[language]
    opening = speaker.opening(persona)
    asked = [u for u in callers if u.clip.intent not in CONTEXTUAL]
    answers = speaker.answer([[*opening, *speaker.ask(u.views[view].tolist())] for u in asked])
    scores: Scores = defaultdict(Score)
    for utterance, ids in zip(asked, answers, strict=True):
        clip = utterance.clip
        wanted, said = Receptionist(greeted=False, persona=persona).answer(request_of(clip)), speaker.text(ids)
        line = f"[{clip.intent}, {clip.voice}] {clip.text!r} -> {said!r}"
        for group in ("exact", f"exact, {_voice_family(utterance)}", f"exact, {clip.intent}"):
            scores[group].add(said == wanted, line)
        scores["kind"].add(kind_of(said) == kind_of(wanted), line)
        if number := clip.slots.get("number"):
            scores["digits"].add(digits_of(said) == number.split(), line)
            if len(number.split()) == 4:
                scores["digits, four"].add(digits_of(said) == number.split(), line)
    return scores


def grounded(
    speaker: Speaker, callers: Sequence[Utterance], view: int, personas: int, languages: Languages, seed: int
) -> Scores:
    """Questions about facts to personas never seen, half of their prompts in another wording: is the answer exact?

    Word for word, so a wrong fact and a wrong kind of answer both count. The callers are of one language; a persona of
    several states the facts of theirs.
    """
    rng, asked_by = Random(seed), by_intent(callers)
    asked, calls = [], []
    for number in range(personas):
        persona = random_persona("test", rng, languages)
        opening = prefix_ids(speaker.template, persona.said_otherwise(rng) if number % 2 else persona.prompt())
        for intent in FACTUAL:
            if asked_by[intent]:
                utterance = rng.choice(asked_by[intent])
                asked.append((persona, utterance))
                calls.append([*opening, *speaker.ask(utterance.views[view].tolist())])
    scores: Scores = defaultdict(Score)
    for (persona, utterance), ids in zip(asked, speaker.answer(calls), strict=True):
        intent, said = utterance.clip.intent, speaker.text(ids)
        wanted = Receptionist(greeted=False, persona=persona).answer(request_of(utterance.clip))
        line = f"[{persona.prompt()}] {utterance.clip.text!r} -> {said!r}"
        scores["exact"].add(said == wanted, line)
        scores[f"exact, {intent}"].add(said == wanted, line)
    return scores


def unseen_by_hand(speaker: Speaker, tokenizer: Tokenizer, each: int, seed: int, language: Language) -> Score:
    """Questions written apart from the patterns, in training voices: does the answer's text have what is needed?"""
    rng = Random(seed)
    write, sentences = (by_hand, UNSEEN) if language == "en" else (mandarin_by_hand, UNSEEN_ZH)
    questions = [
        make_question(intent, write, rng)
        for intent, texts in sentences.items()
        for _ in range(min(each, len(texts)))
        if texts
    ]
    quiet = np.zeros(SPEECH_RATE // 4, np.float32)
    waves = []
    for question in questions:
        voice = voices.random_speaker(rng) if language == "en" else voices.random_mandarin_speaker(rng, "train")
        text = corpus.written(question.text) if language == "en" else f"{question.text}。"
        waves.append(np.concatenate([quiet, voices.say(text, voice, SPEECH_RATE), quiet]))
    opening = speaker.opening(DEFAULTS[language])
    codes = encode_waves(tokenizer, waves)
    score = Score()
    answers = speaker.answer([[*opening, *speaker.ask(code.tolist())] for code in codes])
    for question, ids in zip(questions, answers, strict=True):
        said = speaker.text(ids)
        score.add(question.is_right(said), f"{question.text!r} -> {said!r}")
    return score


def recall(
    speaker: Speaker, callers: Sequence[Utterance], greeting: Codes | None, count: int, language: Language, seed: int
) -> Scores:
    """Greeting; a number; something else; which number was it? The model's own answers are the history."""
    rng, asked_by = Random(seed), by_intent(callers)
    between = [intent for intent in _BETWEEN if asked_by[intent]]
    usual = [u for u in asked_by["number"] if SHORTEST <= len(u.clip.slots["number"].split()) <= LONGEST]
    if not usual or not between or not asked_by["recall"]:
        return {}
    persona = DEFAULTS[language]
    opening = speaker.opening(persona)
    if greeting is not None:
        opening += [*speaker.template.assistant_head(), *speaker.template.answer(persona.greeting, greeting.tolist())]
    calls = [list(opening) for _ in range(count)]
    turns = [
        [rng.choice(usual) for _ in calls],
        [rng.choice(asked_by[rng.choice(between)]) for _ in calls],
        [rng.choice(asked_by["recall"]) for _ in calls],
    ]
    heard: list[list[int]] = []
    answers: list[list[int]] = []
    for turn in turns:
        for call, utterance in zip(calls, turn, strict=True):
            call += speaker.ask(utterance.views[0].tolist())
        answers = speaker.answer(calls)
        for call, ids in zip(calls, answers, strict=True):
            call += ids
        heard = heard or answers
    scores = {"turn one": Score(), "turn three": Score(), "turn three as turn one": Score()}
    for number, first, last, asked in zip(turns[0], heard, answers, turns[2], strict=True):
        wanted = number.clip.slots["number"].split()
        one, three = digits_of(speaker.text(first)), digits_of(speaker.text(last))
        line = f"{number.clip.text!r}, {asked.clip.text!r} -> {speaker.text(last)!r}"
        scores["turn one"].add(one == wanted, line)
        scores["turn three"].add(three == wanted, line)
        scores["turn three as turn one"].add(three == one, line)
    return scores


def language_following(
    speaker: Speaker, callers: Mapping[Language, Sequence[Utterance]], count: int, seed: int
) -> Scores:
    """Calls of two requests to a persona of both languages, half of which change the language: is each answered in its
    own? Requests for a language are left out."""
    rng = Random(seed)
    languages: list[Language] = ["en", "zh"]
    pools = {
        language: [u for u in callers[language] if u.clip.intent not in {*CONTEXTUAL, "noise", "chinese", "english"}
                   and "repeat" not in u.clip.intent]
        for language in languages
    }  # fmt: skip
    scores = {"first turn": Score(), "same language again": Score(), "changed language": Score()}
    spoken = [(rng.choice(languages), rng.choice(languages)) for _ in range(count)]
    calls = [list(speaker.opening(default_persona(rng.choice([("en", "zh"), ("zh", "en")])))) for _ in spoken]
    for turn in (0, 1):
        asked = [rng.choice(pools[pair[turn]]) for pair in spoken]
        for call, utterance in zip(calls, asked, strict=True):
            call += speaker.ask(utterance.views[0].tolist())
        answers = speaker.answer(calls)
        for call, utterance, pair, ids in zip(calls, asked, spoken, answers, strict=True):
            call += ids
            said = speaker.text(ids)
            group = "first turn" if not turn else "same language again" if pair[0] == pair[1] else "changed language"
            scores[group].add(bool(said) and language_of(said) == pair[turn], f"{utterance.clip.text!r} -> {said!r}")
    return scores


def agreement(
    speaker: Speaker, decoder: Decoder, callers: Sequence[Utterance], count: int, language: Language
) -> tuple[float, Score, Score]:
    """Text of the model's own answers against what the judge hears when the decoder has spoken them.

    Returns the error rate (words; characters in Mandarin), answers all of whose words agree, and numbers all of whose
    digits do.
    """
    half = [u for u in callers if u.clip.intent == "number"][: count // 2]
    others = {"number", "yes", "no", "recall", "repeat"}
    rest = [u for u in callers if u.clip.intent not in others][: count - len(half)]
    opening = speaker.opening(DEFAULTS[language])
    answers = speaker.answer([[*opening, *speaker.ask(u.views[0].tolist())] for u in (*half, *rest)])
    texts = [speaker.text(ids) for ids in answers]
    heard = []
    for seed, ids in enumerate(answers):
        codes = speaker.template.codes(ids)
        heard.append(transcribe_in(language, speak(decoder, codes, seed), REPLY_RATE) if codes else "")
    words, digits = Score(), Score()
    for place, (text, sound) in enumerate(zip(texts, heard, strict=True)):
        line = f"{text!r} sounds like {sound!r}"
        words.add(normalise(text) == normalise(sound, language_of(text)), line)
        if place < len(half):
            digits.add(digits_of(text) == digits_of(sound), line)
    return error_rate(texts, heard), words, digits


def styles(
    speaker: Speaker, callers: Sequence[Utterance], count: int, language: Language, seed: int
) -> dict[Style, list[list[int]]]:
    """Codes of the answers to `count` questions, in each style asked for by the prompt, and plainly."""
    rng, asked_by = Random(seed), by_intent(callers)
    pool = [u for intent in _STYLED_ASKED for u in asked_by[intent]]
    asked = [rng.choice(pool) for _ in range(count)] if pool else []
    every: tuple[Style, ...] = ("", *STYLES)
    persona = DEFAULTS[language]
    return {
        style: [
            speaker.template.codes(ids)
            for ids in speaker.answer(
                [[*speaker.opening(persona, style), *speaker.ask(u.views[0].tolist())] for u in asked]
            )
        ]
        for style in every
    }
