from services.agent.transcript.backlog import BYTES_PER_S, Backlog, Words


def words(seconds: float) -> Words:
    return Words(bytes(int(seconds * BYTES_PER_S)), "en", lambda _: None)


def test_first_in_first_out() -> None:
    backlog = Backlog(10.0)
    first, second = words(1.0), words(2.0)
    assert backlog.get() is None
    assert backlog.put(first)
    assert backlog.put(second)
    assert backlog.seconds == 3.0
    assert backlog.get() is first
    assert backlog.seconds == 2.0
    assert backlog.get() is second
    assert backlog.get() is None
    assert backlog.seconds == 0.0


def test_what_would_be_too_much_is_not_taken_and_what_fits_still_is() -> None:
    backlog = Backlog(5.0)
    assert backlog.put(words(4.0))
    assert not backlog.put(words(2.0))
    assert backlog.put(words(1.0))
    assert backlog.seconds == 5.0
    backlog.get()
    assert backlog.put(words(4.0))
