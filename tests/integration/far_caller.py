"""A caller inside a network namespace, told by its command line: asks questions, or only plays a waveform.

... -m tests.integration.far_caller web-ask PAGE OUT WAV...      captions as JSON on stdout, OUT/N.wav as heard
... -m tests.integration.far_caller phone-ask URI OUT WAV...     OUT/N.wav as heard
... -m tests.integration.far_caller web-play WAV                 offer as JSON on stdout, answer on stdin
... -m tests.integration.far_caller phone-play URI OUT WAV
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from aiortc import RTCPeerConnection, RTCSessionDescription

from tests.integration.network import Network
from tests.integration.phone import RATE as PHONE_RATE
from tests.integration.phone import Pcm, phone, write_wav
from tests.integration.stack import ROOT
from tests.integration.webrtc_caller import RATE, Microphone, Waveform, calling

AFTER_S = 1.0  # of listening after the bot says that it has finished
PAUSE_S = 4.0  # a busy machine may stall in an answer


def start(network: Network, *words: str | Path) -> "subprocess.Popen[str]":
    """Runs one of the above in the namespace."""
    command = [*network.prefix, sys.executable, "-m", "tests.integration.far_caller", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def web_ask(page: str, out: Path, questions: Sequence[Path]) -> list[str]:
    """Asks over WebRTC; returns the captions."""
    async with calling(page, conceals=True) as caller:
        await caller.bot_is_quiet()
        for number, question in enumerate(questions):
            since, answers = caller.heard_samples, len(caller.captions())
            ended = len(caller.of_type("bot-stopped-speaking"))
            caller.microphone.say(_wave(question))
            await caller.until(lambda: len(caller.captions()) > answers, "a caption")  # noqa: B023
            await caller.until(lambda: len(caller.of_type("bot-stopped-speaking")) > ended, "its end")  # noqa: B023
            until = caller.heard_samples + int(AFTER_S * RATE)
            await caller.until(lambda: caller.heard_samples >= until, "what is on its way")  # noqa: B023
            soundfile.write(out / f"{number}.wav", caller.heard(since), RATE)
        return caller.captions()


async def phone_ask(uri: str, out: Path, questions: Sequence[Path]) -> None:
    """Asks over SIP and G.711."""
    async with phone(out / "phone", host=_own_address()) as handset:
        await handset.call(uri)
        await handset.listen(pause_s=1.5)
        for number, question in enumerate(questions):
            write_wav(out / f"{number}.wav", await handset.ask(_pcm(question), PAUSE_S))


async def web_play(wave: Path) -> None:
    """Plays into a peer connection whose answer comes on stdin, until stdin closes."""
    peer, microphone = RTCPeerConnection(), Microphone()
    peer.addTrack(microphone)
    await peer.setLocalDescription(await peer.createOffer())
    print(json.dumps(peer.localDescription.sdp), flush=True)
    answer = json.loads(await asyncio.to_thread(sys.stdin.readline))
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    while peer.connectionState != "connected":
        await asyncio.sleep(0.02)
    microphone.say(_wave(wave))
    await asyncio.to_thread(sys.stdin.read)
    await peer.close()


async def phone_play(uri: str, out: Path, wave: Path) -> None:
    """Plays into a phone call until stdin closes."""
    async with phone(out / "phone", host=_own_address()) as handset:
        await handset.call(uri)
        await handset.play(_pcm(wave))
        await asyncio.to_thread(sys.stdin.read)


def _wave(path: Path) -> Waveform:
    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return np.asarray(wave, np.float32)


def _pcm(path: Path) -> Pcm:
    wave, rate = soundfile.read(path, dtype="int16")
    assert rate == PHONE_RATE
    return np.asarray(wave, np.int16)


def _own_address() -> str:
    listed = subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    addresses = [entry["local"] for link in json.loads(listed) for entry in link["addr_info"]]
    return str(next(address for address in addresses if not address.startswith("127.")))


if __name__ == "__main__":
    match sys.argv[1:]:
        case "web-ask", page, out, *questions:
            print(json.dumps(asyncio.run(web_ask(page, Path(out), [*map(Path, questions)]))))
        case "phone-ask", uri, out, *questions:
            asyncio.run(phone_ask(uri, Path(out), [*map(Path, questions)]))
        case "web-play", wave:
            asyncio.run(web_play(Path(wave)))
        case "phone-play", uri, out, wave:
            asyncio.run(phone_play(uri, Path(out), Path(wave)))
        case _:
            sys.exit(__doc__)
