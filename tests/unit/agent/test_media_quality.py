from services.agent.e_model import G711_CONCEALED
from services.agent.media_quality import Measured, QualityMeter, Reception


def test_quality_is_that_of_late_and_not_of_the_whole_call() -> None:
    meter = QualityMeter()
    first = meter.take(Measured(Reception(1000, 0, 0.002), None, 0.08))
    assert first.received is not None
    assert (first.received.packets, first.received.loss, first.round_trip_s) == (1000, 0.0, 0.08)
    assert first.sent is None
    assert first.received.mos > 4.3
    worse = meter.take(Measured(Reception(1200, 50, 0.02), None)).received
    assert worse is not None
    assert (worse.packets, worse.lost, worse.loss, worse.jitter_s) == (1200, 50, 0.2, 0.02)
    assert worse.mos < 2.5


def test_without_a_new_report_the_last_one_stands() -> None:
    meter = QualityMeter()
    told = meter.take(Measured(sent=Reception(90, 10, 0.0)))
    assert told.sent is not None
    assert told.sent.loss == 0.1
    assert meter.take(Measured(sent=Reception(90, 10, 0.0))) == told
    assert meter.take(Measured(sent=None)) == told


def test_another_connection_counts_anew() -> None:
    meter = QualityMeter()
    meter.take(Measured(Reception(500, 100, 0.0, codec=G711_CONCEALED)))
    again = meter.take(Measured(Reception(50, 0, 0.0, codec=G711_CONCEALED))).received
    assert again is not None
    assert (again.packets, again.lost, again.loss) == (50, 0, 0.0)


def test_a_far_end_that_got_packets_twice_has_lost_none() -> None:
    received = QualityMeter().take(Measured(Reception(100, -3, 0.0))).received
    assert received is not None
    assert (received.lost, received.loss) == (0, 0.0)
