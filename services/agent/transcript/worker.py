"""`python -m services.agent.transcript.worker MODEL THREADS`: writes down what it is given, at low priority.

Standard input: a line of JSON `{"bytes": n, "language": "en"}`, then n bytes of 16-bit mono PCM at 16 kHz; again and
again. Standard output: first `{"multilingual": true}`, then for each `{"text": ..., "seconds": of computing}`.
Nothing that was said goes anywhere else.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

NICENESS = 15


def main(model: Path, threads: int) -> None:
    """Serves until its standard input ends."""
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent says when it is over
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)
    _say({"multilingual": bool(whisper.model.is_multilingual)})
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        pcm = sys.stdin.buffer.read(asked["bytes"])
        started = time.process_time()
        audio = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        segments, _ = whisper.transcribe(
            audio,
            language=asked["language"],
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        text = " ".join(segment.text.strip() for segment in segments)
        _say({"text": text.strip(), "seconds": time.process_time() - started})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
