"""Training of the tokenizer: recognition through Whisper's frozen decoder, distillation, commitment to the codes."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from training import augment
from training.judge import error_rate
from training.paths import CACHE, PLOTS
from training.progress import Budget, History, cosine, save_checkpoint
from training.shards import list_shards
from training.synthesis import SPEECH
from training.tokenizer import data, whisper
from training.tokenizer.export import TOKENIZER, export
from training.tokenizer.model import MARKS, Teacher, TokenizerTrainer
from training.tokenizer.recogniser import save_recogniser

CHECKPOINT = CACHE / "tokenizer" / "checkpoint.pt"

_LEARNING_RATE = 5e-4
_SECONDS_A_BATCH = 56.0
_CONTINUOUS = 0.08  # share of the time before the codebook comes in
_DISTIL_EVERY = 3
_COMMITMENT, _DISTILLATION = 2.5, 2.0
_KMEANS_VECTORS = 16_000
_SAVE_EVERY = 180.0
_TESTS = ("wide-test", "callers-test", "mandarin-test")
_CLIPS_HEARD = 24


def _loss(
    model: TokenizerTrainer, batch: data.Batch, teacher: Teacher | None, quantise: bool
) -> tuple[Tensor, dict[str, float], Tensor, Tensor | None]:
    """The loss, its parts, the vectors before quantisation (n, d) and their codes."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden, lengths = model.encoder.hidden(batch.features, batch.lengths)
        valid = torch.arange(hidden.shape[1])[None, :] < lengths[:, None]
        chosen, commitment = None, hidden.new_zeros(())
        vectors = hidden.float()
        if quantise:
            vectors, chosen, commitment = model.quantised(hidden, valid)
        speech = model.recogniser.listen(vectors, lengths)
        wanted = batch.text[:, 1:].clone()
        wanted[:, 1 : MARKS - 1] = -1  # the task's marks are given, the language is heard
        asked = wanted >= 0
        logits = model.recogniser.spell(batch.text[:, :-1].clamp(min=0), speech, lengths, asked)
        target = teacher(batch.clean, batch.lengths) if teacher is not None else None
    recognition = F.cross_entropy(logits.float(), wanted[asked])
    loss = recognition + _COMMITMENT * commitment.float()
    parts = {"recognition": recognition.item()}
    if quantise:
        parts["commitment"] = float(commitment.detach())
    if target is not None:
        shared = min(target.shape[1], speech.shape[1])
        error = (speech[:, :shared].float() - target[:, :shared].float()).square().mean(-1)
        distillation = error[valid[:, :shared]].mean()
        loss = loss + _DISTILLATION * distillation
        parts["distillation"] = distillation.item()
    return loss, parts, hidden.detach()[valid].float(), chosen


def _training_shards() -> list[Path]:
    names = ("wide-train", "callers-train", "mandarin-train", "callers-zh-train")
    return [path for name in names for path in list_shards(SPEECH, name)]


@torch.no_grad()
def recognise(model: TokenizerTrainer, waves: list[data.Waveform], quantise: bool = True) -> list[str]:
    """Text that the recogniser reads from the tokens of each wave."""
    model.eval()
    out = []
    for start in range(0, len(waves), 16):
        features, frames = data.mel_batch(waves[start : start + 16])
        hidden, lengths = model.encoder.hidden(features, frames)
        if quantise:
            hidden = model.encoder.codebook(model.encoder.quantise(hidden))
        out += [whisper.text_tokenizer().decode(ids) for ids in model.recogniser.transcribe(hidden, lengths)]
    model.train()
    return out


def train(
    minutes: float, seed: int = 1, threads: int = 1, checkpoint: Path = CHECKPOINT, folder: Path = TOKENIZER
) -> None:
    """Trains for `minutes` in all (resuming `checkpoint`), then exports to `folder`."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    shards = _training_shards()
    speech = data.Speech(shards)
    if not len(speech):
        raise SystemExit("no speech to learn from: run `python -m training data wide` first")
    state = torch.load(checkpoint) if checkpoint.exists() else None
    words = state["vocabulary"] if state else data.vocabulary(speech.texts)
    model = TokenizerTrainer(words)
    teacher = Teacher(pretrained := whisper.base())
    model.load_whisper(pretrained)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    history, step, quantise, done = History("Speech tokenizer"), 0, False, 0.0
    if state:
        model.load_state_dict(state["model"])
        model.codes.load_state_dict(state["codes"])
        optimizer.load_state_dict(state["optimizer"])
        history.rows, step, quantise, done = state["history"], state["step"], state["quantise"], state["done"]
    budget = Budget(minutes, done)
    batches = iter(data.Batches(speech, words, _SECONDS_A_BATCH, seed + step))
    recent: list[Tensor] = []
    saved = budget.done

    def save() -> None:
        save_checkpoint(
            checkpoint,
            {
                "model": model.state_dict(),
                "codes": model.codes.state_dict(),
                "optimizer": optimizer.state_dict(),
                "vocabulary": words,
                "history": history.rows,
                "step": step,
                "quantise": quantise,
                "done": budget.done,
            },
        )
        history.save(PLOTS, "tokenizer")

    print(f"{len(speech)} clips, {len(words)} word pieces, {sum(p.numel() for p in trained) / 1e6:.1f} M trained")
    bar = tqdm(total=round(budget.limit), unit="s", desc="tokenizer")
    while budget.fraction < 1.0:
        if not quantise and budget.fraction > _CONTINUOUS and sum(map(len, recent)) >= _KMEANS_VECTORS:
            model.codes.initialise(torch.cat(recent), generator)
            quantise, recent = True, []
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * cosine(budget.fraction, step, 80)
        loss, parts, vectors, chosen = _loss(
            model, next(batches), teacher if step % _DISTIL_EVERY == 0 else None, quantise
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if chosen is not None:
            # Restarting codes to the end would leave fresh ones that the recogniser has never seen.
            model.codes.dead = 0.08 if budget.fraction < 0.85 else 0.0
            model.codes.update(vectors, chosen, generator)
        elif budget.fraction > _CONTINUOUS / 2:
            recent = [*recent, vectors][-40:]
        step += 1
        history.add(**parts)
        if step % 20 == 0:
            row = history.close_row(budget.done / 60, step)
            bar.n = round(budget.done)
            losses = " ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "minute")
            bar.set_postfix_str(f"{losses}, {int((model.codes.count > 0.1).sum())} live codes")
        if budget.done - saved > _SAVE_EVERY:
            save()
            with budget.paused():
                for name in _TESTS:
                    test = data.Speech(list_shards(SPEECH, name))
                    if len(test) < _CLIPS_HEARD:
                        continue
                    clips = range(0, len(test), len(test) // _CLIPS_HEARD)
                    heard = recognise(model, [augment.framed(test.wave(i)) for i in clips], quantise)
                    rate = error_rate([test.texts[i] for i in clips], heard)
                    tqdm.write(f"{budget.done / 60:.1f} min: {name}, {len(clips)} clips: error rate {rate:.1%}")
            if len(more := _training_shards()) > len(shards):  # data may still be made while this trains
                shards = more
                batches = iter(data.Batches(data.Speech(shards), words, _SECONDS_A_BATCH, seed + step))
            saved = budget.done
    save()
    bar.close()
    save_recogniser(model)
    export(model, folder)
