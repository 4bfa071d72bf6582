import pytest

from services.agent.returns import names_someone


@pytest.mark.parametrize(
    ("caller", "named"),
    [
        ("sip:+4930123@carrier.example.org", True),
        ("+4930123", True),
        ("sip:ann@10.0.0.1:5070", True),
        ("sip:Anonymous@anonymous.invalid", False),
        ("anonymous", False),
        ("sips:unavailable@host", False),
        ("sip:@host", False),
        ("", False),
    ],
)
def test_a_withheld_number_names_nobody(caller: str, named: bool) -> None:
    assert names_someone(caller) is named
