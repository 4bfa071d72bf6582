import hashlib

import pytest

from services.agent.api.keys import KeyRing, Role, new_key


def test_a_new_key_opens_and_its_line_does_not_show_it() -> None:
    secret, line = new_key("ops-1", Role.OPERATOR)
    assert secret not in line
    assert line == f"ops-1:operator:{hashlib.sha256(secret.encode()).hexdigest()}"
    key = KeyRing.parse(f"# ours\n\n{line}  # of the night shift\n").find(secret)
    assert key is not None
    assert (key.name, key.role) == ("ops-1", Role.OPERATOR)
    assert new_key("ops-1", Role.OPERATOR)[0] != secret


def test_only_the_whole_key_opens() -> None:
    secret, line = new_key("a", Role.ADMIN)
    other, other_line = new_key("b", Role.VIEWER)
    ring = KeyRing.parse(f"{line},{other_line}")
    assert len(ring) == 2
    assert (found := ring.find(other)) is not None
    assert found.name == "b"
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), line, "é\ud800"):
        assert ring.find(wrong) is None


def test_no_keys_open_nothing() -> None:
    assert KeyRing.parse("# nobody\n").find("") is None
    assert len(KeyRing.of_page("")) == 0
    assert KeyRing.of_page("page").find("page") is not None


def test_roles_include_those_below() -> None:
    assert [role for role in Role if Role.OPERATOR.includes(role)] == [Role.VIEWER, Role.OPERATOR]
    assert all(Role.ADMIN.includes(role) for role in Role)
    assert not Role.VIEWER.includes(Role.OPERATOR)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "entry 1"),
        ("a:admin:123", "entry 1"),
        (f"\na:root:{'0' * 64}", "entry 2.*viewer, operator, admin"),
        (f"A:admin:{'0' * 64}", "entry 1"),
        (f"a:admin:{'0' * 64}\na:viewer:{'1' * 64}", "entry 2: the name or the hash of 'a'"),
        (f"a:admin:{'0' * 64},b:viewer:{'0' * 64}", "entry 2: the name or the hash of 'a'"),
    ],
)
def test_unusable_keys_are_told_without_their_hash(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        KeyRing.parse(text)
    assert "000" not in str(error.value)


def test_a_key_s_name_can_stand_in_a_line() -> None:
    with pytest.raises(ValueError, match="lower case"):
        new_key("Ann:admin", Role.VIEWER)
