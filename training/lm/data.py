"""Calls as rows of ids: what is given, what is to be learnt, and which user speech carries which words (for CTC)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import numpy.typing as npt

from services.lm.prompt import ChatTemplate
from training.domain.answers import Said
from training.domain.callers import READING, request_of
from training.domain.conversations import Turn, sample_call
from training.domain.personas import Languages, Persona, default_persona, pool_persona, random_persona
from training.domain.replies import SENTENCES, SYSTEM, Receptionist, Request, styled
from training.domain.sentences import STYLES, Style
from training.languages import Language, language_of
from training.tokenizer.encode import Utterance

# In place of "streaming_transcription\n": the caller's words instead of an answer; sentences some of which are speech.
TRANSCRIPTION = "transcription\n"
INTERLEAVED = "interleaved\n"
LONGEST = 620


@dataclass(frozen=True)
class Mix:
    """Shares of what a row can be, and how much of the agent's speech is in it."""

    kinds: dict[str, float]
    cut_off: float  # answers interrupted by the caller, where a turn follows
    longest_cut: float  # share of the answer that is kept at most
    silent: float  # calls that end with the text of the last answer: fixed sentences are learnt by heart soon enough
    silent_with_slots: float
    short: bool


# First many callers with little of the agent's speech around them, then calls as they are.
# A question that is written instead of spoken costs little and teaches where in the prompt an answer stands.
# Recognition (transcribe), synthesis (say), interleaved spans and text (written) are GLM-4-Voice's pre-training mix
# (arXiv:2412.02612); there the spans' speech comes from a text-to-token model, here from synthesiser and tokenizer.
UNDERSTANDING = Mix(
    {"call": 0.46, "written": 0.25, "transcribe": 0.18, "say": 0.05, "interleaved": 0.06}, 0.55, 0.4, 0.9, 0.6, True
)
CONVERSATION = Mix(
    {"call": 0.52, "recall": 0.16, "written": 0.13, "transcribe": 0.07, "say": 0.08, "interleaved": 0.04},
    0.08,
    1.0,
    0.5,
    0.2,
    False,
)
# Of the pool's personas all answers are recorded; of others only the text is learnt, but there is no end of them, so
# that a name or a street can only be copied.
_PERSONAS = {"default": 0.2, "pool": 0.4, "any": 0.4}
_PROMPTS: dict[Languages, float] = {("en",): 0.25, ("zh",): 0.25, ("en", "zh"): 0.25, ("zh", "en"): 0.25}
_OTHER_WORDING = 0.5
_STYLED = 0.16  # share of prompts that end with a style
_MANDARIN = 0.4  # of transcripts and of sentences to be said, however few recordings there are
_FACTUAL = 0.7  # share of written questions that ask for a fact
_FACTS_ASKED = (
    "hours", "hours_day", "hours_day", "hours_weekend", "address", "address", "address", "address", "price_small",
    "price_medium", "price_large", "price_all", "identity", "identity", "identity", "identity",
)  # fmt: skip
_RECALLS = (
    ("number", "recall"),
    ("number", None, "recall"),
    ("number", "yes", None, "recall"),
    ("number", "yes", "recall"),
)
_NOT_ALONE = {
    "noise",
    "yes",
    "no",
    "recall",
    "repeat",
    "book_time",
}  # written, they mean nothing by themselves
_UNUSUAL_NUMBERS = 0.4  # share drawn from those that have not four digits, which are the most common
_NOISY_CODES, _NEIGHBOUR_RATE, _RANDOM_RATE = 0.6, 0.08, 0.02
_ANNOUNCED = 0.06
_GAP, _LONGEST_GAP = 0.35, 700  # positions skipped, so that long calls are familiar

Codes = npt.NDArray[np.int16]


@dataclass
class Row:
    """One row of a batch; after `ids[i]`, `targets[i]` is learnt where `weights[i]` is not 0.

    `jumps`: (index, positions skipped before it). `heard`: (index, frames, text ids) of each user speech.
    """

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    jumps: list[tuple[int, int]] = field(default_factory=list)
    heard: list[tuple[int, int, list[int]]] = field(default_factory=list)


@dataclass(frozen=True)
class LossWeights:
    text: float = 2.5
    speech: float = 1.0
    end: float = 2.5
    transcript: float = 1.0


def prefix_ids(template: ChatTemplate, prompt: str) -> list[int]:
    """What every call of a persona begins with."""
    return [*template.prefix, *template.system(SYSTEM + prompt)]


class Writer:
    """Builds a row part by part with the serving code's own template."""

    def __init__(self, template: ChatTemplate, weights: LossWeights) -> None:
        self.template = template
        self.weights = weights
        self.row = Row()

    def _learn(self, token: int, weight: float) -> None:
        if weight and self.row.ids:
            self.row.targets[-1], self.row.weights[-1] = token, weight

    def _add(self, ids: Sequence[int], weight: float = 0.0) -> None:
        for token in ids:
            self._learn(token, weight)
            self.row.ids.append(token)
            self.row.targets.append(0)
            self.row.weights.append(0.0)

    def gap(self, positions: int) -> None:
        self.row.jumps.append((len(self.row.ids), positions))

    def user(self, codes: Sequence[int], words: str) -> None:
        self._add(self.template.user_speech_head())
        self.row.heard.append((len(self.row.ids), len(codes), self.template.text.encode(f" {words}") if words else []))
        self._add(self.template.speech(codes))
        self._add(self.template.end_of_speech())

    def user_text(self, words: str) -> None:
        self._add(self.template.user_text(words))

    def spans(self, said: Sequence[tuple[str, Sequence[int] | None]]) -> None:
        """Sentences one behind the other, each as its text or, where it has codes, as its speech; all learnt but the
        first, which nothing leads to."""
        self._add([self.template.vocabulary.assistant, *self.template.text.encode(INTERLEAVED)])
        for i, (text, codes) in enumerate(said):
            if codes is None:
                self._add(self.template.text.encode(f" {text}"), self.weights.transcript if i else 0.0)
            else:
                self._add(self.template.speech(codes), self.weights.speech if i else 0.0)
        self._learn(self.template.end, self.weights.end)

    def transcript(self, words: str) -> None:
        self._add([self.template.vocabulary.assistant, *self.template.text.encode(TRANSCRIPTION)])
        self._add(self.template.text.encode(f" {words}"), self.weights.transcript)
        self._learn(self.template.end, self.weights.transcript)

    def answer_text(self, text: str, codes: Sequence[int]) -> None:
        """An answer as far as its text goes, as if it were interrupted then; of its speech only what comes between."""
        self._add(self.template.assistant_head())
        ids = self.template.answer(text, codes)
        speech = [self.template.vocabulary.is_speech(token) for token in ids]
        last = len(ids) - speech[::-1].index(False)
        for token, spoken in zip(ids[:last], speech, strict=False):
            self._add([token], self.weights.speech if spoken else self.weights.text)

    def answer(self, text: str, codes: Sequence[int] | None, free: bool, cut: float = 1.0) -> None:
        """An assistant turn. Text is learnt when `free`; without codes only its first block; `cut` ends it early.

        The end token is learnt but not written: it belongs to the turn that follows.
        """
        self._add(self.template.assistant_head())
        if codes is None:
            self._add(self.template.text.encode(text)[: self.template.text_block], self.weights.text)
            return
        ids = self.template.answer(text, codes)
        for token in ids[: max(1, math.ceil(len(ids) * cut))]:
            speech = self.template.vocabulary.is_speech(token)
            self._add([token], self.weights.speech if speech else self.weights.text if free else 0.0)
        if cut == 1.0:
            self._learn(self.template.end, self.weights.end)


@dataclass(frozen=True)
class Setting:
    """Who answers, and in which style until another is asked for."""

    persona: Persona
    style: Style = ""


class Calls:
    """Rows for training or evaluation from recordings of callers and of the agent."""

    def __init__(
        self,
        template: ChatTemplate,
        callers: Sequence[Utterance],
        replies: dict[Said, Codes],
        neighbours: npt.NDArray[np.int64],
        seed: int,
        weights: LossWeights | None = None,
    ) -> None:
        self.template = template
        self.callers = callers
        self.replies = replies
        self.weights = weights or LossWeights()
        self.mix = CONVERSATION
        self._neighbours = neighbours
        self._rng = Random(seed)
        self._numpy = np.random.default_rng(seed)
        self._by_intent: dict[Language, dict[str, list[int]]] = {}
        noise: list[int] = []
        self._pure_reading: list[int] = []
        for i, utterance in enumerate(callers):
            if utterance.clip.intent == READING:
                self._pure_reading.append(i)
            elif utterance.clip.intent == "noise":
                noise.append(i)
            else:
                by_intent = self._by_intent.setdefault(request_of(utterance.clip).language, {})
                by_intent.setdefault(utterance.clip.intent, []).append(i)
        if noise:
            for by_intent in self._by_intent.values():
                by_intent["noise"] = noise
        self._unusual = {
            language: [
                i for i in by_intent.get("number", ()) if len(callers[i].clip.slots["number"].split()) in (3, 5, 6)
            ]
            for language, by_intent in self._by_intent.items()
        }
        self._readable: dict[Language, list[int]] = {}
        for i, utterance in enumerate(callers):
            if utterance.clip.text:
                self._readable.setdefault(language_of(utterance.clip.text), []).append(i)
        self._sayable: dict[Language, list[str]] = {}
        for text in sorted(text for text, style in replies if not style):
            self._sayable.setdefault(language_of(text), []).append(text)
        announcements = [text for language in self._by_intent for text in SENTENCES[language].announcements]
        self._announcements = [text for text in announcements if (text, "") in replies]
        self._prompts = {
            languages: share for languages, share in _PROMPTS.items() if set(languages) <= set(self._by_intent)
        }

    def _language(self, among: dict[Language, list[int]] | dict[Language, list[str]]) -> Language:
        """One that there is something in."""
        if len(among) < 2:
            return next(iter(among))
        return "zh" if self._rng.random() < _MANDARIN else "en"

    def persona(self) -> tuple[Setting, list[int]]:
        """A persona of the languages that there are callers in, perhaps with a style that its prompt ends with, and the
        ids that its calls begin with."""
        rng = self._rng
        kind = rng.choices(list(_PERSONAS), list(_PERSONAS.values()))[0]
        languages = rng.choices(list(self._prompts), list(self._prompts.values()))[0]
        if kind == "default":
            persona = default_persona(languages)
        else:
            persona = pool_persona(rng, languages) if kind == "pool" else random_persona("train", rng, languages)
        prompt = persona.said_otherwise(rng) if rng.random() < _OTHER_WORDING else persona.prompt()
        style: Style = rng.choice(STYLES) if rng.random() < _STYLED else ""
        return Setting(persona, style), prefix_ids(self.template, styled(prompt, style, persona.language))

    def draw(self, intent: str, language: Language, rng: Random) -> tuple[int, Request]:
        pool = self._by_intent[language][intent]
        if intent == "number" and self._unusual[language] and rng.random() < _UNUSUAL_NUMBERS:
            pool = self._unusual[language]
        source = rng.choice(pool)
        return source, request_of(self.callers[source].clip)

    def row(self, setting: Setting) -> Row:
        """One row of a call that the persona answers."""
        kind = self._rng.choices(list(self.mix.kinds), list(self.mix.kinds.values()))[0]
        writer = Writer(self.template, self.weights)
        if self._rng.random() < _GAP:
            writer.gap(self._rng.randrange(_LONGEST_GAP))
        if kind == "say":
            self._say(writer)
        elif kind == "transcribe":
            self._transcribe(writer)
        elif kind == "interleaved":
            self._interleaved(writer, setting.persona)
        elif kind == "written":
            self._written(writer, setting.persona)
        else:
            self._call(writer, self._script() if kind == "recall" else (), setting)
        return writer.row

    def _script(self) -> Sequence[str | None]:
        """A course of a call that recalls a number; none where the callers of some language do not know it."""
        known = set.intersection(*(set(by_intent) for by_intent in self._by_intent.values()))
        script = self._rng.choice(_RECALLS)
        return script if known >= {intent for intent in script if intent} else ()

    def _written(self, writer: Writer, persona: Persona) -> None:
        """Some questions in writing, with the text of their answers."""
        rng = self._rng
        for _ in range(rng.choice([1, 2, 3])):
            factual = rng.random() < _FACTUAL
            language = rng.choice(list(self._by_intent))
            by_intent = self._by_intent[language]
            known = [i for i in (_FACTS_ASKED if factual else by_intent) if i in by_intent and i not in _NOT_ALONE]
            if not known:
                continue
            intent = rng.choice(known)
            source, request = self.draw(intent, language, rng)
            text = Receptionist(greeted=False, persona=persona).answer(request)
            codes = self.replies.get((text, ""))
            if codes is None and len(self.template.text.encode(text)) > self.template.text_block:
                continue  # where its second block of text stands, only its speech would tell
            writer.user_text(self.callers[source].clip.text)
            writer.answer_text(text, [] if codes is None else codes.tolist())

    def _interleaved(self, writer: Writer, persona: Persona) -> None:
        """What the prompt states, sentence by sentence, now in text, now in speech."""
        rng = self._rng
        facts = persona.speaking(rng.choice(persona.languages))
        stated = [text for text in dict.fromkeys(facts.stated.values()) if (text, "") in self.replies]
        sentences = rng.sample(stated, min(len(stated), rng.choice([2, 3, 4])))
        if sayable := self._sayable.get(facts.language):
            sentences.append(rng.choice(sayable))
        if len(sentences) < 2:
            return
        spoken = rng.random() < 0.5
        said: list[tuple[str, Sequence[int] | None]] = []
        for text in sentences:
            said.append((text, self.replies[text, ""].tolist() if spoken else None))
            spoken = not spoken
        writer.spans(said)

    def _say(self, writer: Writer) -> None:
        announced = self._announcements and self._rng.random() < 0.15
        text = self._rng.choice(self._announcements if announced else self._sayable[self._language(self._sayable)])
        writer.answer(text, self.replies[text, ""].tolist(), free=False)

    def _transcribe(self, writer: Writer) -> None:
        language = self._language(self._readable)
        pure = language == "en" and self._pure_reading and self._rng.random() < 0.75
        source = self._rng.choice(self._pure_reading if pure else self._readable[language])
        words = self.callers[source].clip.text
        writer.user(self.view(source), words)
        writer.transcript(words)

    def _call(self, writer: Writer, script: Sequence[str | None], setting: Setting) -> None:
        rng = self._rng
        turns = sample_call(
            self.draw, rng, lambda reply: True, self.mix.short, script, setting.persona, self._by_intent, setting.style
        )
        for i, turn in enumerate(turns):
            if len(writer.row.ids) > LONGEST - 150 and i:
                return
            if i and self._announcements and rng.random() < _ANNOUNCED:
                text = rng.choice(self._announcements)
                writer.answer(text, self.replies[text, ""].tolist(), free=False)
            if not self._turn(writer, turn, last=i == len(turns) - 1):
                return

    def _turn(self, writer: Writer, turn: Turn, last: bool) -> bool:
        """Writes a turn; false when its answer has no speech here, so that the call cannot go on."""
        rng = self._rng
        if turn.request is not None:
            if rng.random() < _GAP / 3:
                writer.gap(rng.randrange(_LONGEST_GAP // 3))
            writer.user(self.view(turn.source), self.callers[turn.source].clip.text)
        codes = self.replies.get((turn.reply, turn.style))
        if codes is None and turn.request is None:
            return True  # a greeting that is not recorded is left out
        silent = last and turn.request is not None and rng.random() < self._silent_share(turn.request)
        if codes is None or silent:
            writer.answer(turn.reply, None, free=True)
            return False
        cut = rng.random() * self.mix.longest_cut if not last and rng.random() < self.mix.cut_off else 1.0
        writer.answer(turn.reply, codes.tolist(), free=True, cut=cut)  # a greeting too: it names whom the prompt names
        return True

    def _silent_share(self, request: Request) -> float:
        slots = request.number or request.time or request.intent == "recall"
        return self.mix.silent_with_slots if slots else self.mix.silent

    def view(self, source: int) -> list[int]:
        """A view of the recording, some codes replaced by their neighbours."""
        rng = self._rng
        codes = rng.choice(self.callers[source].views).astype(np.int64)
        if rng.random() < _NOISY_CODES:
            near = self._numpy.random(len(codes)) < _NEIGHBOUR_RATE
            choice = self._numpy.integers(0, self._neighbours.shape[1], near.sum())
            codes[near] = self._neighbours[codes[near], choice]
            wild = self._numpy.random(len(codes)) < _RANDOM_RATE
            codes[wild] = self._numpy.integers(0, len(self._neighbours), wild.sum())
        out: list[int] = codes.tolist()
        return out
