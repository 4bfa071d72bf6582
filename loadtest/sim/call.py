"""One simulated call: who speaks when, and what each turn asks of the agent and of the models."""

from dataclasses import dataclass

from loadtest.sim.clock import Action
from loadtest.sim.models import Encoding, Script, Synthesis, free_answer, given_answer
from loadtest.sim.system import System
from loadtest.sim.talk import Turn, draw
from services.agent.turns import TurnSettings

PRE_ROLL_S = 0.4  # audio before the first sound that belongs to a turn
HEAD_TOKENS = 3  # open a user's turn
FRAME_RATE = 50  # of the tokenizer's encoder
LOOK_AHEAD_S = 0.0125  # half a window: what the last frame of a block sees beyond it


@dataclass(eq=False)
class _Answer:
    """An answer under way.

    Attributes:
        turn_ended_at: the caller's last sound; none for a greeting.
    """

    synthesis: Synthesis
    turn_ended_at: float | None
    decided: bool
    buffered_s: float = 0.0
    received_s: float = 0.0
    began: bool = False
    complete: bool = False
    plays_until: float = 0.0
    dropped: bool = False


class SimulatedCall:
    """One call from its first ring to its end.

    Args:
        over: called when it has ended.
    """

    def __init__(self, system: System, call_id: str, over: Action) -> None:
        self._system = system
        self._clock = system.clock
        self._over = over
        self._agent, self._tokenizer, self._lm, self._decoder = system.place(call_id)
        self._turns_left = system.profile.talk.turns
        self._answer: _Answer | None = None
        self._encodings: list[Encoding] = []
        self._pause = 0  # counts pauses: what belongs to an earlier one is stale
        self._turn_decided = False
        self._encoded_frames = 0
        self._length = 0
        for stage in (self._agent, self._tokenizer, self._lm, self._decoder):
            stage.calls += 1
        steps = system.steps
        self._session = self._lm.open(steps.talk.system_tokens)
        self._start_answer(*steps.talk.greeting, given=True, turn_ended_at=None)

    # --- the caller

    def _next_question(self) -> None:
        if not self._turns_left:
            self._hang_up()
            return
        self._turns_left -= 1
        turn = draw(self._system.profile.talk, self._system.steps, self._system.chance)
        began, ended = self._clock.now, self._clock.now + turn.seconds
        self._agent.talking += 1
        self._turn_decided = False
        self._encodings = []
        self._encoded_frames = 0
        self._length = len(self._session.tokens)
        block = self._system.steps.tokenizer.block_frames
        blocks = int((turn.seconds + PRE_ROLL_S) * FRAME_RATE) // block
        for number in range(1, blocks + 1):
            due = max(began, began + block_due_s(number, block) - PRE_ROLL_S)
            self._clock.at(due, lambda: self._heard(lambda: self._encode_block(turn)))
        for moment in turn.moments:
            at = ended + moment.at_s
            if moment.kind == "paused":
                self._clock.at(at, lambda at=at: self._heard(lambda: self._paused(turn, ended, at)))  # type: ignore[misc]
            elif moment.kind == "resumed":
                self._clock.at(at, lambda: self._heard(lambda: self._resumed(turn)))
            else:
                complete = moment.complete
                self._clock.at(at, lambda c=complete: self._heard(lambda: self._ask(c)))  # type: ignore[misc]
        self._clock.at(ended, self._silent)
        number = self._turns_left

        def silence() -> None:
            if number == self._turns_left and not self._turn_decided:
                self._decided(self._answer)

        self._clock.at(ended + TurnSettings().max_silence_s, lambda: self._heard(silence))

    def _silent(self) -> None:
        self._agent.talking -= 1

    def _heard(self, then: Action) -> None:
        """Audio on its way through the leg's process and the agent's queue."""
        self._agent.line.submit(0.0, lambda: self._agent.loop.submit(0.0, then))

    # --- the agent, while the caller speaks

    def _encode_block(self, turn: Turn) -> None:
        steps = self._system.steps.tokenizer
        self._encoded_frames += steps.block_frames
        self._encode(steps.block_frames, steps.block_tokens, urgent=False, then=_nothing)

    def _encode(self, frames: int, tokens: int, urgent: bool, then: Action) -> None:
        first = not self._encodings

        def there() -> None:
            self._agent.loop.submit(self._system.leg.token_s, append)

        def append() -> None:
            if not work.dropped:
                self._lm.command(lambda: self._lm.append(self._session, tokens + HEAD_TOKENS * first))
                then()

        work = Encoding(frames, there)
        self._encodings.append(work)
        self._tokenizer.encode(work, urgent)

    def _paused(self, turn: Turn, ended: float, at: float) -> None:
        """The turn may be over: its answer is begun."""
        self._pause += 1
        pause = self._pause
        steps = self._system.steps.tokenizer
        frames = int((turn.seconds + PRE_ROLL_S + (at - ended)) * FRAME_RATE) - self._encoded_frames
        frames = min(max(frames, 0), steps.block_frames)
        tokens = -(-frames * steps.block_tokens // steps.block_frames)

        def closed() -> None:
            # the append is answered before the answer is asked for
            self._lm.command(lambda: self._agent.loop.submit(self._system.leg.token_s, begin))

        def begin() -> None:
            if pause == self._pause:
                self._start_answer(turn.text, turn.speech, given=False, turn_ended_at=ended)

        if frames:
            self._encode(frames, tokens + 1, urgent=True, then=closed)
        else:
            closed()

    def _resumed(self, turn: Turn) -> None:
        """It was not over: the answer is thrown away, and the audio so far goes to the tokenizer again."""
        self._pause += 1
        self._drop_answer()
        for work in self._encodings:
            self._tokenizer.drop(work)
        self._encodings = []
        self._lm.command(lambda: self._lm.truncate(self._session, self._length))
        block = self._system.steps.tokenizer
        again = self._encoded_frames // block.block_frames
        self._encode_again(again)

    def _encode_again(self, blocks: int) -> None:
        if blocks:
            steps = self._system.steps.tokenizer
            self._encode(steps.block_frames, steps.block_tokens, False, lambda: self._encode_again(blocks - 1))

    def _ask(self, complete: bool) -> None:
        pause = self._pause

        def verdict() -> None:
            if complete and pause == self._pause:
                self._decided(self._answer)

        seconds = self._system.leg.end_of_turn_s
        self._agent.end_of_turn.submit(seconds, lambda: self._agent.loop.submit(0.0, verdict))

    def _decided(self, answer: _Answer | None) -> None:
        """The turn is over; its answer may be heard, or is, as soon as there is one."""
        self._turn_decided = True
        if answer is not None and not answer.decided:
            answer.decided = True
            self._play(answer)

    # --- the answer

    def _start_answer(self, text: int, speech: int, given: bool, turn_ended_at: float | None) -> None:
        talk = self._system.steps.talk
        synthesis = Synthesis(lambda seconds: self._agent.loop.submit(self._system.leg.token_s, lambda: audio(seconds)))
        decided = turn_ended_at is None or self._turn_decided
        answer = self._answer = _Answer(synthesis, turn_ended_at, decided)
        steps = (given_answer if given else free_answer)(text, speech, talk.text_block, talk.speech_block)

        def tokens(count: int, is_speech: bool) -> None:
            cost = self._system.leg.token_s
            self._agent.loop.submit(cost, (lambda: self._decoder.push(synthesis, count)) if is_speech else _nothing)

        def end() -> None:
            self._agent.loop.submit(self._system.leg.token_s, lambda: self._decoder.finish(synthesis))

        def audio(seconds: float) -> None:
            if not answer.dropped:
                answer.buffered_s += seconds
                # what has arrived counts: the decoder may be further than the agent
                answer.received_s += seconds
                answer.complete = answer.received_s * self._system.steps.decoder.token_rate > speech - 0.5
                self._play(answer)

        script = Script(steps, tokens, end)
        self._lm.command(lambda: self._lm.generate(self._session, script))

    def _play(self, answer: _Answer) -> None:
        """Sends what there is, once it may be heard."""
        if not answer.decided or not answer.buffered_s or answer.dropped:
            return
        now = self._clock.now
        if not answer.began:
            answer.began = True
            answer.plays_until = now
            self._agent.speaking += 1
            self._agent.line.submit(0.0, lambda: self._first_packet(answer))
        elif answer.plays_until < now:
            self._system.measured.gaps += 1
            answer.plays_until = now
        answer.plays_until += answer.buffered_s
        answer.buffered_s = 0.0
        if answer.complete:
            self._clock.at(answer.plays_until, self._answer_over)

    def _first_packet(self, answer: _Answer) -> None:
        if answer.turn_ended_at is not None:
            first = self._clock.now - answer.turn_ended_at + self._system.chance.choice(self._system.leg.delays_s)
            self._system.measured.first_audio_s.append((answer.turn_ended_at, first))

    def _answer_over(self) -> None:
        self._agent.speaking -= 1
        self._answer = None
        self._clock.after(self._system.chance.uniform(*self._system.profile.talk.pause_s), self._next_question)

    def _drop_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.dropped = answer.synthesis.stopped = True

    def _hang_up(self) -> None:
        for stage in (self._agent, self._tokenizer, self._lm, self._decoder):
            stage.calls -= 1
        self._lm.command(lambda: self._lm.close(self._session))
        self._over()


def block_due_s(number: int, block_frames: int) -> float:
    """Seconds of audio after which the first, second, ... block of an utterance can be encoded."""
    return number * block_frames / FRAME_RATE + LOOK_AHEAD_S


def _nothing() -> None:
    """Nobody waits for it."""
