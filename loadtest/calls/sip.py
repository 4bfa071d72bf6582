"""A call over SIP and RTP, by the load test's own user agent (`loadtest.sip`)."""

import asyncio
import contextlib
import socket
import struct
import time
from contextlib import AsyncExitStack

from loadtest.calls.ear import Ear
from loadtest.calls.line import PACKET_S, FaultError, Losses, Mouth, NetworkError, RefusedError, Signalling
from loadtest.calls.voices import Voices
from loadtest.scenario.plan import PlannedCall
from loadtest.sip.rtp import Sender, is_loud, read
from loadtest.sip.wire import SILENCE, Caller, Message, acknowledgement, caller

SO_TIMESTAMPNS = 35
T1_S, T2_S = 0.5, 4.0  # RFC 3261 section 17.1.1.1
BYE_S = 64 * T1_S  # timers B and F
BUSY = (480, 486, 503, 600, 603)  # "not now": the system may say so


class SipLine:
    """One call; see `Line`.

    Args:
        answer_s: for which the caller lets it ring.
        losses: of packets, on purpose.
    """

    def __init__(
        self, host: str, port: int, plan: PlannedCall, voices: Voices, answer_s: float, losses: Losses
    ) -> None:
        self._host, self._port, self._plan, self._voices = host, port, plan, voices
        self._answer_s, self._losses = answer_s, losses
        self.ear = Ear("pcmu")
        self.mouth = Mouth()
        self.signalling = Signalling()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._exits = AsyncExitStack()
        self._wire: Caller | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._finals: asyncio.Queue[Message] = asyncio.Queue()
        self._began = 0.0
        self._rings = asyncio.Event()  # some provisional response has come
        self._is_up = False
        self._acknowledged = b""
        self._answered = ""  # the 200 that it acknowledges
        self._due = 0.0
        self._source_known = False
        self._sender = Sender(plan.number & 0xFFFFFFFF)

    async def call(self) -> float:
        """See `Line`."""
        try:
            self._wire = await self._exits.enter_async_context(caller(self._port, self._host))
        except OSError as error:
            raise NetworkError(f"no socket: {error.strerror}") from error
        self._wire.keys = True
        self._wire.called = self._plan.dialled or "anyone"
        self._reading = asyncio.create_task(self._read())
        self._began = time.monotonic()
        invite = self._wire.invite()
        try:
            final = await self._final("INVITE", invite, self._answer_s)
        except TimeoutError:
            if not self._rings.is_set():
                raise FaultError("no response to INVITE") from None
            raise FaultError("not answered in time") from None
        return self._take(final)

    def _take(self, final: Message) -> float:
        """A final response to the first INVITE."""
        assert self._wire is not None
        now = time.monotonic()
        if final.status >= 300:
            self._wire.send_raw(acknowledgement(final))
            self._began = 0.0
            if final.status in BUSY:
                raise RefusedError(str(final.status))
            raise FaultError(f"INVITE refused with {final.status}")
        self.signalling.answer_s = now - self._began
        self._acknowledged = self._wire.request("ACK")
        self._is_up = True
        sock, _ = self._wire.rtp
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._hear)
        self._due = now
        self._ticking = loop.call_at(now, self._tick)
        return now

    def say(self, question: str) -> None:
        """See `Line`."""
        self.mouth.say(self._voices.words[question].pcmu)

    async def hold(self) -> None:
        """See `Line`: re-INVITE with sendonly (RFC 3264 section 8.4)."""
        await self._offer("sendonly")

    async def resume(self) -> None:
        """See `Line`."""
        await self._offer("sendrecv")

    async def _offer(self, direction: str) -> None:
        assert self._wire is not None
        try:
            final = await self._final("INVITE", self._wire.invite(direction), BYE_S)
        except TimeoutError:
            raise FaultError("no response to re-INVITE") from None
        if final.status >= 300:
            self._wire.send_raw(acknowledgement(final))
            raise FaultError(f"re-INVITE refused with {final.status}")
        self._acknowledged = self._wire.request("ACK")

    async def press(self, keys: str) -> None:
        """See `Line`."""
        await asyncio.sleep(PACKET_S * self._sender.press(keys))

    async def hang_up(self) -> None:
        """See `Line`: BYE, or CANCEL while it rings (RFC 3261 section 9.1: not before a provisional response)."""
        if self._wire is None or not self._began or self.ended.done():
            return
        if not self._is_up and not await self._cancelled():
            return
        self._silence()
        began = time.monotonic()
        try:
            await self._final("BYE", self._wire.request("BYE"), BYE_S)
        except TimeoutError:
            raise FaultError("no response to BYE") from None
        self.signalling.bye_s = time.monotonic() - began

    async def _cancelled(self) -> bool:
        """Cancels; whether the call was answered all the same."""
        assert self._wire is not None
        try:
            async with asyncio.timeout(BYE_S):
                await self._rings.wait()
                if self._finals.empty():
                    self._wire.request("CANCEL")
                while (final := await self._finals.get()).method != "INVITE":
                    pass
        except TimeoutError:
            raise FaultError("no response to CANCEL") from None
        try:
            self._take(final)
        except (RefusedError, FaultError):
            if final.status not in (487, *BUSY):
                raise
            return False
        return True

    async def close(self) -> None:
        """See `Line`."""
        self._silence()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._exits.aclose()

    def _silence(self) -> None:
        """No more audio, either way."""
        if self._ticking is not None:
            assert self._wire is not None
            self._ticking.cancel()
            self._ticking = None
            asyncio.get_running_loop().remove_reader(self._wire.rtp[0])

    async def _final(self, method: str, request: bytes, seconds: float) -> Message:
        """The final response; the request is sent again while nothing comes (RFC 3261 sections 17.1.1.2, 17.1.2.2).

        Raises:
            TimeoutError: there is none in time.
        """
        assert self._wire is not None
        again_s = T1_S
        async with asyncio.timeout(seconds):
            while True:
                try:
                    async with asyncio.timeout(again_s):
                        message = await self._finals.get()
                except TimeoutError:
                    if method != "INVITE" or not self._rings.is_set():
                        self._wire.send_raw(request)
                        self.signalling.resent += 1
                    again_s = 2 * again_s if method == "INVITE" else min(2 * again_s, T2_S)
                    continue
                if message.method == method:
                    return message

    async def _read(self) -> None:
        assert self._wire is not None
        while True:
            message = await self._wire.message()
            self._wire.received.clear()
            if message.status:
                self._response(message)
            else:
                self._request(message)

    def _response(self, message: Message) -> None:
        assert self._wire is not None
        if message.method == "INVITE":
            self._rings.set()
            if message.status >= 180:
                self._wire.follow(message)
                if self.signalling.first_s is None:
                    self.signalling.first_s = time.monotonic() - self._began
            if message.status == 200 and message.text == self._answered:
                self._wire.send_raw(self._acknowledged)  # ours was lost
                return
            if message.status == 200:
                self._answered = message.text
        if message.status >= 200:
            self._finals.put_nowait(message)

    def _request(self, message: Message) -> None:
        assert self._wire is not None
        method = message.method
        if method == "ACK":
            return
        if method == "INVITE":
            self._wire.accept(message, "sendrecv")
            return
        self._wire.reply(message, "200 OK")
        if method == "BYE" and not self.ended.done():
            self._silence()
            self.ended.set_result("BYE")

    def _tick(self) -> None:
        assert self._wire is not None
        sock, far_end = self._wire.rtp
        loop = asyncio.get_running_loop()
        while self._due <= loop.time():  # what a stall has missed is sent at once, as a phone's clock goes on
            data = self._sender.packet(self.mouth.next(self._due) or SILENCE)
            self._due += PACKET_S
            if not self._losses.bot_misses():
                with contextlib.suppress(OSError):  # a full buffer, or nobody there any more: lost, as on any network
                    sock.sendto(data, far_end)
        self._ticking = loop.call_at(self._due, self._tick)

    def _hear(self) -> None:
        assert self._wire is not None
        sock, far_end = self._wire.rtp
        while True:
            try:
                data, ancillary, _, source = sock.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # what an earlier packet met with (ICMP)
            # A call that had this port before may still be sent audio. Behind a NAT, ours is not from where it says.
            if source == far_end:
                self._source_known = True
            elif self._source_known:
                continue
            packet = read(data)
            if packet is None or packet[0] or self._losses.caller_misses():
                continue
            at = time.monotonic()
            if ancillary:  # by the kernel, however late this loop is
                seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
                at -= max(0.0, time.time() - seconds - nanoseconds / 1e9)
            _, sequence, timestamp, payload = packet
            self.ear.hear(at, sequence, timestamp, payload, is_loud(payload))
