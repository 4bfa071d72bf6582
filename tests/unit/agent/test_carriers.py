"""Each carrier's words: signatures against the carriers' own libraries' results, first messages, XML, and marks."""

import base64
from typing import Any
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.agent.carriers import plivo, twilio
from services.agent.carriers.base import Announced, Carrier, ProtocolError, SignatureError, Stream, Webhook
from services.agent.carriers.playout import Playout
from services.agent.carriers.plivo import Plivo
from services.agent.carriers.settings import CarrierSettings
from services.agent.carriers.telnyx import Telnyx
from services.agent.carriers.twilio import Twilio

NOW = 1_800_000_000.0
URL = "https://voice.example.com/carriers/{}/voice"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
).decode()
# From Twilio's documentation of request validation; the auth token is 12345.
TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO_BODY = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
TWILIO_SIGNATURE = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
# Made with plivo-python 4.63.0 (`plivo.utils.signature_v3`).
PLIVO_BODY = b"CallUUID=a3f2&From=14155550100&To=14155550199&Empty="
PLIVO_SIGNATURES = {
    URL.format("plivo"): "3cidVCZ5tikTvcUlSElq+hRB8ycfqZ/cKG5uj8dBNYE=",
    URL.format("plivo") + "?b=2&a=1": "bVwdC3jICmk5ewgloEVSqgYqrFC8lNpBy22+oK3hEjA=",
}
TELNYX_BODY = b"CallSid=v3%3Aabc&From=%2B14155550100&To=%2B14155550199"


def twilio_webhook(**changes: Any) -> Webhook:
    given: dict[str, Any] = {
        "url": TWILIO_URL,
        "headers": {"x-twilio-signature": TWILIO_SIGNATURE},
        "body": TWILIO_BODY,
    }
    return Webhook(**(given | changes))


def plivo_webhook(url: str = URL.format("plivo"), body: bytes = PLIVO_BODY, signature: str = "") -> Webhook:
    headers = {
        "x-plivo-signature-v3": signature or PLIVO_SIGNATURES[url],
        "x-plivo-signature-v3-nonce": "12345",
    }
    return Webhook(url, headers, body)


def telnyx_webhook(body: bytes = TELNYX_BODY, signed: bytes = TELNYX_BODY, at: str = str(int(NOW))) -> Webhook:
    signature = base64.b64encode(KEY.sign(at.encode() + b"|" + signed)).decode()
    headers = {"telnyx-signature-ed25519": signature, "telnyx-timestamp": at}
    return Webhook(URL.format("telnyx"), headers, body)


def test_twilio_signs_as_documented() -> None:
    Twilio("12345").verify(twilio_webhook(), NOW)


def test_twilio_signs_the_url_with_its_port_or_without() -> None:
    with_port = TWILIO_URL.replace(".com", ".com:443")
    signature = twilio.signature("12345", with_port, twilio_webhook().fields())
    headers = {"x-twilio-signature": signature}
    Twilio("12345").verify(twilio_webhook(headers=headers), NOW)
    Twilio("12345").verify(twilio_webhook(url=with_port), NOW)
    with pytest.raises(SignatureError):
        Twilio("12345").verify(twilio_webhook(url=TWILIO_URL.replace(".com", ".com:8443")), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"body": TWILIO_BODY.replace(b"1234&", b"1235&")},
        {"body": TWILIO_BODY + b"&More=1"},
        {"url": TWILIO_URL.replace("foo=1", "foo=2")},
        {"url": TWILIO_URL.replace("https", "http")},
        {"headers": {"x-twilio-signature": TWILIO_SIGNATURE.swapcase()}},
        {"headers": {"x-twilio-signature": "ä"}},
    ],
)
def test_twilio_refuses_what_was_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(SignatureError) as refused:
        Twilio("12345").verify(twilio_webhook(**changes), NOW)
    assert refused.value.status == 403
    with pytest.raises(SignatureError):
        Twilio("other").verify(twilio_webhook(), NOW)


@pytest.mark.parametrize("url", list(PLIVO_SIGNATURES))
def test_plivo_signs_as_its_library_does(url: str) -> None:
    Plivo("MA-token").verify(plivo_webhook(url), NOW)
    both = f"{base64.b64encode(bytes(32)).decode()},{PLIVO_SIGNATURES[url]}"
    Plivo("MA-token").verify(plivo_webhook(url, signature=both), NOW)


def test_plivo_refuses_what_was_not_signed() -> None:
    for webhook in (
        plivo_webhook(body=PLIVO_BODY + b"1"),
        plivo_webhook(signature=PLIVO_SIGNATURES[URL.format("plivo") + "?b=2&a=1"]),
        Webhook(URL.format("plivo"), {**plivo_webhook().headers, "x-plivo-signature-v3-nonce": "12346"}, PLIVO_BODY),
    ):
        with pytest.raises(SignatureError) as refused:
            Plivo("MA-token").verify(webhook, NOW)
        assert refused.value.status == 403


def test_telnyx_signs_time_and_body() -> None:
    Telnyx(PUBLIC).verify(telnyx_webhook(), NOW)
    Telnyx(PUBLIC).verify(telnyx_webhook(), NOW + 299)


@pytest.mark.parametrize(
    "webhook",
    [
        telnyx_webhook(signed=TELNYX_BODY + b"1"),
        telnyx_webhook(at=str(int(NOW) - 301)),
        telnyx_webhook(at=str(int(NOW) + 301)),
        telnyx_webhook(at="nan"),
        Webhook(URL, {**telnyx_webhook().headers, "telnyx-timestamp": str(int(NOW) + 1)}, TELNYX_BODY),
        Webhook(URL, {**telnyx_webhook().headers, "telnyx-signature-ed25519": "no base64"}, TELNYX_BODY),
        Webhook(URL, {**telnyx_webhook().headers, "telnyx-signature-ed25519": "c2hvcnQ="}, TELNYX_BODY),
    ],
)
def test_telnyx_refuses_what_was_not_signed_or_is_old(webhook: Webhook) -> None:
    with pytest.raises(SignatureError) as refused:
        Telnyx(PUBLIC).verify(webhook, NOW)
    assert refused.value.status == 403


@pytest.mark.parametrize("carrier", [Twilio("t"), Telnyx(PUBLIC), Plivo("p")])
def test_a_webhook_without_a_signature_is_told_so(carrier: Carrier) -> None:
    with pytest.raises(SignatureError, match=r"no .* header") as refused:
        carrier.verify(Webhook(URL, {}, b"CallSid=1"), NOW)
    assert refused.value.status == 401


@pytest.mark.parametrize("body", [b"no form", b"\xff=1", b"&".join(b"a=1" for _ in range(1000))])
def test_a_body_that_is_no_form(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="form"):
        Webhook(URL, {}, body).fields()


def test_whom_a_call_is_from_and_to() -> None:
    assert Telnyx(PUBLIC).announced(telnyx_webhook()) == Announced("v3:abc", "+14155550100", "+14155550199")
    assert Plivo("p").announced(plivo_webhook()) == Announced("a3f2", "14155550100", "14155550199")
    with pytest.raises(ProtocolError, match="the form has no CallUUID"):
        Plivo("p").announced(telnyx_webhook())


@pytest.mark.parametrize("carrier", [Twilio("t"), Telnyx(PUBLIC), Plivo("p")])
def test_the_xml_is_well_formed_whatever_the_url(carrier: Carrier) -> None:
    url = 'wss://voice.example.com/a&b"<c>'
    response = ElementTree.fromstring(carrier.connect(url))
    stream = next(response.iter("Stream"))
    assert url in (stream.get("url"), stream.text)
    assert response[-1].tag == "Hangup"
    assert "busy" in ElementTree.fromstring(carrier.busy())[0].attrib.values()


def twilio_start(**format_: Any) -> dict[str, Any]:
    media = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1} | format_
    return {"event": "start", "start": {"streamSid": "MZ1", "callSid": "CA1", "mediaFormat": media}}


def telnyx_start(**format_: Any) -> dict[str, Any]:
    media = {"encoding": "PCMA", "sample_rate": 8000, "channels": 1} | format_
    return {"event": "start", "stream_id": "S1", "start": {"call_control_id": "v3:1", "media_format": media}}


def plivo_start(**format_: Any) -> dict[str, Any]:
    media = {"encoding": "audio/x-mulaw", "sampleRate": 8000} | format_
    return {"event": "start", "start": {"callId": "C1", "streamId": "S1", "mediaFormat": media}}


def test_how_streams_begin() -> None:
    assert Twilio("t").started({"event": "connected"}) is None
    assert Twilio("t").started(twilio_start()) == Stream("MZ1", "CA1")
    assert Telnyx(PUBLIC).started({"event": "connected"}) is None
    assert Telnyx(PUBLIC).started(telnyx_start()) == Stream("S1", "v3:1", "PCMA")
    assert Plivo("p").started(plivo_start()) == Stream("S1", "C1")


@pytest.mark.parametrize(
    ("carrier", "message"),
    [
        (Twilio("t"), {}),
        (Twilio("t"), {"event": "media"}),
        (Twilio("t"), {"event": ["start"]}),
        (Twilio("t"), {"event": "start"}),
        (Twilio("t"), {"event": "start", "start": "now"}),
        (Twilio("t"), twilio_start(encoding="audio/x-l16")),
        (Twilio("t"), twilio_start(sampleRate=16000)),
        (Telnyx(PUBLIC), telnyx_start(encoding="G722")),
        (Telnyx(PUBLIC), telnyx_start(sample_rate=None)),
        (Telnyx(PUBLIC), telnyx_start() | {"stream_id": 7}),
        (Plivo("p"), {"event": "connected"}),
        (Plivo("p"), plivo_start(encoding="audio/x-l16")),
        (Plivo("p"), plivo_start() | {"start": {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}}}),
    ],
)
def test_streams_that_begin_otherwise(carrier: Carrier, message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        carrier.started(message)


def test_marks_in_each_carriers_words() -> None:
    stream = Stream("S1", "C1")
    assert Twilio("t").mark(stream, "1") == {"event": "mark", "streamSid": "S1", "mark": {"name": "1"}}
    assert Telnyx(PUBLIC).mark(stream, "1") == {"event": "mark", "mark": {"name": "1"}}
    assert Plivo("p").mark(stream, "1") == {"event": "checkpoint", "streamId": "S1", "name": "1"}
    assert Twilio("t").played({"event": "mark", "mark": {"name": "1"}}) == "1"
    assert Telnyx(PUBLIC).played({"event": "mark", "mark": {"name": "1"}}) == "1"
    assert Plivo("p").played({"event": "playedStream", "name": "1"}) == "1"
    for carrier in (Twilio("t"), Telnyx(PUBLIC), Plivo("p")):
        assert carrier.played({"event": "other"}) is None


def send(playout: Playout, now: float, packets: int) -> list[str]:
    """Packets of 20 ms, on time; the marks before them."""
    marks = []
    for number in range(packets):
        mark = playout.mark()
        if mark is not None:
            marks.append(mark)
        playout.sent(now + number * 0.02, 0.02)
    return marks


def test_the_delay_is_what_a_mark_is_late_by() -> None:
    playout = Playout()
    assert playout.delay_s == 0.0
    first, second = send(playout, 100.0, 21)
    playout.played(100.2 + 0.15, first)
    assert playout.delay_s == pytest.approx(0.15)
    playout.played(100.4 + 0.08, second)
    assert playout.delay_s == pytest.approx(0.08)


def test_a_delay_that_grows_is_noticed_once_it_lasts() -> None:
    playout = Playout()
    for round_, late in enumerate([0.05, 0.3, 0.3, 0.3, 0.3, 0.3]):
        begin = 100.0 + round_ * 0.2
        send(playout, begin, 10)
        mark = playout.mark()
        assert mark is not None
        playout.played(begin + 0.2 + late, mark)
        assert playout.delay_s == pytest.approx(0.05 if round_ < 5 else 0.3)


def test_a_carrier_that_dawdles_is_not_waited_for_without_end() -> None:
    playout = Playout()
    (mark,) = send(playout, 100.0, 11)
    playout.played(1000.0, mark)
    assert playout.delay_s == 3.0


def test_marks_that_tell_nothing() -> None:
    playout = Playout()
    (mark,) = send(playout, 100.0, 11)
    playout.played(101.0, "not ours")
    assert playout.delay_s == 0.0
    playout.cleared(100.22)
    playout.played(105.0, mark)
    assert playout.delay_s == 0.0
    # After the clear the next answer starts anew.
    (mark,) = send(playout, 100.5, 11)
    playout.played(100.7 + 0.1, mark)
    assert playout.delay_s == pytest.approx(0.1)


def test_a_carrier_that_returns_no_marks_costs_no_memory() -> None:
    playout = Playout()
    send(playout, 100.0, 100_000)
    assert len(playout._pending) <= 200


def test_secrets_come_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    assert CarrierSettings().carriers() == []
    monkeypatch.setenv("TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN", "top-secret")
    (tmp_path / "plivo").write_text("12345\n")
    monkeypatch.setenv("TRUNKLINE_AGENT_PLIVO_AUTH_TOKEN_FILE", str(tmp_path / "plivo"))
    monkeypatch.setenv("TRUNKLINE_AGENT_TELNYX_PUBLIC_KEY", PUBLIC)
    settings = CarrierSettings()
    assert [carrier.name for carrier in settings.carriers()] == ["twilio", "telnyx", "plivo"]
    assert "top-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TELNYX_PUBLIC_KEY", "c2hvcnQ=", "32 bytes"),
        ("TELNYX_PUBLIC_KEY", "no base64", "32 bytes"),
        ("TWILIO_AUTH_TOKEN_FILE", "/nonexistent", "/nonexistent cannot be read"),
        ("PLIVO_AUTH_TOKEN_FILE", "/dev/null", "is empty"),
    ],
)
def test_secrets_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(f"TRUNKLINE_AGENT_{name}", value)
    with pytest.raises(ValueError, match=says):
        CarrierSettings().carriers()


def test_a_secret_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN", "top-secret")
    monkeypatch.setenv("TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN_FILE", "/some/file")
    with pytest.raises(ValueError, match="not both") as refused:
        CarrierSettings().carriers()
    assert "top-secret" not in str(refused.value)


def test_plivos_empty_query_and_form() -> None:
    # The library's cases: nothing after the path, a query alone, a form alone.
    url = "https://a.example/b"
    alone = plivo.signature("t", url, [], "n")
    assert len({alone, plivo.signature("t", url + "?x=1", [], "n"), plivo.signature("t", url, [("x", "1")], "n")}) == 3
