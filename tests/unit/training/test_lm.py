from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from services.lm.prompt import ChatTemplate
from training.domain.answers import Said
from training.domain.facts import DEFAULT
from training.domain.mandarin.requests import make_request as make_mandarin_request
from training.domain.numbers import random_number
from training.domain.personas import DEFAULTS, Bilingual
from training.domain.replies import STYLE_TAGS, Request, all_fixed
from training.domain.requests import INTENTS, make_request
from training.domain.sentences import STYLES
from training.lm import bpe, transformers_model
from training.lm.batches import batches, collate
from training.lm.data import INTERLEAVED, Calls, Codes, LossWeights, Mix, Row, Setting, Writer
from training.lm.earlier import start_from
from training.lm.export import export, interleaved_rows, load_template
from training.lm.model import LanguageModel, LMConfig
from training.lm.train import nearest_codes
from training.shards import Clip
from training.tokenizer.encode import Utterance

CODES = 32
TEXTS = ["Hello, how can I help you?", " four seven one nine", "I have four seven one nine. Is that right?", "Ω 12 £"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm")
    bpe.write_tokenizer(path, bpe.train_ranks(TEXTS * 3, 300), CODES)
    return path


@pytest.fixture(scope="module")
def template(folder: Path) -> ChatTemplate:
    return load_template(folder)


@pytest.fixture(scope="module")
def model(folder: Path, template: ChatTemplate) -> LanguageModel:
    torch.manual_seed(0)
    config = LMConfig(vocabulary=384, hidden=64, layers=2, heads=4, groups=2, head_dim=32, ffn=96, ctc_layer=1)
    model = LanguageModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith("qkv.bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("text", [*TEXTS, "never seen: Zürich\n\n  !"])
def test_text_survives_the_vocabulary(template: ChatTemplate, text: str) -> None:
    assert template.text.decode(template.text.encode(text)) == text


def test_frequent_words_are_one_token(template: ChatTemplate) -> None:
    assert len(template.text.encode(" four seven one nine")) == 4


def test_special_and_speech_ids_follow_the_ranks(template: ChatTemplate) -> None:
    vocabulary = template.vocabulary
    assert vocabulary.codebook_size == CODES
    assert vocabulary.speech_offset == len(template.text.ids) + len(bpe.SPECIAL_TOKENS)
    assert vocabulary.size == vocabulary.speech_offset + CODES


def test_exported_model_is_the_trained_one(model: LanguageModel, folder: Path) -> None:
    """Rotary permutation, key mapping and shared prefix: the logits of transformers' GLM class."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    export(model, folder)
    served = transformers_model.load(folder)
    prefix, rows = torch.randint(0, 300, (7,)), torch.randint(0, 300, (2, 9))
    positions = torch.arange(7, 16).repeat(2, 1)
    positions[1, 4:] += 50
    with torch.no_grad():
        ours, _ = model(prefix, rows, positions, torch.ones(2, 9, dtype=torch.bool))
        for i in range(2):
            ids = torch.cat([prefix, rows[i]])[None]
            at = torch.cat([torch.arange(7), positions[i]])[None]
            theirs = served(ids, position_ids=at).logits[0, 7:]
            # Our causal mask is kept in bfloat16, like training; -1e4 is far from any score either way.
            torch.testing.assert_close(ours[i * 9 : (i + 1) * 9], theirs, atol=1e-4, rtol=1e-4)


def test_interleaved_rows_are_a_permutation() -> None:
    rows = interleaved_rows(32)
    assert sorted(rows.tolist()) == list(range(32))
    assert rows[:4].tolist() == [0, 8, 1, 9]
    assert rows[16:].tolist() == list(range(16, 32))


def test_rows_are_what_the_service_would_write(template: ChatTemplate) -> None:
    writer = Writer(template, LossWeights())
    writer.user([1, 2, 3], "four")
    writer.answer(TEXTS[2], list(range(30)), free=True)
    row = writer.row
    expected = [*template.user_speech_head(), *template.speech([1, 2, 3]), *template.end_of_speech()]
    expected += [*template.assistant_head(), *template.answer(TEXTS[2], range(30))]
    assert row.ids == expected
    assert row.heard == [(len(template.user_speech_head()), 3, template.text.encode(" four"))]
    learnt = [(i, target) for i, (target, weight) in enumerate(zip(row.targets, row.weights, strict=True)) if weight]
    first = len(expected) - len(template.answer(TEXTS[2], range(30))) - 1
    assert [i for i, _ in learnt] == list(range(first, len(expected)))
    assert [target for _, target in learnt] == [*expected[first + 1 :], template.end]


def test_said_text_is_not_learnt_but_its_speech_is(template: ChatTemplate) -> None:
    writer = Writer(template, LossWeights())
    writer.answer("Hello", [5, 6], free=False)
    learnt = [target for target, weight in zip(writer.row.targets, writer.row.weights, strict=True) if weight]
    assert learnt == [*template.speech([5, 6]), template.end]


def test_an_answer_cut_off_has_no_end(template: ChatTemplate) -> None:
    writer = Writer(template, LossWeights())
    writer.answer("Hello", list(range(20)), free=True, cut=0.4)
    assert template.end not in writer.row.targets


def test_collate_keeps_positions_lengths_and_alignable_speech() -> None:
    row = Row([1, 2, 3, 4], [2, 3, 4, 9], [0, 0, 1, 2], [(2, 10)], [(0, 2, [7]), (2, 1, [7, 8])])
    batch = collate([row, Row([5], [0], [0.0], [], [])], prefix=[1] * 6, padding=0)
    assert batch.prefix.tolist() == [1] * 6
    assert batch.positions[0].tolist() == [6, 7, 18, 19]
    assert batch.tokens[1].tolist() == [5, 0, 0, 0]
    assert batch.targets.tolist() == [4, 9]
    assert batch.weights.tolist() == [1, 2]
    assert batch.heard.tolist() == [[0, 1]]
    assert batch.word_lengths.tolist() == [1]


def _callers(rng: Random, make_request: Callable[..., tuple[str, Request]] = make_request) -> list[Utterance]:
    out = [Utterance(Clip("", "noise", "noise"), [np.zeros(4, np.int16)])]
    for intent in INTENTS:
        for _ in range(3):
            number = random_number(rng, "train") if intent == "number" else None
            text, request = make_request(intent, "train", rng, number)
            codes = np.array([rng.randrange(CODES) for _ in range(60)], np.int16)
            out.append(Utterance(Clip(text, "hibari", intent, request.slots), [codes]))
    return out


def test_answers_are_those_of_the_persona_in_the_prompt(template: ChatTemplate) -> None:
    rng = Random(1)
    calls = Calls(template, _callers(rng), {}, nearest_codes(torch.randn(CODES, 8)), 1)
    setting, prefix = next(found for found in iter(calls.persona, None) if found[0].persona != DEFAULT)
    facts = setting.persona.speaking("en")
    assert facts.company in template.text.decode(token for token in prefix if template.text.knows(token))
    calls.mix = Mix({"written": 1.0}, 0, 0, 0, 0, True)
    calls.replies = {(text, ""): np.zeros(9, np.int16) for who in (facts, DEFAULT) for text in all_fixed(who)}
    rows = [
        template.text.decode(t for t in calls.row(Setting(facts)).ids if template.text.knows(t)) for _ in range(200)
    ]
    assert any(facts.where in row for row in rows)
    assert not any(DEFAULT.where in row for row in rows)


def test_callers_of_two_languages_are_answered_in_theirs(template: ChatTemplate) -> None:
    rng = Random(2)
    callers = [*_callers(rng), *_callers(rng, make_mandarin_request)]
    calls = Calls(template, callers, {}, nearest_codes(torch.randn(CODES, 8)), 1)
    assert {calls.persona()[0].persona.languages for _ in range(100)} == {("en",), ("zh",), ("en", "zh"), ("zh", "en")}
    both = Bilingual(DEFAULTS["zh"], DEFAULTS["en"])
    calls.mix = Mix({"written": 1.0}, 0, 0, 0, 0, True)
    calls.replies = {(text, ""): np.zeros(9, np.int16) for facts in DEFAULTS.values() for text in all_fixed(facts)}
    rows = [template.text.decode(t for t in calls.row(Setting(both)).ids if template.text.knows(t)) for _ in range(200)]
    for language, facts in DEFAULTS.items():
        assert {calls.draw("hours", language, rng)[1].language for _ in range(5)} == {language}
        assert calls.draw("noise", language, rng)[1].intent == "noise"
        assert any(facts.where in row for row in rows)


def test_an_answer_in_writing_has_all_its_text_and_no_end(template: ChatTemplate) -> None:
    writer = Writer(template, LossWeights())
    text = TEXTS[0] * 3
    writer.answer_text(text, list(range(30)))
    ids = writer.row.ids[len(template.assistant_head()) :]
    assert template.text.decode(token for token in ids if template.text.knows(token)) == text
    assert template.text.knows(ids[-1])
    assert template.end not in writer.row.targets


def test_a_new_vocabulary_goes_on_with_earlier_weights(model: LanguageModel, folder: Path, tmp_path: Path) -> None:
    export(model, folder)
    bpe.write_tokenizer(tmp_path, bpe.train_ranks([*TEXTS, "another vocabulary altogether"] * 3, 320), CODES)
    template = load_template(tmp_path)
    later = LanguageModel(replace(model.config, vocabulary=448))
    start_from(later, template, folder)
    export(later, tmp_path)
    earlier = ChatTemplate.load(folder)
    ids = [
        [*earlier.speech([3, 5]), earlier.vocabulary.assistant],
        [*template.speech([3, 5]), template.vocabulary.assistant],
    ]
    with torch.no_grad():
        before = transformers_model.load(folder)(torch.tensor([ids[0]])).logits[0]
        after = transformers_model.load(tmp_path)(torch.tensor([ids[1]])).logits[0]
    codes = [earlier.speech(range(CODES)), template.speech(range(CODES))]
    torch.testing.assert_close(before[:, codes[0]], after[:, codes[1]], atol=1e-4, rtol=1e-4)


def test_speech_of_another_tokenizer_begins_anew(model: LanguageModel, folder: Path, tmp_path: Path) -> None:
    export(model, folder)
    bpe.write_tokenizer(tmp_path, bpe.train_ranks(TEXTS * 3, 320), 2 * CODES)
    template = load_template(tmp_path)
    later = LanguageModel(replace(model.config, vocabulary=448))
    speech, before = template.speech(range(2 * CODES)), later.embedding.weight.detach().clone()
    start_from(later, template, folder)
    assert torch.equal(later.embedding.weight[speech], before[speech])
    assert not torch.equal(later.embedding.weight[template.end], before[template.end])
    down = [part.state_dict()["layers.0.down.weight"] for part in (later, model)]
    torch.testing.assert_close(*down, atol=1e-3, rtol=1e-2)


def test_digits_never_join_a_longer_token() -> None:
    texts = ["单号是四七一九", "您的单号是四七", "四七一九"] * 50
    joined = {token.decode("utf-8", "replace") for token in bpe.train_ranks(texts, 300)}
    apart = {token.decode("utf-8", "replace") for token in bpe.train_ranks(texts, 300, "四七一九")}
    assert any(len(token) > 1 and token[0] in "四七一九" for token in joined)
    assert not any(len(token) > 1 and set(token) & set("四七一九") for token in apart)
    assert {"四", "七", "一", "九", "单号是"} <= apart


def test_spans_alternate_and_all_but_the_first_are_learnt(template: ChatTemplate) -> None:
    writer = Writer(template, LossWeights())
    writer.spans([("Hello", None), ("four", [1, 2, 3]), ("seven", None)])
    row, first = writer.row, template.text.encode(" Hello")
    head = [template.vocabulary.assistant, *template.text.encode(INTERLEAVED)]
    rest = [*template.speech([1, 2, 3]), *template.text.encode(" seven")]
    assert row.ids == [*head, *first, *rest]
    learnt = [target for target, weight in zip(row.targets, row.weights, strict=True) if weight]
    assert learnt == [*rest, template.end]


def test_a_prompt_may_end_with_the_style_that_its_answers_have(template: ChatTemplate) -> None:
    rng = Random(3)
    replies: dict[Said, Codes] = {}
    for text in all_fixed():
        replies |= {(text, ""): np.full(9, 1, np.int16), (text, "slow"): np.full(9, 2, np.int16)}
    calls = Calls(template, _callers(rng), replies, nearest_codes(torch.randn(CODES, 8)), 1)
    calls.mix = Mix({"call": 1.0}, 0, 0, 0, 0, False)
    found = [calls.persona() for _ in range(200)]
    tags = STYLE_TAGS["en"]
    for setting, prefix in found:
        prompt = template.text.decode(token for token in prefix if template.text.knows(token))
        assert {tag for tag in tags.values() if prompt.endswith(tag)} == (
            {tags[setting.style]} - {""} if setting.style else set()
        )
    assert {setting.style for setting, _ in found} == {"", *STYLES}
    greeted = [calls.row(Setting(DEFAULT, "slow")) for _ in range(60)]
    slow, plain = template.speech([2])[0], template.speech([1])[0]
    spoken = [{t for t, w in zip(row.targets, row.weights, strict=True) if w} & {slow, plain} for row in greeted]
    assert {slow} in spoken


def test_batches_keep_to_their_budget_and_learn_only_answers(template: ChatTemplate) -> None:
    rng = Random(1)
    replies: dict[Said, Codes] = {
        (text, ""): np.array([rng.randrange(CODES) for _ in range(20)], np.int16) for text in all_fixed()
    }
    calls = Calls(template, _callers(rng), replies, nearest_codes(torch.randn(CODES, 8)), 1)
    source = batches(calls, 1500, template.end, personas=2)
    for _ in range(4):
        batch = next(source)
        assert batch.tokens.numel() <= 1500 or len(batch.tokens) == 1
        assert bool((batch.positions.diff(dim=1) >= 1).all())
        assert len(batch.targets) == int(batch.wanted.sum()) > 0
        given = {template.vocabulary.begin_of_audio, template.vocabulary.end_of_audio, template.vocabulary.assistant}
        assert not given & set(batch.targets.tolist())
