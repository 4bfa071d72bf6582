"""`python -m services.agent.cli watermark`: whether recordings bear the watermark. Needs no running agent."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import soundfile
import typer

from services.agent.secrets import SecretError, read_secret
from services.agent.watermark.code import PUBLIC_KEY, Code
from services.agent.watermark.detect import ALPHA, Finding, detect

KEY = "TRUNKLINE_AGENT_WATERMARK_KEY"  # the agent's own setting
LONGEST_S = 4 * 3600
NOT_FOUND, UNREADABLE = 1, 2  # exit statuses, as grep has them

watermark = typer.Typer(help="Whether recordings hold a bot's voice.", no_args_is_help=True)


@watermark.callback()
def _watermark() -> None:
    """A group, though of one command."""


class AudioError(Exception):
    """A recording cannot be looked at; the message says why."""


@watermark.command("detect")
def detect_in(
    files: Annotated[
        list[Path], typer.Argument(help="recordings: WAV (G.711 too), Opus, FLAC, MP3", metavar="FILE...")
    ],
    key_file: Annotated[
        Path | None, typer.Option(help=f"file with the operator's key; without it {KEY}, else the public key")
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="how often a file without the mark may be taken for one with it", min=1e-30, max=0.05)
    ] = ALPHA,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object for each file, one a line")] = False,
) -> None:
    """Tells for each file whether it bears the watermark, how sure that is, and where.

    Channels are looked at one by one, in windows of five seconds: at least so much of the bot's voice should be there.
    Exit status: 0 when all files bear it, 1 when one does not, 2 when one cannot be read.
    """
    try:
        given = read_secret("" if key_file else os.environ.get(KEY, ""), key_file, "the watermark's key")
    except SecretError as error:
        print(f"watermark: error: {error}", file=sys.stderr, flush=True)
        raise typer.Exit(UNREADABLE) from None
    code = Code.of(given.encode() or PUBLIC_KEY)
    status = 0
    for file in files:
        try:
            finding = detect(*read(file), code, alpha)
        except (AudioError, ValueError) as error:
            print(f"watermark: error: {file}: {error}", file=sys.stderr, flush=True)
            status = UNREADABLE
            continue
        print(_record(file, finding) if as_json else _line(file, finding), flush=True)
        if not finding.found:
            status = max(status, NOT_FOUND)
    raise typer.Exit(status)


def read(file: Path) -> tuple[npt.NDArray[np.float32], int]:
    """A recording: samples of shape (samples, channels), -1 to 1, and their rate in hertz.

    Raises:
        AudioError: there is none, it is no audio, or it is too long.
    """
    if not file.is_file():
        raise AudioError("is a directory" if file.is_dir() else "does not exist")
    try:
        with soundfile.SoundFile(file) as audio:
            if audio.frames > LONGEST_S * audio.samplerate:
                raise AudioError(f"longer than {LONGEST_S // 3600} hours: cut it")
            return audio.read(dtype="float32", always_2d=True), audio.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"cannot be read as audio: {' '.join(str(error).split())}") from error


def _line(file: Path, finding: Finding) -> str:
    if not finding.found:
        return f"{file}: no watermark (p = {finding.p_value:.2g})"
    parts = [
        f"{span.start_s:.1f} to {span.end_s:.1f} s" + (f" of channel {span.channel + 1}" if span.channel else "")
        for span in finding.spans
    ]
    return f"{file}: watermark, {', '.join(parts)} (p = {finding.p_value:.2g})"


def _record(file: Path, finding: Finding) -> str:
    spans = [{"start_s": span.start_s, "end_s": span.end_s, "channel": span.channel + 1} for span in finding.spans]
    record: dict[str, Any] = {"file": str(file), "found": finding.found, "p_value": finding.p_value, "spans": spans}
    return json.dumps(record)
