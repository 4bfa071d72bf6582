"""One request inside vLLM that grows piece by piece: what a session has is prefilled while more is on its way."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from vllm import SamplingParams
from vllm.engine.protocol import StreamingInput
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from services.common.errors import DrainingError
from services.lm.vllm_engine.sampler import Choice


class Stream:
    """Lives from the first piece until `abort`; not usable after an error.

    vLLM answers each piece with at least one token. It keeps all but the last of them, so the last one must be sent
    again at the head of the next piece, or be left out when it was not wanted.

    Attributes:
        sent: tokens of the session that vLLM has or is about to compute.
    """

    def __init__(self, llm: AsyncLLM, request_id: str, died: Callable[[], None]) -> None:
        self.sent = 0
        self._llm = llm
        self._died = died
        self._id = request_id
        self._unwanted = 0
        self._aborted = False
        self._pieces: asyncio.Queue[StreamingInput] = asyncio.Queue()
        self._outputs: asyncio.Queue[Sequence[int] | Exception] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(), name=f"vllm-{request_id}")

    def prefill(self, tokens: Sequence[int]) -> None:
        """Sends more of the session, at least one token."""
        self._send(tokens, _params(1))
        self._unwanted += 1

    async def generate(
        self, tokens: Sequence[int], choice: Choice | None, end: Collection[int], count: int
    ) -> AsyncGenerator[int, None]:
        """Sends more of the session, at least one token, and yields `count` tokens that follow, fewer up to an `end`.

        Without a `choice` every id is allowed, and the most probable one is taken.

        Raises:
            DrainingError: vLLM's engine has died.
        """
        self._send(tokens, _params(count, choice, end))
        given = 0
        while given < count:
            output = await self._outputs.get()
            if isinstance(output, Exception):
                raise output
            for token in output:
                if self._unwanted:
                    self._unwanted -= 1
                    continue
                # A token that another one follows has been computed, so that vLLM keeps it.
                self.sent += given > 0
                given += 1
                yield token
                if token in end:
                    return

    def abort(self) -> None:
        """Ends the request; vLLM keeps what it computed as long as it does not need the memory."""
        self._aborted = True
        self._task.cancel()

    def _send(self, tokens: Sequence[int], params: SamplingParams) -> None:
        self.sent += len(tokens)
        self._pieces.put_nowait(StreamingInput(prompt=tokens_input(list(tokens)), sampling_params=params))

    async def _inputs(self) -> AsyncGenerator[StreamingInput, None]:
        while True:
            piece = await self._pieces.get()
            if self._aborted:
                # A piece that came now would start the request again, and so would the end of this generator.
                await asyncio.Event().wait()
            yield piece

    async def _run(self) -> None:
        try:
            async for output in self._llm.generate(self._inputs(), _params(1), self._id):
                for completion in output.outputs:
                    self._outputs.put_nowait(completion.token_ids)
            error: Exception = RuntimeError("vLLM ended a request by itself")
        except EngineDeadError:
            self._died()
            error = DrainingError("the language model has stopped; use another replica")
        except Exception as failure:  # raised again where the tokens are waited for
            error = failure
        self._outputs.put_nowait(error)


def _params(count: int, choice: Choice | None = None, end: Collection[int] = ()) -> SamplingParams:
    # Temperature 0: the choice is made by AnswerSampler, vLLM has to take what it leaves.
    return SamplingParams(
        max_tokens=count,
        temperature=0.0,
        stop_token_ids=sorted(end),
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args=None if choice is None else choice.extra_args(),
    )
