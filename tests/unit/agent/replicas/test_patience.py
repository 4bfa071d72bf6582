from services.agent.replicas.patience import Patience


def test_it_begins_with_the_least() -> None:
    assert Patience(1.0, 8.0).seconds == 1.0


def test_waits_that_end_well_make_it_longer_up_to_the_most() -> None:
    patience = Patience(1.0, 8.0)
    patience.waited(0.1)
    assert patience.seconds == 1.0
    patience.waited(0.9)
    assert 3.0 < patience.seconds < 4.0
    patience.waited(5.0)
    assert patience.seconds == 8.0


def test_quick_answers_make_it_short_again() -> None:
    patience = Patience(1.0, 8.0)
    patience.waited(5.0)
    for _ in range(200):
        patience.waited(0.1)
    assert patience.seconds == 1.0


def test_waits_that_were_given_up_make_it_longer_so_that_none_is_left_again_and_again() -> None:
    patience = Patience(1.0, 8.0)
    seen = []
    for _ in range(8):
        seen.append(patience.seconds)
        patience.lost()
    assert seen == sorted(seen)
    assert patience.seconds == 8.0
