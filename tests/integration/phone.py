"""Debian's baresip 1.0 as a caller's phone: another SIP stack than ours, headless, mu-law unless told otherwise.

It is driven over its TCP control port (JSON in netstrings). Its microphone is a WAV file that `play` swaps in mid-call;
what it hears is written to a WAV file packet by packet by its `sndfile` module.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

Pcm = npt.NDArray[np.int16]

MODULES = Path("/usr/lib/baresip/modules")
RATE = 8000  # hertz, of what is played and heard
QUIET_S = 300  # silence on the microphone before and after each WAV; at its end baresip would hang up
WAV_HEADER = 44  # bytes
CODEC_FORMATS = {"PCMU": (8000, 1), "PCMA": (8000, 1), "G722": (16_000, 1), "opus": (48_000, 2)}  # rate, channels
SPEECH_RMS = 100.0  # of 32768; a quiet digital line is all zeros

CONFIG = """\
module_path {modules}
module g711.so
module g722.so
module opus.so
module srtp.so
module account.so
module aufile.so
module aubridge.so
module sndfile.so
module ctrl_tcp.so
module menu.so
sip_listen {host}:{sip}
ctrl_tcp_listen 127.0.0.1:{control}
net_interface {host}
rtp_ports {rtp}-{rtp_last}
audio_source aufile,{directory}/quiet.wav
audio_player aubridge,unheard
audio_alert aubridge,unheard
audio_srate 8000-48000
audio_channels 1-2
ausrc_srate {rate}
ausrc_channels 1
call_max_calls 4
snd_path {directory}
{more}
"""


class CallFailedError(Exception):
    """The call was refused or ended; the message is what the phone shows."""


class Phone:
    """One phone; one call at a time. Make it with `phone`."""

    def __init__(
        self, directory: Path, name: str, uri: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._directory = directory
        self.name = name
        self.uri = uri
        self._reader = reader
        self._writer = writer
        self._clips = itertools.count()
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tokens = itertools.count()
        self.events: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def call(self, uri: str, timeout_s: float = 20.0) -> None:
        """Rings `uri` and returns when it is answered.

        Raises:
            CallFailedError: it is refused.
        """
        for old in self._directory.glob("dump-*.wav"):
            old.unlink()
        self.events.clear()
        await self.command("dial", uri)
        kind = await self.wait_for("CALL_ESTABLISHED", "CALL_CLOSED", timeout_s=timeout_s)
        if kind["type"] == "CALL_CLOSED":
            raise CallFailedError(kind.get("param", ""))

    async def hang_up(self) -> None:
        """Ends the call, or the ringing."""
        await self.command("hangup")

    async def play(self, pcm: Pcm) -> None:
        """Says 16-bit mono PCM at `RATE` into the call, then is quiet. Whatever it was saying stops."""
        path = self._directory / f"say-{next(self._clips)}.wav"
        write_wav(path, np.concatenate([pcm, np.zeros(QUIET_S * RATE, np.int16)]))
        await self.command("ausrc", f"aufile,{path}")

    async def press(self, key: str) -> None:
        """Presses a key."""
        await self.command("sndcode", key)

    def heard(self) -> Pcm:
        """All that was heard in this call so far, at `RATE`. Packets that did not come are not in it."""
        for path in self._directory.glob("dump-*-dec.wav"):
            return _decoded(path.read_bytes())
        return np.zeros(0, np.int16)

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        """Events of a type in this call."""
        return [event for event in self.events if event.get("type") == kind]

    async def listen(self, since: int = 0, pause_s: float = 1.5, timeout_s: float = 40.0) -> Pcm:
        """Speech heard from sample `since` on, once `pause_s` of silence or the end of the call has followed it.

        Raises:
            TimeoutError: there was none.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                over = bool(self.events_of("CALL_CLOSED"))
                pcm = self.heard()[since:]
                begin, end = speech_span(pcm)
                if end and (over or len(pcm) - end >= pause_s * RATE):
                    return pcm[begin:end]
                if over:
                    raise CallFailedError("the call ended in silence")
                await asyncio.sleep(0.1)

    async def ask(self, question: Pcm, pause_s: float = 1.5, timeout_s: float = 60.0) -> Pcm:
        """Says `question` and returns what is heard from its end on."""
        before = len(self.heard())
        await self.play(question)
        # The line runs at the same speed both ways; what comes while the question is said is not the answer to it.
        return await self.listen(before + speech_span(question)[1], pause_s, timeout_s)

    def heard_s(self) -> float:
        """Seconds heard so far."""
        return len(self.heard()) / RATE

    async def command(self, command: str, params: str = "") -> str:
        """A command of baresip's menu; returns what it prints."""
        token = str(next(self._tokens))
        reply = self._replies[token] = asyncio.get_running_loop().create_future()
        message = json.dumps({"command": command, "params": params, "token": token}).encode()
        self._writer.write(b"%d:%s," % (len(message), message))
        answer = await asyncio.wait_for(reply, 10)
        if not answer["ok"]:
            raise RuntimeError(f"baresip does not take {command!r}: {answer['data']}")
        return str(answer["data"])

    async def wait_for(self, *kinds: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The first event of one of these types in this call."""
        async with asyncio.timeout(timeout_s):
            while True:
                self._changed.clear()
                for event in self.events:
                    if event.get("type") in kinds:
                        return event
                await self._changed.wait()

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int((await self._reader.readuntil(b":"))[:-1])
                message = json.loads((await self._reader.readexactly(size + 1))[:-1])
                if message.get("response"):
                    reply = self._replies.pop(message.get("token", ""), None)
                    if reply is not None and not reply.done():
                        reply.set_result(message)
                else:
                    self.events.append(message)
                    self._changed.set()

    async def close(self) -> None:
        """Lets go of the control port."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()


@contextlib.asynccontextmanager
async def phone(
    directory: Path,
    name: str = "phone",
    codec: str = "PCMU",
    account: str = "",
    config_lines: tuple[str, ...] = (),
    sip_port: int = 0,
    host: str = "127.0.0.1",
) -> AsyncIterator[Phone]:
    """A running phone with its files in `directory`.

    Args:
        codec: of `CODEC_FORMATS`; the only one that it offers.
        account: more account parameters, each with a leading semicolon.
        config_lines: more lines of its configuration.
        sip_port: where it can be rung; 0: anywhere.
        host: our address in calls.
    """
    free, control = _free_ports()
    sip = sip_port or free
    _furnish(directory, name, codec, account, config_lines, host, sip, control)
    with (directory / "log.txt").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "baresip", "-f", str(directory), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        reader, writer = await _connect(control, process)
        handset = Phone(directory, name, f"sip:{name}@127.0.0.1:{sip}", reader, writer)
        try:
            yield handset
        finally:
            with contextlib.suppress(Exception):
                await handset.hang_up()
                await handset.command("quit")
            await handset.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            try:
                await asyncio.wait_for(process.wait(), 3)
            except TimeoutError:
                process.kill()
                await process.wait()


def _furnish(
    directory: Path,
    name: str,
    codec: str,
    account: str,
    config_lines: tuple[str, ...],
    host: str,
    sip: int,
    control: int,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_wav(directory / "quiet.wav", np.zeros(QUIET_S * RATE, np.int16))
    rtp = 20_000 + sip % 1000 * 20
    ports = {"host": host, "sip": sip, "control": control, "rtp": rtp, "rtp_last": rtp + 19}
    config = CONFIG.format(modules=MODULES, directory=directory, rate=RATE, more="\n".join(config_lines), **ports)
    (directory / "config").write_text(config)
    rate, channels = CODEC_FORMATS[codec]
    codecs = f"{codec}/{rate}/{channels}"
    (directory / "accounts").write_text(f"<sip:{name}@{host}>;regint=0;audio_codecs={codecs}{account}\n")
    (directory / "contacts").touch()


def speech_span(pcm: Pcm) -> tuple[int, int]:
    """First and last sample of speech, found by its energy, with a little around it; (0, 0) when there is none."""
    frame = RATE // 50
    frames = pcm[: len(pcm) // frame * frame].reshape(-1, frame).astype(np.float64)
    loud = np.flatnonzero(np.sqrt((frames**2).mean(axis=1)) > SPEECH_RMS)
    if len(loud) < 3:
        return 0, 0
    return max(0, (int(loud[0]) - 5) * frame), min(len(pcm), (int(loud[-1]) + 6) * frame)


def _decoded(wav: bytes) -> Pcm:
    """A WAV file that is still being written, as mono at `RATE`."""
    if len(wav) < WAV_HEADER:
        return np.zeros(0, np.int16)
    channels, rate = struct.unpack_from("<HI", wav, 22)
    samples = np.frombuffer(wav[WAV_HEADER:][: (len(wav) - WAV_HEADER) // (2 * channels) * 2 * channels], np.int16)
    mono = samples.reshape(-1, channels).mean(axis=1).astype(np.int16) if channels > 1 else samples
    return mono if rate == RATE else np.asarray(soxr.resample(mono, rate, RATE), np.int16)


def write_wav(path: Path, pcm: Pcm, rate: int = RATE) -> None:
    """16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())


async def _connect(port: int, process: asyncio.subprocess.Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(15):
        while True:
            if process.returncode is not None:
                raise RuntimeError("baresip ended at its start; see log.txt in its directory")
            with contextlib.suppress(ConnectionError):
                return await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)


def _free_ports() -> tuple[int, int]:
    """For SIP over UDP and TCP (and its successor: baresip takes it for TLS), and for control."""
    while True:
        with contextlib.ExitStack() as stack:
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            udp.bind(("127.0.0.1", 0))
            sip = int(udp.getsockname()[1])
            try:
                for port in (sip, sip + 1):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            control = stack.enter_context(socket.socket())
            control.bind(("127.0.0.1", 0))
            return sip, int(control.getsockname()[1])
