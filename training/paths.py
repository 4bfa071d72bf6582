"""Where training keeps what it makes: caches outside version control, weights in it."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "nano"
PLOTS = CACHE / "plots"
WEIGHTS = ROOT / "weights" / "nano"
SAMPLES = ROOT / "samples"

SPEECH_RATE = 16_000  # callers, and whatever the tokenizer hears
REPLY_RATE = 22_050  # the agent's voice, and whatever the decoder makes


@dataclass(frozen=True)
class Models:
    """A directory as weights/nano, of which parts may not be there yet."""

    root: Path = WEIGHTS

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer"

    @property
    def lm(self) -> Path:
        return self.root / "lm"

    @property
    def decoder(self) -> Path:
        return self.root / "decoder"

    def checkpoint(self, part: str) -> Path:
        """Where the training of a part keeps its state: in the cache, by the directory's name."""
        return CACHE / self.root.name / f"{part}.pt"
