"""`python -m benchmarks.agent.echo_models`: the three model services without models; together they say what they heard.

The services' own wire code runs over them, so the agent meets the same messages in the same sizes as with models: every
token of speech stands for the 80 ms of the caller's audio that it was made of, the language model answers with the
tokens of the caller's turn, one at a time, and the decoder looks their audio up.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import typer

from services.common.errors import InvalidInputError
from services.common.grpc_server import Server, Slots
from services.decoder.blocks import BlockSchedule
from services.decoder.servicer import make_server as decoder_server
from services.decoder.utterance import Pcm
from services.lm.engine import Added, Emit, Finished, GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE as LM_SERVICE
from services.lm.servicer import VoiceLMServicer
from services.tokenizer.engine import TokenizerInfo
from services.tokenizer.servicer import make_server as tokenizer_server
from services.tokenizer.streaming import Tokens
from trunkline.v1 import lm_pb2_grpc

NANO = Path(__file__).resolve().parents[2] / "weights" / "nano"
HEARD_RATE, SAID_RATE = 16_000, 22_050
TOKEN_S = 0.08
TOKEN_SAMPLES = round(HEARD_RATE * TOKEN_S)
BLOCK_TOKENS = 25
MAX_SECONDS = 30
CONTEXT = 8192
STEP_S = 0.01  # between two tokens of an answer
CAPACITY = 256
TONE_HZ = 450.0  # whole periods in a token: what a text sounds like
CHARACTERS = 1.5  # of a text to a token of its speech
HOST = "127.0.0.1"

Samples = npt.NDArray[np.int16]


class Memory:
    """What the tokens stand for; the oldest is forgotten when the codebook is used up.

    Args:
        codebook: how many tokens there are.
    """

    def __init__(self, codebook: int) -> None:
        self.codebook = codebook
        at = np.arange(round(SAID_RATE * TOKEN_S)) / SAID_RATE
        self._audio = {self.tone: (3000 * np.sin(2 * np.pi * TONE_HZ * at)).astype(np.int16).tobytes()}
        self._next = 0

    @property
    def tone(self) -> int:
        """The token that stands for a tone."""
        return self.codebook - 1

    def token(self, heard: Samples) -> int:
        """A token that stands for 80 ms of 16 kHz audio."""
        token, self._next = self._next, (self._next + 1) % self.tone
        said = soxr.resample(heard, HEARD_RATE, SAID_RATE, quality="LQ").astype(np.int16)
        self._audio[token] = said.tobytes()
        return token

    def audio(self, token: int) -> bytes:
        """What it stands for, at 22.05 kHz; silence where it stands for nothing."""
        return self._audio.get(token) or bytes(2 * round(SAID_RATE * TOKEN_S))


class HeardUtterance:
    """See `services.tokenizer.servicer.UtteranceStream`: whole blocks are final, the rest at the end."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._pending = bytearray()
        self._ids: list[int] = []
        self._given = 0
        self.samples = 0

    async def push(self, pcm: bytes) -> AsyncGenerator[Tokens, None]:
        """More audio."""
        self.samples += len(pcm) // 2
        self._pending += pcm
        while len(self._pending) >= 2 * TOKEN_SAMPLES:
            self._take(TOKEN_SAMPLES)
        while len(self._ids) - self._given >= BLOCK_TOKENS:
            yield self._give(BLOCK_TOKENS)

    async def finish(self) -> AsyncGenerator[Tokens, None]:
        """The rest."""
        if self._pending:
            self._take(len(self._pending) // 2)
        if len(self._ids) > self._given:
            yield self._give(len(self._ids) - self._given)

    def close(self) -> None:
        """Nothing is held."""

    def _take(self, samples: int) -> None:
        heard = np.frombuffer(bytes(self._pending[: 2 * samples]), np.int16)
        del self._pending[: 2 * samples]
        self._ids.append(self._memory.token(heard))

    def _give(self, count: int) -> Tokens:
        start, self._given = self._given, self._given + count
        return Tokens(start, self._ids[start : self._given], True)


class EchoTokenizer:
    """See `services.tokenizer.servicer.Backend`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.info = TokenizerInfo(
            sample_rate=HEARD_RATE,
            codebook_size=memory.codebook,
            token_samples=TOKEN_SAMPLES,
            block_tokens=BLOCK_TOKENS,
            max_seconds=MAX_SECONDS,
            revision="echo",
        )

    def open(self, interim_results: bool) -> HeardUtterance:
        """A new utterance."""
        return HeardUtterance(self._memory)


class EchoSession:
    """See `services.lm.engine.Session`: an answer is the speech of the caller's turn, or a tone for a text."""

    def __init__(self, template: ChatTemplate, tokens: Sequence[int], emit: Emit) -> None:
        self._vocabulary = template.vocabulary
        self._emit = emit
        self._answering: asyncio.Task[None] | None = None
        self.tokens = list(tokens)

    async def append(self, tokens: Sequence[int]) -> int:
        """More of the prompt."""
        self.tokens += tokens
        return len(self.tokens)

    async def generate(self, settings: GenerationSettings) -> None:
        """Says what was heard."""
        self._answering = asyncio.create_task(self._answer(settings))

    async def truncate(self, length: int) -> int:
        """Keeps the first ids."""
        await self.cancel()
        del self.tokens[length:]
        return len(self.tokens)

    async def cancel(self) -> None:
        """Ends an answer."""
        answering, self._answering = self._answering, None
        if answering is not None and not answering.done():
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            self._emit(Finished(Reason.CANCELLED, len(self.tokens)))

    def close(self) -> None:
        """Ends the session."""
        if self._answering is not None:
            self._answering.cancel()

    async def _answer(self, settings: GenerationSettings) -> None:
        tone = self._vocabulary.speech_offset + self._vocabulary.codebook_size - 1
        heard = [tone] * round(len(settings.say) / CHARACTERS) if settings.say else self._heard()
        self._add(self._vocabulary.assistant, Kind.CONTROL)
        for token in heard[: settings.max_new_tokens]:
            await asyncio.sleep(STEP_S)
            self._add(token, Kind.SPEECH)
        self._emit(Finished(Reason.END_OF_TURN, len(self.tokens)))

    def _add(self, token: int, kind: Kind) -> None:
        self.tokens.append(token)
        self._emit(Added((token,), kind, len(self.tokens)))

    def _heard(self) -> list[int]:
        """Speech of the last turn."""
        first = self._vocabulary.speech_offset
        turn = len(self.tokens) - 1 - self.tokens[::-1].index(self._vocabulary.user)
        return [token for token in self.tokens[turn:] if first <= token < first + self._vocabulary.codebook_size]


class EchoEngine:
    """See `services.lm.engine.Engine`."""

    context_length = CONTEXT

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    async def open(self, tokens: Sequence[int], emit: Emit) -> EchoSession:
        """A session."""
        return EchoSession(self._template, tokens, emit)

    def stop(self) -> None:
        """Nothing runs."""


class SaidUtterance:
    """See `services.decoder.servicer.UtteranceStream`: blocks of the real decoder's sizes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._codes: list[int] = []
        self._schedule = BlockSchedule()

    async def push(self, codes: Sequence[int]) -> AsyncIterator[Pcm]:
        """More tokens."""
        self._codes += codes
        self._schedule.push(len(codes))
        for pcm in self._due():
            yield pcm

    async def finish(self) -> AsyncIterator[Pcm]:
        """The rest."""
        self._schedule.finish()
        for pcm in self._due():
            yield pcm

    def close(self) -> None:
        """Nothing is held."""

    def _due(self) -> list[Pcm]:
        found = []
        while (block := self._schedule.next()) is not None:
            audio = b"".join(self._memory.audio(code) for code in self._codes[block.start : block.stop])
            found.append(Pcm(audio, block.stop))
        return found


class NoVoices:
    """There are none."""

    speaker_model = False

    def __init__(self) -> None:
        self.ids: list[str] = []


class EchoDecoder:
    """See `services.decoder.servicer.Backend`."""

    sample_rate = SAID_RATE
    token_rate = 1 / TOKEN_S
    revision = "echo"

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.codebook_size = memory.codebook
        self.voices = NoVoices()

    def open(self, seed: int, voice_id: str) -> SaidUtterance:
        """A new utterance."""
        return SaidUtterance(self._memory)

    async def register_voice(self, pcm: bytes, codes: Sequence[int]) -> str:
        """Raises InvalidInputError: there is no voice but the caller's own."""
        raise InvalidInputError("an echo has no voices")

    async def forget_voice(self, voice_id: str) -> None:
        """There are none."""


def lm_server(template: ChatTemplate, address: str) -> Server:
    """The LM's service."""
    slots = Slots(CAPACITY, "sessions")
    servicer = VoiceLMServicer(EchoEngine(template), template, slots, "echo")
    return Server(
        LM_SERVICE, lambda server: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, server), address, slots
    )


async def serve() -> None:
    """All three on free ports until SIGTERM; prints the ports: tokenizer, LM, decoder."""
    template = ChatTemplate.load(NANO / "lm")
    memory = Memory(template.vocabulary.codebook_size)
    address = f"{HOST}:0"
    servers = [
        tokenizer_server(EchoTokenizer(memory), address, CAPACITY),
        lm_server(template, address),
        decoder_server(EchoDecoder(memory), address, CAPACITY),
    ]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ports = [await server.start() for server in servers]
    print("serving on ports", *ports, flush=True)
    await stop.wait()
    for server in servers:
        await server.drain(0.5)


def main() -> None:
    """Runs them."""
    asyncio.run(serve())


if __name__ == "__main__":
    typer.run(main)
