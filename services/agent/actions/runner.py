"""One call's actions: listens to the bot's text and the caller's keys, and carries out what they set off.

Nothing here is awaited by the call's audio: each action runs in a task of its own.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from services.agent.actions.config import Action, HangUp, SendDtmf, Transfer, Webhook
from services.agent.actions.keys import KeySequences, KeysMatch
from services.agent.actions.plan import LEAVING, AnswerPlan, Step, StepKind
from services.agent.actions.webhook import Notice, WebhookError, Webhooks, WebhookTimeoutError
from services.agent.events import (
    ActionDone,
    ActionOutcome,
    ActionStarted,
    AnswerBegan,
    AnswerOver,
    Caption,
    Event,
    Speaking,
)
from services.agent.legs.base import Leg, LegError, UnsupportedByLegError
from services.agent.personas import Persona

log = logging.getLogger(__name__)

AFTER_SPEECH_S = 0.4  # the far end's jitter buffer still holds the answer's last sound
HANG_UP_REASON = "the bot hung up"


class Voice(Protocol):
    """What of the call's speech actions use."""

    def say(self, text: str) -> None:
        """Has the bot say a text after what it is saying now."""

    def interrupt(self) -> object:
        """Stops what the bot says."""


class ActionRunner:
    """The actions of one call's persona. Feed it the call's events and keys.

    Args:
        hang_up: ends the call, for a reason.
        publish: takes events for watchers.
        clock: of keys, seconds.
    """

    def __init__(
        self,
        call_id: str,
        persona: Persona,
        leg: Leg,
        voice: Voice,
        hang_up: Callable[[str], None],
        webhooks: Webhooks,
        publish: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._call_id = call_id
        self._persona = persona
        self._leg = leg
        self._voice = voice
        self._hang_up = hang_up
        self._webhooks = webhooks
        self._publish = publish
        self._clock = clock
        self._plan = AnswerPlan(persona.actions)
        self._keyed = [action for action in persona.actions if action.keys]
        self._keys = KeySequences([action.keys for action in self._keyed], persona.key_pause_s)
        self._key_timer: asyncio.TimerHandle | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turn = 0
        self._requests = 0
        self._stopped = False

    def take(self, event: Event) -> None:
        """An event of the call; those that concern no answer are ignored."""
        match event:
            case AnswerBegan(turn=turn, announcement=announcement):
                self._turn = turn
                self._plan.begin(announcement)
            case Caption(is_final=True):
                self._follow(self._plan.text_complete())
            case Caption(text=text):
                self._follow(self._plan.text(text))
            case Speaking(who="bot", on=True):
                self._follow(self._plan.audible())
            case AnswerOver(heard=heard):
                self._follow(self._plan.over(heard))

    def key(self, key: str) -> None:
        """The caller pressed a key."""
        if not self._keyed or self._stopped:
            return
        self._stop_timer()
        now = self._clock()
        matches = (self._keys.idle(now), self._keys.press(now, key))
        for match in matches:
            if match is not None:
                self._pressed(match)
        if self._keys.deadline is not None:
            wait_s = self._keys.deadline - now
            self._key_timer = asyncio.get_running_loop().call_later(wait_s, self._keys_paused)

    def stop(self) -> None:
        """The call is over: nothing is begun or said any more."""
        self._stopped = True
        self._stop_timer()

    async def close(self, patience_s: float) -> None:
        """What is under way may finish within `patience_s`, the rest is cancelled."""
        self.stop()
        tasks = set(self._running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _keys_paused(self) -> None:
        # The timer may fire a moment early by the keys' own clock.
        match = self._keys.idle(max(self._clock(), self._keys.deadline or 0.0))
        if match is not None:
            self._pressed(match)

    def _stop_timer(self) -> None:
        if self._key_timer is not None:
            self._key_timer.cancel()
            self._key_timer = None

    def _pressed(self, match: KeysMatch) -> None:
        action = self._keyed[match.index]
        if action.kind in LEAVING:
            self._voice.interrupt()
        self._start(action, keys=match.keys)

    def _follow(self, steps: list[Step]) -> None:
        for step in steps:
            if step.kind is StepKind.CANCEL:
                self._done(step.action, ActionOutcome.CANCELLED)
            else:
                self._start(step.action, text=step.text)

    def _start(self, action: Action, text: str = "", keys: str = "") -> None:
        if self._stopped or action.name in self._running:
            return  # set off again while it is under way: once is enough
        task = asyncio.create_task(self._run(action, text, keys), name=f"action-{self._call_id}")
        self._running[action.name] = task
        task.add_done_callback(lambda _: self._running.pop(action.name, None))

    async def _run(self, action: Action, text: str, keys: str) -> None:
        if text and action.kind in LEAVING:
            await asyncio.sleep(AFTER_SPEECH_S)
            if self._stopped:
                self._done(action, ActionOutcome.CANCELLED)
                return
        self._publish(ActionStarted(action.name, action.kind))
        outcome = ActionOutcome.FAILED
        try:
            outcome = await self._carry_out(action, text, keys)
        except asyncio.CancelledError:
            outcome = ActionOutcome.CANCELLED
            raise
        except Exception:
            log.exception("an action broke", extra={"call_id": self._call_id, "action": action.name})
        finally:
            self._done(action, outcome)
        if outcome is not ActionOutcome.DONE:
            self._say(action.failure)

    async def _carry_out(self, action: Action, text: str, keys: str) -> ActionOutcome:
        try:
            match action:
                case HangUp():
                    self._hang_up(HANG_UP_REASON)
                case Transfer(target=""):
                    return ActionOutcome.UNSUPPORTED
                case Transfer(target=target):
                    await self._leg.transfer(str(target))  # the workers' protocol takes nothing but a plain string
                case SendDtmf(digits=digits):
                    await self._leg.send_dtmf(digits)
                case Webhook():
                    await self._tell(action, text, keys)
        except UnsupportedByLegError:
            return ActionOutcome.UNSUPPORTED
        except WebhookTimeoutError:
            return ActionOutcome.TIMED_OUT
        except (LegError, WebhookError) as error:
            # A leg's message may hold an address; a webhook's holds no content.
            why = str(error) if isinstance(error, WebhookError) else type(error).__name__
            log.warning("an action failed", extra={"call_id": self._call_id, "action": action.name, "why": why})
            return ActionOutcome.FAILED
        return ActionOutcome.DONE

    async def _tell(self, webhook: Webhook, text: str, keys: str) -> None:
        self._requests += 1
        notice = Notice(self._call_id, self._persona.name, webhook.name, self._turn, text, keys)
        say = await self._webhooks.send(webhook, notice, f"{self._call_id}-{self._requests}")
        self._say(say)

    def _say(self, text: str) -> None:
        if text and not self._stopped:
            self._voice.say(text)

    def _done(self, action: Action, outcome: ActionOutcome) -> None:
        self._publish(ActionDone(action.name, action.kind, outcome))
        log.info(
            "action",
            extra={
                "call_id": self._call_id, "action": action.name, "kind": action.kind, "outcome": outcome.value,
            },
        )  # fmt: skip
