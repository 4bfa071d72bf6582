import base64

import pytest

from services.agent.state.address import StateError
from services.agent.state.sealing import Sealer

OLD = "old:" + base64.b64encode(bytes(32)).decode()
NEW = "new:" + base64.b64encode(bytes(range(32))).decode()


def test_what_is_sealed_opens_in_its_own_place_only() -> None:
    sealer = Sealer.parse(NEW)
    sealed = sealer.seal("我们 at +4930123", "conversation:a:1")
    assert "+4930123" not in sealed
    assert sealed != sealer.seal("我们 at +4930123", "conversation:a:1"), "a nonce is used once"
    assert sealer.open(sealed, "conversation:a:1") == "我们 at +4930123"
    for elsewhere in ("conversation:a:2", "conversation:b:1"):
        with pytest.raises(StateError, match="'new' does not open a record"):
            sealer.open(sealed, elsewhere)


def test_rotation_reads_what_the_old_key_wrote() -> None:
    sealed = Sealer.parse(OLD).seal("text", "place")
    rotated = Sealer.parse(f"{NEW}\n{OLD}\n")
    assert rotated.open(sealed, "place") == "text"
    assert rotated.seal("text", "place").startswith("new:")
    with pytest.raises(StateError, match=r"state key 'old', which is not listed \(listed: new\)"):
        Sealer.parse(NEW).open(sealed, "place")


def test_a_wrong_key_and_an_altered_text_are_refused() -> None:
    sealed = Sealer.parse(NEW).seal("text", "place")
    wrong = Sealer.parse(NEW.replace(NEW.split(":")[1], OLD.split(":")[1]))
    with pytest.raises(StateError, match="wrong key, or it was altered"):
        wrong.open(sealed, "place")
    for altered in (sealed[:-5] + ("A" if sealed[-5] != "A" else "B") + sealed[-4:], "new:", "new:!"):
        with pytest.raises(StateError, match="wrong key, or it was altered"):
            Sealer.parse(NEW).open(altered, "place")


def test_a_digest_cannot_be_found_without_the_key() -> None:
    assert Sealer({}).digests("+49") != Sealer.parse(NEW).digests("+49")
    assert Sealer.parse(f"{NEW},{OLD}").digests("+49") == [
        *Sealer.parse(NEW).digests("+49"),
        *Sealer.parse(OLD).digests("+49"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("c2VjcmV0", "has no name"),
        ("a b:c2VjcmV0", "has no name"),
        ("a:c2VjcmV0", "has 6 bytes instead of 32"),
        ("a:***", "is no base64"),
        (f"{OLD},{OLD}", "listed twice"),
    ],
)
def test_bad_keys_are_named_and_not_shown(text: str, reason: str) -> None:
    with pytest.raises(StateError, match=reason) as raised:
        Sealer.parse(text)
    assert "c2VjcmV0" not in str(raised.value)


def test_no_keys_seal_nothing() -> None:
    assert not Sealer.parse(" \n").seals
