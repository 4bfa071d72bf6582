"""The call that `ask` makes: waits for the greeting, says the question, listens to the answer."""

import asyncio
import ipaddress
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.agent.ask_audio import RATE, Hearing, Pcm
from services.agent.ask_events import CallStory, CallWatch, NoEventsError
from services.agent.legs.base import LegError
from services.agent.legs.sip import SipEndpoint, SipLeg, SipSettings

RING_S = 20.0
GREETING_S = 15.0  # a greeting is over by then, or there is none
PAUSE_S = 0.7  # of silence after which the greeting is over
ANSWER_S = 30.0  # an answer must be over by then
ANSWER_PAUSE_S = 1.5  # of silence after which the answer is over
STALL_S = 4.0  # of silence when the agent has more to say: a busy machine may stall
LEAD_S = 0.1  # speech is sent so far ahead of the line's clock
POLL_S = 0.01
PACKET = RATE // 50  # samples


class AskError(Exception):
    """The question could not be asked; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where the demo listens."""

    sip: str  # host:port
    calls: str  # host:port


@dataclass(frozen=True)
class Asked:
    """What came of a question.

    Attributes:
        answer: PCM at `RATE`, the answer alone.
        greeting: PCM at `RATE`.
        heard_after_ms: from the end of the question's speech to the first of the answer's, as the phone hears it.
    """

    answer: Pcm
    greeting: Pcm
    heard_after_ms: float
    story: CallStory


def read_state(path: Path) -> Target:
    """Where the running demo listens.

    Raises:
        AskError: it does not run.
    """
    try:
        state = json.loads(path.read_text())
        pid = int(state["pids"]["agent"])
        target = Target(f"{state['sip']['host']}:{state['sip']['port']}", state["calls"])
    except FileNotFoundError:
        raise AskError(f"the demo is not running ({path} is missing): start it with `make demo`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AskError(f"{path} is not a state file of the demo: {error!r}") from error
    if not _alive(pid):
        raise AskError(f"the demo is not running any more ({path} is left over): start it with `make demo`")
    return target


async def ask(question: Pcm, target: Target) -> Asked:
    """Places the call.

    Raises:
        AskError: no usable address, the call was refused, or nothing was heard.
    """
    user = f"ask-{secrets.token_hex(4)}"
    settings = SipSettings(_our_host(target.sip), 0, user, codecs=("pcmu", "pcma"), ring_timeout_s=RING_S)
    watch = CallWatch(target.calls, user)
    try:
        await watch.start()
    except NoEventsError as error:
        raise AskError(str(error)) from error
    phone = SipEndpoint(settings)
    try:
        await phone.start()
        leg = await phone.dial(f"sip:trunkline@{target.sip}")
        await leg.answer()
        greeting = Hearing()
        await _listen(leg, greeting, lambda: _pause_s(PAUSE_S, greeting, watch.story.takes_s(0, 0)), GREETING_S)
        answer, heard_after_ms = await _converse(leg, question, watch.story)
        await leg.hang_up("question answered")
        story = await watch.finish(5.0)
    except LegError as error:
        why = "all lines are busy" if str(error) in ("busy", "refused: 503") else str(error)
        raise AskError(f"the call to {target.sip} was not answered: {why}") from error
    except OSError as error:
        raise AskError(str(error)) from error
    finally:
        await phone.close()
        await watch.finish(0)
    return Asked(answer.speech(), greeting.speech(), heard_after_ms, story)


async def _converse(leg: SipLeg, question: Pcm, story: CallStory) -> tuple[Hearing, float]:
    """Says the question and listens to the end of the answer, which may begin before the file's own end does."""
    asked = Hearing()
    asked.feed(question.tobytes())
    hearing = Hearing()
    began = time.monotonic()
    for start in range(0, len(question), PACKET):
        leg.media.write(question[start : start + PACKET].tobytes(), RATE)
        while leg.media.unsent_s() > LEAD_S and not leg.ended.done():
            hearing.feed(leg.media.read())
            await asyncio.sleep(POLL_S)
    spoken_at = began + asked.speech_end_s
    last = sys.maxsize  # a pause in the file may make two turns of it
    await _listen(leg, hearing, lambda: _pause_s(ANSWER_PAUSE_S, hearing, story.takes_s(1, last)), ANSWER_S)
    if hearing.speech_start_s is None:
        ended = f" ({leg.ended.result()})" if leg.ended.done() else f" within {ANSWER_S:.0f} seconds"
        raise AskError(f"no answer was heard{ended}")
    first_heard = began + hearing.speech_start_s
    return hearing, (first_heard - spoken_at) * 1000


def _pause_s(usual: float, hearing: Hearing, takes_s: float) -> float:
    """Seconds of silence that end what is being heard: longer while it is shorter than its text."""
    return usual if hearing.speech_s >= takes_s else STALL_S


async def _listen(leg: SipLeg, hearing: Hearing, pause_s: Callable[[], float], timeout_s: float) -> None:
    """Until speech was heard and then `pause_s` of silence, the far end hung up, or the time is over."""
    deadline = time.monotonic() + timeout_s
    while hearing.silence_s < pause_s() and not leg.ended.done() and time.monotonic() < deadline:
        hearing.feed(leg.media.read())
        await asyncio.sleep(POLL_S)


def _our_host(sip: str) -> str:
    """Where to listen in order to be reached from there: loopback sees only loopback."""
    host, _, port = sip.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not port.isdigit():
        raise AskError(f"{sip!r} is not the SIP address of a demo: it must be IP:PORT")
    return str(address) if address.is_loopback else "0.0.0.0"  # noqa: S104


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
