"""What crosses the wire to Triton comes out as it went in; what waits in line goes together."""

import pytest

from services.common import errors
from services.common.errors import ServiceError
from services.common.triton_reply import Outbox, Reply
from services.common.triton_wire import error_of, error_text, number, read_text, text
from services.lm.engine import Added, Finished, GenerationSettings, Kind, Reason
from services.lm.triton_codec import merge, of_event, of_settings, to_event, to_settings
from tests.unit.common.fake_triton import BACKEND, Sender


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidInputError,
        errors.WrongOrderError,
        errors.UnknownIdError,
        errors.AtCapacityError,
        errors.ContextFullError,
        errors.DrainingError,
        errors.UnavailableError,
    ],
)
def test_an_error_keeps_its_status_and_its_words(kind: type[ServiceError]) -> None:
    found = error_of(read_text(text(error_text(kind("rate: 8 is too low, déjà vu")))))
    assert found.code is kind.code
    assert str(found) == "rate: 8 is too low, déjà vu"


def test_an_unforeseen_error_keeps_its_details_to_itself() -> None:
    found = error_of(error_text(ZeroDivisionError("a secret")))
    assert found.code is ServiceError.code
    assert "secret" not in str(found)


def test_an_error_of_another_kind_of_server_is_passed_on_whole() -> None:
    found = error_of("TypeError: what: ever")
    assert (found.code, str(found)) == (ServiceError.code, "TypeError: what: ever")


@pytest.mark.parametrize(
    "settings",
    [
        GenerationSettings(),
        GenerationSettings(0.1, 0.25, 2**64 - 1, 7, "say 好", resume=True),
    ],
)
def test_generation_settings(settings: GenerationSettings) -> None:
    assert to_settings(of_settings(settings)) == settings
    assert to_settings({}) == GenerationSettings()


@pytest.mark.parametrize("event", [Added((5, 168_000), kind, 9) for kind in Kind] + [Finished(r, 3) for r in Reason])
def test_events(event: Added | Finished) -> None:
    assert to_event(of_event(event)) == event


def test_tokens_that_wait_in_line_are_joined_by_kind() -> None:
    class Slow(Outbox):
        """Sends only when it is told."""

        def put(self, reply: Reply) -> None:
            pass

    outbox = Slow(BACKEND, lambda array: array, merge)
    sender = Sender()
    reply = Reply(sender, outbox)
    speech = [Added((n,), Kind.SPEECH, n) for n in range(1, 5)]
    events: list[Added | Finished] = [Added((9,), Kind.TEXT, 0), *speech, Finished(Reason.END_OF_TURN, 4)]
    for event in events:
        reply.send(of_event(event))
    reply.finish()
    reply.flush()
    outbox.stop()
    assert [to_event(response) for response in sender.responses[:3]] == [
        Added((9,), Kind.TEXT, 0),
        Added((1, 2, 3, 4), Kind.SPEECH, 4),
        Finished(Reason.END_OF_TURN, 4),
    ]
    assert [set(response) for response in sender.responses[3:]] == [{"DONE"}]
    assert sender.final


def test_nothing_is_sent_after_the_end() -> None:
    outbox = Outbox(BACKEND, lambda array: array)
    sender = Sender()
    reply = Reply(sender, outbox)
    reply.fail(errors.InvalidInputError("no"))
    reply.send({"N": number(1)})
    reply.finish()
    outbox.stop()
    assert len(sender.responses) == 1
    assert not reply.is_cancelled()
    assert not sender.misused
