from services.agent.legs.sip_trunks import LONGEST_DELAY_S, retry_delay_s


def test_waits_double_up_to_five_minutes() -> None:
    assert [retry_delay_s(failures, 503, 0.0) for failures in (1, 2, 3, 8, 99)] == [2, 4, 8, 256, LONGEST_DELAY_S]


def test_chance_takes_off_up_to_half() -> None:
    assert retry_delay_s(3, None, 1.0) == 4
    assert retry_delay_s(3, None, 0.5) == 6


def test_a_registrar_that_says_no_is_given_time() -> None:
    assert [retry_delay_s(1, status, 0.0) for status in (401, 403, 404)] == [60, 60, 60]
    assert [retry_delay_s(1, status, 0.0) for status in (None, 408, 500)] == [2, 2, 2]
