"""Interrupts the bot over the wire and tells what became of it: on the line, in the services, in the conversation."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from loadtest.sip.wire import RATE, Pcm
from services.agent.conversation import Entry, Role
from tests.integration.stack import Agent, Stack
from tests.integration.wire_phone import Packet, WirePhone
from trunkline.v1 import calls_pb2, calls_pb2_grpc, decoder_pb2, decoder_pb2_grpc, lm_pb2, lm_pb2_grpc

IDLE_AFTER_S = 0.2
IDLE_FOR_S = 0.5
QUIET_S = 0.25  # after the bot's last sound: no pause within its speech is as long
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Interruption:
    """What became of one.

    Attributes:
        late_s: how long after the decision the last packet with sound in it arrived; negative for before it.
        sound_s: how much of the answer was heard after the decision: of the packets that arrived after it.
        heard: of the answer by the caller, at `RATE`.
        decoder_streams: live at the decoder `IDLE_AFTER_S` after the decision.
        lm_cpu_s: used by the LM in the `IDLE_FOR_S` after that.
        decoder_cpu_s: likewise.
        entry: of the conversation: what stays of the answer.
    """

    late_s: float
    sound_s: float
    heard: Pcm
    decoder_streams: int
    lm_cpu_s: float
    decoder_cpu_s: float
    entry: Entry


class Line:
    """A call from a `WirePhone`, and what the services tell about it meanwhile. Make it with `on_the_line`."""

    def __init__(self, stack: Stack, phone: WirePhone, calls: grpc.aio.Channel, decoder: grpc.aio.Channel) -> None:
        self.phone = phone
        self._stack = stack
        self._watching = asyncio.create_task(self._watch(calls_pb2_grpc.CallsStub(calls)))
        self._decoder: decoder_pb2_grpc.SpeechDecoderAsyncStub = decoder_pb2_grpc.SpeechDecoderStub(decoder)
        self.call_id = ""
        self.barge_ins: list[float] = []  # Unix times
        self.turns: list[dict[str, float]] = []  # waterfalls
        self.over = asyncio.Event()
        self.end_reason = ""

    async def interrupt(self, begin: int, after_s: float, words: Pcm) -> Interruption | None:
        """Says `words` so long after the answer that begins at place `begin` was first heard.

        None when the answer ended by itself meanwhile, and the words were a turn like any other.
        """
        known, turns = len(self.barge_ins), len(self.turns)
        self.phone.say(words, at=begin + round(after_s * RATE))
        async with asyncio.timeout(60):
            while len(self.barge_ins) == known:
                if len(self.turns) > turns:
                    return None
                await asyncio.sleep(0.01)
        decided = self.barge_ins[-1]
        await asyncio.sleep(max(0.0, decided + IDLE_AFTER_S - time.time()))
        lm, decoder = self._cpu_s("lm"), self._cpu_s("decoder")
        info = await self._decoder.Info(decoder_pb2.SpeechDecoderInfoRequest())
        streams = info.active - info.reserved
        await asyncio.sleep(max(0.0, decided + IDLE_AFTER_S + IDLE_FOR_S - time.time()))
        lm, decoder = self._cpu_s("lm") - lm, self._cpu_s("decoder") - decoder
        last = self._last_sound(begin, decided)
        end = last.place + len(last.pcm)
        before = max(packet.place + len(packet.pcm) for packet in self.phone.packets if packet.unix <= decided)
        heard = self.phone.heard(begin, end)
        entry = await self._cut_entry()
        return Interruption(last.unix - decided, max(0, end - before) / RATE, heard, streams, lm, decoder, entry)

    def _last_sound(self, begin: int, decided: float) -> Packet:
        """The last packet with sound before the first pause after the decision."""
        last = None
        for packet in self.phone.packets:
            if packet.place < begin:
                continue
            if last is not None and packet.unix > decided and packet.place - last.place > QUIET_S * RATE:
                break
            if packet.loud:
                last = packet
        assert last is not None
        return last

    async def _cut_entry(self) -> Entry:
        """The newest interrupted answer in Redis."""
        store = self._stack.store()
        try:
            async with asyncio.timeout(10):
                while True:
                    cut = [entry for entry in await store.conversation(self.call_id) if entry.interrupted]
                    if len(cut) == len(self.barge_ins):
                        return cut[-1]
                    await asyncio.sleep(0.05)
        finally:
            await store.redis.close()

    def _cpu_s(self, service: str) -> float:
        fields = Path(f"/proc/{self._stack.processes[service].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    async def _watch(self, calls: "calls_pb2_grpc.CallsAsyncStub") -> None:
        async for happening in calls.WatchCalls(calls_pb2.WatchCallsRequest()):
            self.call_id = happening.call_id
            kind = happening.WhichOneof("event")
            if kind == "barge_in":
                self.barge_ins.append(happening.time.ToNanoseconds() / 1e9)
            elif kind == "turn":
                self.turns.append({stage.name: stage.end_ms for stage in happening.turn.stages})
            elif kind == "call" and happening.call.state == calls_pb2.CALL_STATE_ENDED:
                self.end_reason = happening.call.end_reason
                self.over.set()

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)


@asynccontextmanager
async def on_the_line(stack: Stack, agent: Agent, phone: WirePhone) -> AsyncIterator[Line]:
    """Follows the only call of an agent."""
    async with grpc.aio.insecure_channel(agent.calls) as calls, grpc.aio.insecure_channel(stack.decoder) as decoder:
        line = Line(stack, phone, calls, decoder)
        try:
            yield line
        finally:
            await line.close()


async def synthesised(stack: Stack, entry: Entry) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """What the speech tokens of an answer in the conversation say, and its rate."""
    assert entry.role is Role.ASSISTANT
    async with grpc.aio.insecure_channel(stack.lm) as channel:
        lm: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(channel)
        info = await lm.Info(lm_pb2.VoiceLMInfoRequest())
    codes = [token - info.speech_token_offset for token in entry.ids]
    speech = decoder_pb2.SpeechCodes(codes=[code for code in codes if 0 <= code < info.codebook_size])

    async def requests() -> AsyncIterator[decoder_pb2.SynthesizeRequest]:
        yield decoder_pb2.SynthesizeRequest(config=decoder_pb2.SynthesizeConfig(seed=1))
        yield decoder_pb2.SynthesizeRequest(codes=speech)

    async with grpc.aio.insecure_channel(stack.decoder) as channel:
        decoder: decoder_pb2_grpc.SpeechDecoderAsyncStub = decoder_pb2_grpc.SpeechDecoderStub(channel)
        rate = (await decoder.Info(decoder_pb2.SpeechDecoderInfoRequest())).sample_rate
        pcm = b"".join([response.pcm async for response in decoder.Synthesize(requests())])
    return (np.frombuffer(pcm, np.int16) / 32768).astype(np.float32), rate
