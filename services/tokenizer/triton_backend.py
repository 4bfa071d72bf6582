"""The engine's interface over a tokenizer that runs at Triton."""

from collections.abc import AsyncGenerator

from services.common.triton import TritonModel, TritonSession
from services.common.triton_wire import REVISION, Tensors, raw
from services.tokenizer.engine import TokenizerInfo
from services.tokenizer.streaming import Tokens

MODEL = "speech_tokenizer"


class TritonTokenizerBackend:
    """Opens utterances at Triton.

    Args:
        model: where the sessions are.
        info: what it said of itself.
    """

    def __init__(self, model: TritonModel, info: TokenizerInfo) -> None:
        self._model = model
        self.info = info

    @classmethod
    async def connect(cls, model: TritonModel) -> "TritonTokenizerBackend":
        """Asks Triton for the limits. Errors: see `TritonModel.ask`."""
        return cls(model, TokenizerInfo(**await model.info()))

    async def check(self) -> None:
        """Raises UnavailableError where Triton does not answer, or has other weights than at the start."""
        self._model.check_revision(await self._model.info(), self.info.revision)

    def open(self, interim_results: bool) -> "TritonLiveUtterance":
        """A new utterance; close it."""
        return TritonLiveUtterance(self._model.session(), interim_results, self.info.revision)


class TritonLiveUtterance:
    """One utterance, used by one task."""

    def __init__(self, session: TritonSession, interim_results: bool, revision: str) -> None:
        self._session = session
        self._interim_results = interim_results
        self._revision = revision
        self._opened = False
        self.samples = 0

    async def push(self, pcm: bytes) -> AsyncGenerator[Tokens, None]:
        """See `LiveUtterance.push`; also raises UnavailableError."""
        self.samples += len(pcm) // 2
        async for tokens in self._command("push", {"PCM": raw(pcm)}):
            yield tokens

    async def finish(self) -> AsyncGenerator[Tokens, None]:
        """See `LiveUtterance.finish`; also raises UnavailableError."""
        async for tokens in self._command("finish", {}):
            yield tokens

    def close(self) -> None:
        """Ends the utterance at Triton."""
        self._session.close()

    async def _command(self, command: str, inputs: Tensors) -> AsyncGenerator[Tokens, None]:
        if not self._opened:
            self._opened = True
            await self._session.open({"interim_results": self._interim_results, REVISION: self._revision})
        async for outputs in self._session.request(command, inputs):
            yield Tokens(int(outputs["START"][0]), outputs["TOKENS"].tolist(), final=bool(outputs["FINAL"][0]))
