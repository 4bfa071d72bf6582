"""What an exported language model understands, says and speaks, on what was kept from its training."""

from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from services.decoder import weights as decoder_weights
from services.tokenizer import weights as tokenizer_weights
from training import augment
from training.decoder.voice import speak
from training.domain.callers import request_of
from training.domain.personas import DEFAULTS
from training.domain.replies import Receptionist
from training.languages import LANGUAGES, Language
from training.lm import measures, sounds
from training.lm.measures import Scores
from training.lm.speaker import Score, Speaker
from training.lm.train import HEARD, load_callers, load_replies
from training.paths import REPLY_RATE, Models
from training.quality import prosody
from training.shards import list_shards, read_shard
from training.synthesis import SPEECH
from training.tokenizer.encode import HELD_OUT, Utterance, encode_waves, tokens_folder


class Tests:
    """A directory of weights with the held-out callers that its tokenizer has encoded.

    Raises SystemExit when there are none: `python -m training tokens` makes them.
    """

    def __init__(self, models: Models, limit: int) -> None:
        self.models = models
        self.tokenizer = tokenizer_weights.load(models.tokenizer)
        self.speaker = Speaker(models.lm)
        folder = tokens_folder(self.tokenizer.revision)
        trained = load_callers(folder, HEARD)
        self.replies = load_replies(folder, "train")
        self.callers: dict[Language, list[Utterance]] = {}
        for language, names in HELD_OUT.items():
            everyone = load_callers(folder, names)
            found = measures.held_out(everyone, trained)
            strangers = [u for u in found if measures.in_unseen_voice(u)]
            others = [u for u in found if not measures.in_unseen_voice(u)]
            self.callers[language] = [*strangers, *others][:limit]
            print(f"{language}: {len(found)} held-out callers of {len(everyone)}, {len(strangers)} in unseen voices")
        if not any(self.callers.values()):
            raise SystemExit(f"no held-out callers in {folder}: run `python -m training tokens`")

    @property
    def languages(self) -> list[Language]:
        return [language for language in LANGUAGES if self.callers[language]]


def _print(title: str, scores: Mapping[str, Score], failures: int = 0, of: str = "") -> None:
    print(f"\n{title}")
    for group in sorted(scores):
        print(f"  {group:32} {scores[group]}", flush=True)
    if failures and of in scores:
        show(scores[of], failures)


def show(score: Score, count: int) -> None:
    for line in score.failures[:count]:
        tqdm.write(f"    wrong: {line}")


def evaluate(tests: Tests, failures: int) -> dict[str, Scores]:
    """Prints and returns every score with the size of its test set, and some failures."""
    speaker, report = tests.speaker, dict[str, Scores]()
    for language in tests.languages:
        callers = tests.callers[language]
        for view, line in ((0, "clean"), (1, "degraded")):
            scores = report[f"{language}, {line}"] = measures.understanding(speaker, callers, view, language)
            _print(f"{language}, {line} line: held-out sentences and numbers", scores, 0 if view else failures, "exact")
        apart = measures.unseen_by_hand(speaker, tests.tokenizer, 6, 5, language)
        report[f"{language}, by hand"] = {"right": apart}
        _print(f"{language}: sentences that no pattern makes", report[f"{language}, by hand"], failures * 2, "right")
        for languages in ((language,), (language, "en" if language == "zh" else "zh")):
            if set(languages) <= set(tests.languages):
                facts = measures.grounded(speaker, callers, 0, 40, languages, 7)
                name = f"{language}, facts of 40 personas never seen, prompt in {' and '.join(languages)}"
                report[name] = facts
                _print(name, facts, failures, "exact")
        greeting = tests.replies.get((DEFAULTS[language].greeting, ""))
        report[f"{language}, recall"] = measures.recall(speaker, callers, greeting, 120, language, 3)
        _print(f"{language}: a number over three turns, own answers as history", report[f"{language}, recall"])
    if len(tests.languages) == len(LANGUAGES):
        report["language"] = measures.language_following(speaker, tests.callers, 200, 9)
        _print("answers in the caller's language, persona of both", report["language"], failures, "changed language")
    if (tests.models.decoder / "config.yaml").exists():
        _spoken(tests, report, failures)
    return report


def _spoken(tests: Tests, report: dict[str, Scores], failures: int) -> None:
    """What needs the decoder: words as heard, styles as heard."""
    decoder = decoder_weights.load(tests.models.decoder)
    for language in tests.languages:
        callers = tests.callers[language]
        rate, words, digits = measures.agreement(tests.speaker, decoder, callers, 120, language)
        report[f"{language}, spoken"] = {"all words": words, "all digits": digits}
        _print(f"{language}: spoken against own text, judge, error rate {rate:.1%}", report[f"{language}, spoken"])
        show(digits, failures)
        print(
            f"\n{language}: styles asked for by the prompt, 24 answers: length beside the plain ones', F0's span, level"
        )
        plain = 0.0
        for style, answers in measures.styles(tests.speaker, callers, 24, language, 11).items():
            heard = [prosody(speak(decoder, codes, i), REPLY_RATE) for i, codes in enumerate(answers) if codes]
            found = [item for item in heard if item is not None]
            if found:
                seconds = float(np.mean([item.seconds for item in found]))
                plain = plain or seconds
                span, level = (float(np.mean([getattr(item, name) for item in found])) for name in ("span", "level"))
                print(f"  {style or 'plain':6} {seconds / plain:5.2f} x {span:6.2f} semitones {level:6.1f} dB")


def robustness(tests: Tests, failures: int, count: int = 200) -> dict[str, Scores]:
    """The same callers on a clean line and with noise of 10 dB over G.711; sounds that are no speech."""
    report: dict[str, Scores] = {}
    rng = np.random.default_rng(1)
    known = {u.clip.text for found in tests.callers.values() for u in found}
    for language in tests.languages:
        clips = [
            (clip, wave)
            for name in HELD_OUT[language]
            for path in list_shards(SPEECH, name)
            for clip, wave in read_shard(path)
            if clip.text in known and clip.intent not in measures.CONTEXTUAL
        ][:count]
        placed = [augment.place(wave, rng) for _, wave in clips]
        opening = tests.speaker.opening(DEFAULTS[language])
        scores: Scores = {}
        for name, waves in (
            ("clean", placed),
            ("noise of 10 dB, G.711", [augment.g711(augment.add_noise(wave, 10.0, rng)) for wave in placed]),
        ):
            codes = encode_waves(tests.tokenizer, waves)
            answers = tests.speaker.answer([[*opening, *tests.speaker.ask(code.tolist())] for code in codes])
            scores[name] = Score()
            for (clip, _), ids in zip(clips, answers, strict=True):
                said = tests.speaker.text(ids)
                wanted = Receptionist(greeted=False, persona=DEFAULTS[language]).answer(request_of(clip))
                scores[name].add(said == wanted, f"{clip.text!r} -> {said!r}")
        report[f"{language}, noise"] = scores
        _print(f"{language}: exact answers by line", scores)
    report["no speech"] = sounds.made_up(tests.speaker, tests.tokenizer, 40, 1)
    _print("sounds that are no speech", report["no speech"])
    for name in report["no speech"]:
        show(report["no speech"][name], failures if "order" in name else 1)
    return report
