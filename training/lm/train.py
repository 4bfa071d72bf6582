"""The language model's training on calls: next tokens of answers, and CTC over callers' speech at a middle layer."""

import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from services.tokenizer import weights as tokenizer_weights
from training import corpus, corpus_zh
from training.domain import wordings
from training.domain.agent import style_of
from training.domain.answers import Said, pool_of, wide_text
from training.domain.mandarin import requests as mandarin_requests
from training.domain.personas import DEFAULTS
from training.domain.replies import SENTENCES, STYLE_TAGS, SYSTEM, all_fixed
from training.domain.sentences import DAYS, TIMES, Answer
from training.languages import Language
from training.lm import bpe, data
from training.lm.batches import Batch, batches
from training.lm.earlier import start_from
from training.lm.export import export, load_template
from training.lm.model import LanguageModel, LMConfig
from training.paths import PLOTS, Models
from training.progress import Budget, History, cosine, save_checkpoint
from training.tokenizer.encode import Utterance, read_utterances, tokens_folder

# Names of shards of callers, and of words to be read.
HEARD = ("callers-train", "reading-train", "callers-zh-train")

_RANKS = 3200
_TOKENS_A_BATCH = 2200
_LEARNING_RATE = 1.5e-3
_CTC, _CTC_LATE = 0.8, 0.25
_LATE = 0.75
_UNDERSTANDING = 0.58  # share of the time
_WARM_UP = 80
_SAVE_EVERY = 240.0
_FIRST_SAVE = 100  # steps; something to integrate against
_NEIGHBOURS = 4


def vocabulary_texts(rng: Random, languages: Sequence[Language] = ("en",)) -> list[str]:
    """Text that the byte-pair vocabulary is learnt from: prompts, answers, requests, and some general text."""
    texts = ["streaming_transcription\n", data.TRANSCRIPTION, data.INTERLEAVED] * 300
    for language in languages:
        texts += _domain_texts(rng, language)
    return texts


def _domain_texts(rng: Random, language: Language) -> list[str]:
    default, sentences, pool = DEFAULTS[language], SENTENCES[language], pool_of(language)
    texts = [SYSTEM + default.prompt()] * 100 + [f" {tag}" for tag in STYLE_TAGS[language].values()] * 60
    for _ in range(400):
        facts = pool.facts(rng)
        texts += [SYSTEM + facts.prompt(), facts.said_otherwise(rng), facts.greeting, facts.identity]
        texts += [facts.where, facts.prices, facts.hours, facts.hours_on(rng.choice(DAYS))]
    texts += all_fixed(default) * 40
    for digit in corpus.DIGITS:
        texts += [f" {sentences.number(digit)}"] * 500
    texts += [sentences.say(Answer("closed"))] * 60
    for day in DAYS:
        texts += [default.hours_on(day)] * 60
        for name, times in (("booked", 4), ("moved", 2)):
            texts += [sentences.say(Answer(name, day=day, time=time)) for time in TIMES] * times
    said = wordings.WORDINGS if language == "en" else mandarin_requests.WORDINGS
    for intent, patterns in said.patterns.items():
        texts += [f" {said.random(intent, 'train', rng)}" for _ in range(20 * len(patterns))]
    texts += [f" {wide_text(rng, language)}" for _ in range(1500)]
    return texts


def prepare_vocabulary(folder: Path, codes: int, seed: int, languages: Sequence[Language] = ("en", "zh")) -> None:
    """Writes the text tokenizer unless it is there."""
    if not (folder / "tokenizer.model").exists():
        ranks = bpe.train_ranks(vocabulary_texts(Random(seed), languages), _RANKS, alone="".join(corpus_zh.DIGITS))
        bpe.write_tokenizer(folder, ranks, codes)


def load_callers(folder: Path, names: Sequence[str]) -> list[Utterance]:
    """Callers' recordings of the named shards, all takes, in `folder` of tokens."""
    paths = [path for name in names for path in sorted(folder.glob(f"{name}-[0-9]*.json"))]
    return [utterance for path in paths for utterance in read_utterances(path)]


def load_replies(folder: Path, split: str) -> dict[Said, npt.NDArray[np.int16]]:
    """The agent's answers in its own voice, by their text and style."""
    spoken: dict[Said, npt.NDArray[np.int16]] = {}
    for pattern in ("replies", "styled-replies"):
        for path in sorted(folder.glob(f"{pattern}*-{split}-[0-9]*.json")):
            for utterance in read_utterances(path):
                # Where a style has been made in two ways, the first way counts: both are never mixed for one text.
                spoken.setdefault((utterance.clip.text, style_of(utterance.clip)), utterance.views[0])
    return spoken


def nearest_codes(codebook: Tensor, count: int = _NEIGHBOURS) -> npt.NDArray[np.int64]:
    """(codes, count): the closest other codes of each."""
    near = torch.cdist(codebook, codebook).topk(count + 1, largest=False).indices[:, 1:]
    return near.numpy()


def loss_of(model: LanguageModel, batch: Batch, ctc_weight: float, speech: int) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and its parts; ids from `speech` on are speech tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        heard = batch.heard if len(batch.heard) else None
        logits, ctc = model(batch.prefix, batch.tokens, batch.positions, batch.wanted, heard)
    each = F.cross_entropy(logits.float(), batch.targets, reduction="none")
    loss = (each * batch.weights).sum() / batch.weights.sum()
    parts = {}
    spoken = batch.targets >= speech
    for name, chosen in (("speech", spoken), ("text", ~spoken)):
        if chosen.any():
            parts[name] = each[chosen].mean().item()
    if ctc is not None:
        log_probabilities = F.log_softmax(ctc.float(), -1).transpose(0, 1)
        blank = model.config.ctc_classes - 1
        alignment = F.ctc_loss(
            log_probabilities, batch.words, batch.heard_lengths, batch.word_lengths, blank=blank, zero_infinity=True
        )
        loss = loss + ctc_weight * alignment
        parts["ctc"] = alignment.item()
    return loss, parts


def _optimizer(model: LanguageModel) -> torch.optim.Optimizer:
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and name != "embedding.weight"]
    others = [p for name, p in model.named_parameters() if p.dim() <= 1 or name == "embedding.weight"]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=_LEARNING_RATE, betas=(0.9, 0.98), fused=True)


def train(
    minutes: float,
    seed: int = 1,
    threads: int = 1,
    models: Models | None = None,
    begin_with: Path | None = None,
) -> None:
    """Trains for `minutes` in all, resuming its checkpoint; the model so far is exported every few minutes.

    Speech tokens are those that the tokenizer of `models` has made. Raises SystemExit when there are none.

    `begin_with` names an earlier version's directory, whose weights a new run begins with; its vocabulary may differ.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    models = models or Models()
    folder, checkpoint = models.lm, models.checkpoint("lm")
    tokenizer = tokenizer_weights.load(models.tokenizer)
    codebook, tokens_at = tokenizer.encoder.codebook.weight, tokens_folder(tokenizer.revision)
    folder.mkdir(parents=True, exist_ok=True)
    prepare_vocabulary(folder, len(codebook), seed)
    template = load_template(folder)
    vocabulary = template.vocabulary
    callers, replies = load_callers(tokens_at, HEARD), load_replies(tokens_at, "train")
    if not callers or not replies:
        raise SystemExit(f"no speech tokens in {tokens_at}: run `python -m training data`, then `tokens`")
    texts = len(template.text.ids)
    config = LMConfig(vocabulary=-(-vocabulary.size // 64) * 64, ctc_classes=texts + 1)
    model = LanguageModel(config)
    model.start_speech_from(codebook, vocabulary.speech_offset, seed)
    if begin_with is not None:
        start_from(model, template, begin_with)
    optimizer = _optimizer(model)
    history, step, done = History("Language model"), 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for group in optimizer.param_groups:
            group["fused"] = True
        history.rows, step, done = state["history"], state["step"], state["done"]
    budget = Budget(minutes, done)
    near = nearest_codes(codebook)
    calls = data.Calls(template, callers, replies, near, seed + step)
    source = batches(calls, _TOKENS_A_BATCH, template.end)
    files = len(list(tokens_at.iterdir()))
    size = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("ctc"))
    saved = budget.done
    print(f"{len(callers)} callers, {len(replies)} answers, {size / 1e6:.2f} M parameters")

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history.rows}
        save_checkpoint(checkpoint, state | {"step": step, "done": budget.done})
        history.save(PLOTS, f"lm-{models.root.name}")
        export(model, folder)

    bar = tqdm(total=round(budget.limit), unit="s", desc="lm")
    tokens, started = 0, time.monotonic()
    while budget.fraction < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * cosine(budget.fraction, step, _WARM_UP)
        calls.mix = data.UNDERSTANDING if budget.fraction < _UNDERSTANDING else data.CONVERSATION
        batch = next(source)
        ctc_weight = _CTC if budget.fraction < _LATE else _CTC_LATE
        loss, parts = loss_of(model, batch, ctc_weight, vocabulary.speech_offset)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        tokens += batch.tokens.numel()
        history.add(**parts)
        if step % 25 == 0:
            row = history.close_row(budget.done / 60, step)
            bar.n = round(budget.done)
            rate = tokens / (time.monotonic() - started)
            losses = " ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "minute")
            bar.set_postfix_str(f"{losses} {rate:.0f} tok/s")
        if budget.done - saved > _SAVE_EVERY or step == _FIRST_SAVE:
            save()
            saved = budget.done
            if len(list(tokens_at.iterdir())) > files:  # tokens may still be made while this trains
                files = len(list(tokens_at.iterdir()))
                callers, replies = load_callers(tokens_at, HEARD), load_replies(tokens_at, "train")
                calls = data.Calls(template, callers, replies, near, seed + step)
                source = batches(calls, _TOKENS_A_BATCH, template.end)
    save()
    bar.close()
