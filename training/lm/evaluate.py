"""What the exported language model understands, says and speaks, on wordings, numbers and voices kept from training."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from services.decoder import weights as decoder_weights
from services.lm.prompt import ChatTemplate
from services.tokenizer import weights as tokenizer_weights
from training import corpus, voices
from training.decoder.export import FOLDER as DECODER
from training.decoder.voice import speak
from training.domain.callers import request_of
from training.domain.facts import DEFAULT, Facts, random_facts
from training.domain.numbers import LONGEST, SHORTEST
from training.domain.replies import Receptionist
from training.domain.sentences import DAYS
from training.judge import error_rate, normalise, transcribe
from training.lm import transformers_model
from training.lm.data import Codes, prefix_ids
from training.lm.train import LM, load_speech
from training.paths import REPLY_RATE, SPEECH_RATE
from training.questions import by_hand, make_question
from training.splits import assert_disjoint
from training.tokenizer.encode import Utterance, encode_waves
from training.tokenizer.export import TOKENIZER
from training.unseen import UNSEEN

_BATCH = 32
_LONGEST_ANSWER = 230
_BETWEEN = ("yes", "address", "hours", "price_small", "hours_day", "thanks")


class Speaker:
    """The exported model answering many calls at once, greedily."""

    def __init__(self, folder: Path = LM) -> None:
        self.template = ChatTemplate.load(folder)
        self._model: Any = transformers_model.load(folder)
        self._ends = tuple(self._model.config.eos_token_id)
        self.opening = prefix_ids(self.template, DEFAULT.prompt())

    def ask(self, codes: Sequence[int]) -> list[int]:
        """A user turn of speech and the head of its answer."""
        template = self.template
        turn = [*template.user_speech_head(), *template.speech(codes), *template.end_of_speech()]
        return [*turn, *template.assistant_head()]

    @torch.inference_mode()
    def answer(self, calls: Sequence[Sequence[int]]) -> list[list[int]]:
        """Ids of the next answer of each call, without the end token."""
        out: list[list[int]] = [[] for _ in calls]
        order = sorted(range(len(calls)), key=lambda i: len(calls[i]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            longest = max(len(calls[i]) for i in chosen)
            ids = torch.full((len(chosen), longest), self.template.end)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(chosen):
                ids[row, longest - len(calls[i]) :] = torch.tensor(calls[i])
                mask[row, longest - len(calls[i]) :] = 1
            said = self._model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=_LONGEST_ANSWER,
                do_sample=False,
                eos_token_id=list(self._ends),
                pad_token_id=self.template.end,
            )[:, longest:]
            for i, row in zip(chosen, said.tolist(), strict=True):
                end = next((at for at, token in enumerate(row) if token in self._ends), len(row))
                out[i] = row[:end]
        return out

    def text(self, ids: Sequence[int]) -> str:
        return self.template.text.decode(token for token in ids if self.template.text.knows(token))


@dataclass
class Score:
    """Right answers of a group of questions."""

    asked: int = 0
    right: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, right: bool, failure: str) -> None:
        self.asked += 1
        self.right += right
        if not right:
            self.failures.append(failure)

    def __str__(self) -> str:
        return f"{self.right}/{self.asked} ({self.right / max(1, self.asked):.0%})"


def _digits(text: str) -> list[str]:
    return [word for word in normalise(text) if word in corpus.DIGITS]


def _kind(reply: str) -> str:
    """An answer without its slots."""
    slots = {*corpus.DIGITS, *(day.lower() for day in DAYS), "ten", "eleven", "twelve", "thirty"}
    return " ".join(word for word in normalise(reply) if word not in slots)


def _long_numbers(callers: Sequence[Utterance]) -> set[str]:
    numbers = (u.clip.slots.get("number", "") for u in callers)
    return {number for number in numbers if len(number.split()) >= SHORTEST}


def held_out(callers: Sequence[Utterance], trained: Sequence[Utterance]) -> list[Utterance]:
    """Callers whose sentence training does not have: a filler before a known wording can make an unknown one.

    Raises AssertionError when a number of theirs (of three digits or more) is in training.
    """
    assert_disjoint(_long_numbers(trained), _long_numbers(callers), "numbers")
    known = {u.clip.text for u in trained}
    return [u for u in callers if u.clip.intent == "noise" or u.clip.text not in known]


def understanding(speaker: Speaker, callers: Sequence[Utterance], view: int) -> dict[str, Score]:
    """Single questions after the greeting: exact text, kind of answer, digits; by voice and intent."""
    contextual = {"yes", "no", "recall", "repeat", "book_time"}
    asked = [u for u in callers if u.clip.intent not in contextual]
    answers = speaker.answer([[*speaker.opening, *speaker.ask(u.views[view].tolist())] for u in asked])
    scores: dict[str, Score] = defaultdict(Score)
    for utterance, ids in zip(asked, answers, strict=True):
        clip = utterance.clip
        wanted, said = Receptionist(greeted=False).answer(request_of(clip)), speaker.text(ids)
        line = f"[{clip.intent}, {clip.voice}] {clip.text!r} -> {said!r}"
        voice = "noise" if clip.intent == "noise" else clip.voice.split("@")[0][:6]
        for group in ("exact", f"exact, {voice}", f"exact, {clip.intent}"):
            scores[group].add(said == wanted, line)
        scores["kind"].add(_kind(said) == _kind(wanted), line)
        if number := clip.slots.get("number"):
            scores["digits"].add(_digits(said) == number.split(), line)
    return scores


FACTUAL = (
    "hours", "hours_day", "hours_weekend", "address", "price_small", "price_medium", "price_large", "price_all",
    "identity",
)  # fmt: skip


def grounded(speaker: Speaker, callers: Sequence[Utterance], view: int, personas: int, seed: int) -> dict[str, Score]:
    """Questions about facts to personas never seen, half of their prompts in another wording: is the answer exact?

    Word for word, so a wrong fact and a wrong kind of answer both count.
    """
    rng = Random(seed)
    by_intent: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in callers:
        by_intent[utterance.clip.intent].append(utterance)
    asked: list[tuple[Facts, Utterance]] = []
    calls: list[list[int]] = []
    for number in range(personas):
        facts = random_facts("test", rng)
        opening = prefix_ids(speaker.template, facts.said_otherwise(rng) if number % 2 else facts.prompt())
        for intent in FACTUAL:
            utterance = rng.choice(by_intent[intent])
            asked.append((facts, utterance))
            calls.append([*opening, *speaker.ask(utterance.views[view].tolist())])
    scores: dict[str, Score] = defaultdict(Score)
    for (facts, utterance), ids in zip(asked, speaker.answer(calls), strict=True):
        intent, said = utterance.clip.intent, speaker.text(ids)
        wanted = Receptionist(greeted=False, persona=facts).answer(request_of(utterance.clip))
        line = f"[{facts.prompt()}] {utterance.clip.text!r} -> {said!r}"
        scores["exact"].add(said == wanted, line)
        scores[f"exact, {intent}"].add(said == wanted, line)
    return scores


def unseen_by_hand(speaker: Speaker, each: int, seed: int) -> Score:
    """Questions written apart from the patterns, in training voices: does the answer's text have what is needed?"""
    tokenizer = tokenizer_weights.load(TOKENIZER)
    rng = Random(seed)
    questions = [make_question(intent, by_hand, rng) for intent in UNSEEN for _ in range(each)]
    quiet = np.zeros(SPEECH_RATE // 4, np.float32)
    waves = []
    for question in questions:
        spoken = voices.say(corpus.written(question.text), voices.random_speaker(rng), SPEECH_RATE)
        waves.append(np.concatenate([quiet, spoken, quiet]))
    codes = encode_waves(tokenizer, waves)
    answers = speaker.answer([[*speaker.opening, *speaker.ask(code.tolist())] for code in codes])
    score = Score()
    for question, ids in zip(questions, answers, strict=True):
        said = speaker.text(ids)
        score.add(question.is_right(said), f"{question.text!r} -> {said!r}")
    return score


def recall(speaker: Speaker, callers: Sequence[Utterance], greeting: Codes, count: int, seed: int) -> dict[str, Score]:
    """Greeting; a number; something else; which number was it? The model's own answers are the history."""
    rng = Random(seed)
    by_intent: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in callers:
        by_intent[utterance.clip.intent].append(utterance)
    between = [intent for intent in _BETWEEN if by_intent[intent]]
    opening = [*speaker.opening, *speaker.template.assistant_head()]
    opening += speaker.template.answer(DEFAULT.greeting, greeting.tolist())
    calls = [list(opening) for _ in range(count)]
    usual = [u for u in by_intent["number"] if SHORTEST <= len(u.clip.slots["number"].split()) <= LONGEST]
    numbers = [rng.choice(usual) for _ in calls]
    turns = [
        numbers,
        [rng.choice(by_intent[rng.choice(between)]) for _ in calls],
        [rng.choice(by_intent["recall"]) for _ in calls],
    ]
    heard: list[list[int]] = []
    for turn in turns:
        for call, utterance in zip(calls, turn, strict=True):
            call += speaker.ask(utterance.views[0].tolist())
        answers = speaker.answer(calls)
        for call, ids in zip(calls, answers, strict=True):
            call += ids
        heard = heard or answers
    scores = {"turn one": Score(), "turn three": Score(), "turn three as turn one": Score()}
    for number, first, last, asked in zip(numbers, heard, answers, turns[2], strict=True):
        wanted = number.clip.slots["number"].split()
        one, three = _digits(speaker.text(first)), _digits(speaker.text(last))
        line = f"{number.clip.text!r}, {asked.clip.text!r} -> {speaker.text(last)!r}"
        scores["turn one"].add(one == wanted, line)
        scores["turn three"].add(three == wanted, line)
        scores["turn three as turn one"].add(three == one, line)
    return scores


def agreement(speaker: Speaker, callers: Sequence[Utterance], count: int) -> tuple[float, Score, Score]:
    """Text of the model's own answers against what the judge hears when the decoder has spoken them.

    Returns the word error rate, answers all of whose words agree, and numbers all of whose digits do.
    """
    half = [u for u in callers if u.clip.intent == "number"][: count // 2]
    rest = [u for u in callers if u.clip.intent not in ("number", "yes", "no", "recall", "repeat")][: count - len(half)]
    answers = speaker.answer([[*speaker.opening, *speaker.ask(u.views[0].tolist())] for u in (*half, *rest)])
    texts = [speaker.text(ids) for ids in answers]
    decoder = decoder_weights.load(DECODER)
    heard = []
    for seed, ids in enumerate(answers):
        codes = speaker.template.codes(ids)
        heard.append(transcribe(speak(decoder, codes, seed), REPLY_RATE) if codes else "")
    words, digits = Score(), Score()
    for place, (text, sound) in enumerate(zip(texts, heard, strict=True)):
        line = f"{text!r} sounds like {sound!r}"
        words.add(normalise(text) == normalise(sound), line)
        if place < len(half):
            digits.add(_digits(text) == _digits(sound), line)
    return error_rate(texts, heard), words, digits


def evaluate(folder: Path = LM, limit: int = 1500, failures: int = 8) -> None:
    """Prints every figure with the size of its test set, and some failures."""
    speaker = Speaker(folder)
    everyone, replies = load_speech("train", ("callers-test",))
    trained, _ = load_speech("train", ("callers-train", "reading-train"))
    callers = held_out(everyone, trained)[:limit]
    print(f"{len(callers)} held-out callers ({len(everyone)} before leaving out sentences that training has by chance)")
    for view, name in ((0, "clean"), (1, "degraded")):
        scores = understanding(speaker, callers, view)
        print(f"\nunderstanding, {name} line, held-out sentences and numbers")
        for group in sorted(scores):
            print(f"  {group:24} {scores[group]}")
        if view == 0:
            _show(scores["exact"], failures)
    apart = unseen_by_hand(speaker, 6, 5)
    print(f"\nwordings written by hand: {apart}")
    _show(apart, failures * 2)
    for view, name in ((0, "clean"), (1, "degraded")):
        facts = grounded(speaker, callers, view, 40, 7)
        print(f"\nfacts of 40 personas never seen, {name} line, held-out sentences")
        for group in sorted(facts):
            print(f"  {group:24} {facts[group]}")
        if view == 0:
            _show(facts["exact"], failures)
    print("\nrecall over three turns, own answers as history")
    for group, score in recall(speaker, callers, replies[DEFAULT.greeting, ""], 120, 3).items():
        print(f"  {group:24} {score}")
    errors, words, digits = agreement(speaker, callers, 120)
    print(f"\nspoken words against own text, 120 answers, judge: WER {errors:.1%}; all words {words}; digits {digits}")
    _show(digits, failures)


def _show(score: Score, count: int) -> None:
    for line in score.failures[:count]:
        tqdm.write(f"    wrong: {line}")
