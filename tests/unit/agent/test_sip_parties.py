import pytest

from services.agent.legs.sip_parties import host_of, party, uri_of


@pytest.mark.parametrize(
    ("header", "uri"),
    [
        ('"Ann Smith" <sip:ann@example.com:5070>;tag=1', "sip:ann@example.com:5070"),
        ("<sip:ann@example.com;user=phone>;tag=1", "sip:ann@example.com;user=phone"),
        ("sip:ann@example.com;tag=1", "sip:ann@example.com"),
        ('"a \\" <sip:x@y>" <sip:ann@example.com>', "sip:ann@example.com"),
        ("<sip:1@pbx>;reason=busy, <sip:2@pbx>;reason=no-answer", "sip:1@pbx"),
        ("sip:1@pbx, <tel:+4930>", "tel:+4930"),
        ("<tel:+493012>", "tel:+493012"),
        ("", ""),
    ],
)
def test_the_uri_is_taken_out_of_an_address_header(header: str, uri: str) -> None:
    assert uri_of(header) == uri


def test_the_first_header_that_is_there_counts() -> None:
    headers = {"to": "<sip:a@x>", "Diversion": "<sip:b@x>;reason=busy", "P-Called-Party-ID": ""}
    assert party(headers, ("Diversion", "To"), "sip:c@x") == "sip:b@x"
    assert party(headers, ("P-Called-Party-ID", "To"), "sip:c@x") == "sip:a@x"
    assert party(headers, ("From",), "sip:c@x") == "sip:c@x"


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:1@Example.com:5070;user=phone", "example.com:5070"),
        ("sips:example.com?subject=x", "example.com"),
        ("sip:a;b=c@[::1]:5060;transport=tcp", "[::1]:5060"),
    ],
)
def test_the_host_is_taken_out_of_a_uri(uri: str, host: str) -> None:
    assert host_of(uri) == host
