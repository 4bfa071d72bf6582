import json
from pathlib import Path

import pytest

from services.agent.actions.config import HangUp, Transfer, Webhook, When, with_secrets
from services.agent.personas import Persona, PersonaError, load_persona

ROOT = Path(__file__).resolve().parents[4]
HEAD = "name: a\nprompt: x\nactions:\n"
HOOK = "  - {name: n, kind: webhook, keys: '1', url: 'https://a.example/b'"


def refused(tmp_path: Path, content: str) -> str:
    path = tmp_path / "one.yaml"
    path.write_text(HEAD + content)
    with pytest.raises(PersonaError) as error:
        load_persona(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        ("  - {name: n, kind: dance, keys: '1'}", "actions.0", "'transfer', 'hang_up', 'send_dtmf', 'webhook'"),
        ("  - {name: n, keys: '1'}", "actions.0", "kind"),
        ("  - {name: N!, kind: hang_up, keys: '1'}", "actions.0.hang_up.name", "match pattern"),
        ("  - {name: n, kind: hang_up}", "actions.0.hang_up", "needs phrases, a pattern or keys"),
        ("  - {name: n, kind: hang_up, keys: '1', target: x}", "actions.0.hang_up.target", "Extra inputs"),
        ("  - {name: n, kind: hang_up, phrases: ['...']}", "actions.0.hang_up.phrases", "no word"),
        ("  - {name: n, kind: hang_up, phrases: []}", "actions.0.hang_up", "needs phrases"),
        ("  - {name: n, kind: hang_up, pattern: '(a'}", "actions.0.hang_up.pattern", "RE2 takes: missing )"),
        ("  - {name: n, kind: hang_up, keys: 12A}", "actions.0.hang_up.keys", "match pattern"),
        ("  - {name: n, kind: hang_up, keys: '1#...#'}", "actions.0.hang_up.keys", "match pattern"),
        ("  - {name: n, kind: hang_up, keys: '1', when: later}", "actions.0.hang_up.when", "'now' or 'heard'"),
        ("  - {name: n, kind: transfer, keys: '1'}", "actions.0.transfer.target", "Field required"),
        ("  - {name: n, kind: transfer, keys: '1', target: Ann}", "actions.0.transfer.target", "a SIP URI (sip:desk@"),
        ("  - {name: n, kind: send_dtmf, phrases: [x], digits: 1x}", "actions.0.send_dtmf.digits", "match pattern"),
        (HOOK.replace("https", "ftp") + "}", "actions.0.webhook.url", "http:// or https://"),
        (HOOK.replace("a.example", "u:p@a.example") + "}", "actions.0.webhook.url", "no user or password"),
        (HOOK + ", timeout_s: 0}", "actions.0.webhook.timeout_s", "greater than or equal to 0.1"),
        (HOOK + ", timeout_s: 31}", "actions.0.webhook.timeout_s", "less than or equal to 30"),
        (HOOK + ", retries: 6}", "actions.0.webhook.retries", "less than or equal to 5"),
        (HOOK + ", method: DELETE}", "actions.0.webhook.method", "'POST', 'PUT' or 'GET'"),
        (HOOK + ", headers: {A: '${NOT_SET_ANYWHERE}'}}", "actions.0.webhook.headers", "NOT_SET_ANYWHERE is not set"),
        (HOOK + ", headers: {Host: a}}", "actions.0.webhook.headers", "any header name but"),
        (HOOK + ", headers: {'a b': a}}", "actions.0.webhook.headers", "'a b' cannot be set"),
        (HOOK + ', headers: {A: "a\\r\\nB: c"}}', "actions.0.webhook.headers", "one line"),
        ("  - {name: n, kind: hang_up, keys: '1'}\n" * 2, "actions", "two actions are named 'n'"),
        (
            "  - {name: n, kind: hang_up, keys: '1'}\n  - {name: m, kind: hang_up, keys: '1'}",
            "actions",
            "'m' and 'n' have the same keys '1'",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_key_and_what_is_allowed(
    tmp_path: Path, content: str, key: str, reason: str
) -> None:
    message = refused(tmp_path, content)
    assert f" {key}: " in message
    assert reason in message


def test_key_pause_has_bounds(tmp_path: Path) -> None:
    assert "key_pause_s" in refused(tmp_path, "  []\nkey_pause_s: 0\n")


def test_defaults_fit_the_kind() -> None:
    assert HangUp(name="n", kind="hang_up", keys="1").when is When.HEARD
    hook = Webhook(name="n", kind="webhook", keys="1", url="http://127.0.0.1:9/x")
    assert (hook.when, hook.method, hook.retries, hook.failure) == (When.NOW, "POST", 0, "")
    assert Transfer(name="n", kind="transfer", keys="1", target="+49301").failure


def test_a_target_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DESK", raising=False)
    assert Transfer(name="n", kind="transfer", keys="1", target="${DESK}").target == ""
    monkeypatch.setenv("DESK", "sip:desk@example.com")
    assert Transfer(name="n", kind="transfer", keys="1", target="${DESK}").target == "sip:desk@example.com"
    monkeypatch.setenv("DESK", "no address")
    with pytest.raises(ValueError, match="must be a SIP URI"):
        Transfer(name="n", kind="transfer", keys="1", target="${DESK}")


def test_a_secret_is_filled_in_late_and_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "s3cret")
    hook = Webhook(
        name="n", kind="webhook", keys="1", url="http://a.example", headers={"Authorization": "Bearer ${TOKEN_OF_TEST}"}
    )
    persona = Persona(name="a", prompt="x", actions=(hook,))
    stored = json.dumps(persona.model_dump(mode="json"))
    assert "s3cret" not in stored
    assert Persona.model_validate_json(stored) == persona
    assert with_secrets(hook.headers["Authorization"]) == "Bearer s3cret"
    monkeypatch.setenv("TOKEN_OF_TEST", "renewed")
    assert with_secrets(hook.headers["Authorization"]) == "Bearer renewed"


def test_the_default_persona_hangs_up_after_goodbye_and_connects_nobody_unless_told() -> None:
    persona = load_persona(ROOT / "personas" / "default.yaml")
    assert [(action.name, action.kind) for action in persona.actions] == [
        ("goodbye", "hang_up"),
        ("person", "transfer"),
    ]
