"""The worker's side: one SIP stack and its calls, at the agent's orders."""

import asyncio
import contextlib
import itertools
import logging
import pickle
from collections.abc import AsyncIterator
from typing import Any

from services.agent import logs, media_quality
from services.agent.legs.base import CallRefusedError, Leg, LegError, UnsupportedByLegError
from services.agent.legs.sip import SipEndpoint, SipLeg, SipSettings
from services.agent.legs.sip_media import POLL_S
from services.agent.legs.sip_workers.connection import Connection
from services.agent.legs.sip_workers.messages import (
    Answer,
    Decline,
    Dial,
    Ended,
    Failed,
    Flush,
    HangUp,
    Heard,
    Held,
    Hold,
    Incoming,
    Key,
    Measured,
    Ping,
    Play,
    Ready,
    Received,
    Reply,
    Request,
    SendDtmf,
    Start,
    ToWorker,
    Transfer,
    Verdict,
    Withdraw,
)

log = logging.getLogger(__name__)

BACKLOG_BYTES = 64_000  # two seconds of one call; beyond it the stack's own buffer stays live by itself


class Worker:
    """Runs until the agent closes the connection or dies, or the SIP stack does."""

    def __init__(self, connection: Connection[ToWorker]) -> None:
        self._agent = connection
        self._endpoint: SipEndpoint | None = None
        self._legs: dict[int, SipLeg] = {}
        self._verdicts: dict[int, asyncio.Future[Verdict]] = {}
        self._talking: dict[int, SipLeg] = {}  # those with media
        self._numbers = itertools.count(1)
        self._requests: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serves; returns the exit status."""
        try:
            return await self._serve()
        finally:
            if self._endpoint is not None:
                await self._endpoint.close()
            left = [*self._requests, *filter(None, [self._pump])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._agent.close()

    async def _serve(self) -> int:
        messages = aiter(self._agent.messages())
        first = await anext(messages, None)
        if not isinstance(first, Start):
            return 0 if first is None else 1
        logs.set_up(first.log_level, first.personal_data, first.log_format)
        # From the agent, which started this process, over a socket that nobody else has.
        settings: SipSettings = pickle.loads(first.settings)  # noqa: S301
        endpoint = SipEndpoint(settings, self._offer)
        try:
            await endpoint.start()
        except (OSError, ValueError) as error:
            self._agent.send(Failed(getattr(error, "strerror", "") or str(error)))
            return 1
        self._endpoint = endpoint
        self._agent.send(Ready(endpoint.port))
        assert endpoint.failed is not None
        obeying = asyncio.create_task(self._obey(messages))
        endings: set[asyncio.Future[Any]] = {obeying, endpoint.failed}
        await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        if obeying.done():
            obeying.result()
            return 0
        obeying.cancel()
        log.error("the SIP stack of a worker died")
        return 1

    async def _obey(self, messages: AsyncIterator[ToWorker]) -> None:
        async for message in messages:
            match message:
                case Play(call=call, pcm=pcm, rate=rate):
                    if call in self._talking:
                        self._talking[call].media.write(pcm, rate)
                case Flush(call=call):
                    if call in self._talking:
                        self._talking[call].media.flush()
                case Request():
                    request = asyncio.create_task(self._do(message))
                    self._requests.add(request)
                    request.add_done_callback(self._requests.discard)
                case Verdict(call=call):
                    verdict = self._verdicts.get(call)
                    if verdict is not None and not verdict.done():
                        verdict.set_result(message)

    async def _do(self, request: Request) -> None:
        try:
            reply = await self._outcome(request)
        except LegError as error:
            reply = Reply(request.number, str(error), isinstance(error, UnsupportedByLegError))
        except Exception:
            log.exception("a SIP worker failed to do something")
            reply = Reply(request.number, "internal failure of the SIP worker")
        self._agent.send(reply)

    async def _outcome(self, request: Request) -> Reply:
        match request.what:
            case Answer(call=call):
                return Reply(request.number, output_rate=await self._answer(call))
            case HangUp(call=call, reason=reason):
                await self._leg(call).hang_up(reason)
            case Decline(call=call, reason=reason, retry_after_s=retry_after_s):
                await self._leg(call).decline(CallRefusedError(reason, retry_after_s))
            case Transfer(call=call, target=target):
                await self._leg(call).transfer(target)
            case SendDtmf(call=call, digits=digits):
                await self._leg(call).send_dtmf(digits)
            case Hold(call=call, on=on):
                await (self._leg(call).hold() if on else self._leg(call).resume())
            case Dial(call=call, target=target):
                assert self._endpoint is not None
                leg = await self._endpoint.dial(target)
                self._keep(call, leg)
                return Reply(request.number, from_=leg.from_, to=leg.to)
            case Withdraw():
                assert self._endpoint is not None
                await self._endpoint.withdraw()
            case Ping():
                return Reply(request.number, tasks=len(asyncio.all_tasks()))
        return Reply(request.number)

    async def _answer(self, call: int) -> int:
        leg = self._leg(call)
        try:
            await leg.answer()
        except LegError:
            if leg.ended.done():
                self._over(call, leg)  # before the reply: who is told that it failed finds the leg ended
            raise
        self._talking[call] = leg
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._listen())
        return leg.output_rate

    async def _offer(self, leg: Leg) -> str:
        """See `CallAcceptor`: the agent decides."""
        assert isinstance(leg, SipLeg)
        call = next(self._numbers)
        self._keep(call, leg)
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._verdicts[call] = verdict
        self._agent.send(Incoming(call, leg.from_, leg.to))
        try:
            outcomes: set[asyncio.Future[Any]] = {verdict, leg.ended}
            await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._verdicts[call]
        if verdict.done() and verdict.result().refusal:
            raise CallRefusedError(verdict.result().refusal, verdict.result().retry_after_s)
        return leg.sip_call_id

    def _leg(self, call: int) -> SipLeg:
        try:
            return self._legs[call]
        except KeyError:
            raise LegError("the call is over") from None

    def _keep(self, call: int, leg: SipLeg) -> None:
        self._legs[call] = leg
        leg.on_received = lambda heard: self._agent.send(_received(heard))
        leg.on_measured = lambda measured: self._agent.send(_measured(call, measured))
        leg.ended.add_done_callback(lambda _: self._over(call, leg))

    def _over(self, call: int, leg: SipLeg) -> None:
        if self._legs.pop(call, None) is not None:
            self._talking.pop(call, None)
            self._agent.send(Ended(call, leg.ended.result()))

    async def _listen(self) -> None:
        """Passes on what is heard, while there are calls."""
        held: set[int] = set()
        while self._talking:
            held &= self._talking.keys()
            for call, leg in self._talking.items():
                if leg.media.held != (call in held):
                    held ^= {call}
                    self._agent.send(Held(call, leg.media.held))
                while leg.media.keys:
                    self._agent.send(Key(call, leg.media.keys.popleft()))
                if self._agent.backlog < BACKLOG_BYTES and (pcm := leg.media.read()):
                    self._agent.send(Heard(call, pcm))
            await asyncio.sleep(POLL_S)


def _received(heard: media_quality.Reception) -> Received:
    return Received(heard.packets, heard.lost, heard.jitter_s, heard.delay_s)


def _measured(call: int, measured: media_quality.Measured) -> Measured:
    nothing = media_quality.Reception(0, 0, 0.0)
    received, sent = _received(measured.received or nothing), _received(measured.sent or nothing)
    return Measured(call, received, sent, measured.round_trip_s)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Runs a worker over a connection to the agent; returns the exit status."""
    try:
        return await Worker(Connection(reader, writer, ToWorker)).run()
    finally:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
