"""Where training keeps what it makes: caches outside version control, weights in it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "nano"
PLOTS = CACHE / "plots"
WEIGHTS = ROOT / "weights" / "nano"
SAMPLES = ROOT / "samples"

SPEECH_RATE = 16_000  # callers, and whatever the tokenizer hears
REPLY_RATE = 22_050  # the agent's voice, and whatever the decoder makes
