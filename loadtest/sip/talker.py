"""A caller over SIP and RTP that speaks recorded questions and notes when it heard what of the answers."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from loadtest.sip.wire import PACKET, RATE, SILENCE, Caller, Message, acknowledgement, mu_law

ROOT = Path(__file__).resolve().parents[2]
QUESTION = ROOT / "samples" / "opening-hours.wav"
LOUD = 300  # of 32768
FINAL = (200, 408, 480, 486, 487, 500, 503)
FINAL_S = 60.0
NOBODY_S = 5.0  # without any response: an edge goes on to the next by then
PAUSE_S = 1.0  # of silence after which the bot has finished


def to_mu_law(pcm: npt.NDArray[np.int16]) -> bytes:
    """G.711 mu-law (ITU-T G.711, table 2a)."""
    magnitude = np.minimum(np.abs(pcm.astype(np.int32)), 32_635) + 0x84
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    sign = np.where(pcm < 0, 0x80, 0)
    return bytes((~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8))


def question() -> list[bytes]:
    """A spoken question in packets, from its first to its last sound."""
    wave, rate = soundfile.read(QUESTION, dtype="float32", always_2d=True)
    return packets_of(wave.mean(axis=1), rate)


def packets_of(wave: npt.NDArray[np.float32], rate: int) -> list[bytes]:
    """A wave in packets, from its first to its last sound."""
    pcm = (soxr.resample(wave, rate, RATE) * 32767).astype(np.int16)
    packets = [pcm[start : start + PACKET] for start in range(0, len(pcm) - PACKET + 1, PACKET)]
    loud = [number for number, packet in enumerate(packets) if np.abs(packet.astype(np.int32)).max() > LOUD]
    return [to_mu_law(packet) for packet in packets[loud[0] : loud[-1] + 1]]


@dataclass
class Talker:
    """One caller.

    Attributes:
        loud_at: monotonic times of packets with sound in them.
        said_until: monotonic time of the last packet of a question.
        ended: the far end hung up.
        heard: all packets in the order in which they came, as 16-bit PCM.
    """

    wire: Caller
    loud_at: list[float] = field(default_factory=list)
    answered_at: float = 0.0
    said_until: float = 0.0
    ended: bool = False
    heard: list[npt.NDArray[np.int16]] = field(default_factory=list)
    _to_say: list[bytes] = field(default_factory=list)
    _talking: "asyncio.Task[None] | None" = None
    _sound: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self) -> Message | None:
        """INVITE; the final response, or None where nobody listens. From an answer on, RTP flows both ways."""
        self.wire.invite()
        try:
            await self.wire.response("INVITE", 100, 180, *FINAL, timeout_s=NOBODY_S)
        except TimeoutError:
            self.wire.request("CANCEL")
            return None
        message = self.wire.received[-1]
        if message.status not in FINAL:
            message = await self.wire.response("INVITE", *FINAL, timeout_s=FINAL_S)
        if message.status != 200:
            self.wire.send_raw(acknowledgement(message))
            return message
        self.answered_at = time.monotonic()
        self.wire.request("ACK")
        self._talking = asyncio.create_task(self._talk())
        return message

    def say(self, packets: list[bytes]) -> None:
        """Speaks."""
        self._to_say = list(packets)

    @property
    def is_speaking(self) -> bool:
        """There is more to say of what `say` was given."""
        return bool(self._to_say)

    async def hang_up(self) -> None:
        """BYE, unless the far end did. Raises TimeoutError where it does not answer."""
        if self._talking is None:
            return
        self._talking.cancel()
        await asyncio.gather(self._talking, return_exceptions=True)
        if not self.ended:
            self.wire.request("BYE")
            await self.wire.response("BYE", 200, 481, timeout_s=FINAL_S)

    async def hears(self, since: float, seconds: float) -> float:
        """When the first sound after a time was heard, monotonic seconds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not (later := [at for at in self.loud_at[-3000:] if at > since]):
                self._sound.clear()
                await self._sound.wait()
        return later[0]

    async def has_spoken(self, since: float, for_s: float) -> float:
        """When the last packet of what `say` was given went out, once nothing followed for a while.

        Args:
            since: monotonic time before `say`.
            for_s: so long nothing followed.
        """
        while True:
            if not self._to_say and self.said_until > since and time.monotonic() - self.said_until >= for_s:
                return self.said_until
            await asyncio.sleep(max(0.02 * len(self._to_say), 0.01))

    async def bot_is_quiet(self, seconds: float) -> None:
        """Until the bot, having spoken, has paused."""
        async with asyncio.timeout(seconds):
            while True:
                quiet_s = time.monotonic() - self.loud_at[-1] if self.loud_at else 0.0
                if quiet_s >= PAUSE_S:
                    return
                await asyncio.sleep(max(PAUSE_S - quiet_s, 0.02))

    async def _talk(self) -> None:
        sock, _ = self.wire.rtp
        due = time.monotonic()
        while True:
            now = time.monotonic()
            while due <= now:  # what a stall has missed is sent at once, as a phone's clock goes on
                due += 0.02
                if self._to_say:
                    self.wire.send_rtp(self._to_say.pop(0))
                    self.said_until = now
                else:
                    self.wire.send_rtp(SILENCE)
            while True:
                try:
                    payload = sock.recv(2048)[12:]
                except BlockingIOError:
                    break
                self.heard.append(mu_law(payload))
                if np.abs(self.heard[-1].astype(np.int32)).max(initial=0) > LOUD:
                    self.loud_at.append(now)
                    self._sound.set()
            self._signalling()
            await asyncio.sleep(0.005)

    def _signalling(self) -> None:
        before = len(self.wire.received)
        for message in self.wire.messages_so_far()[before:]:
            if message.status == 0 and message.method == "BYE":
                self.wire.reply(message, "200 OK")
                self.ended = True
