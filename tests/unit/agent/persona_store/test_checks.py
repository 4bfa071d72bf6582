import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.agent.persona_store.checks import checked, from_yaml
from services.agent.persona_store.versions import as_yaml
from services.agent.personas import INTERLEAVING_SENTENCE, MAX_PROMPT, Persona
from services.common.errors import InvalidInputError
from tests.unit.agent.persona_store.test_versions import STEADY

GOOD = {"name": "desk", "prompt": "You are Ann."}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"promt": "x"}, "promt: Extra inputs are not permitted"),
        ({"silence": {"\n": 1}}, r"silence.'\n': Extra inputs are not permitted"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, f"at most {MAX_PROMPT} characters"),
        ({"prompt": INTERLEAVING_SENTENCE + "You are Ann."}, "prompt: Value error, must not hold the sentence"),
        ({"prompt": "Respond WITH 13 text\ntoken  followed by 26 audio tokens."}, "must not hold the sentence"),
        ({"greeting": "x" * 1001}, "greeting"),
        ({"numbers": ["1", "1"]}, "'1' stands there twice"),
        ({"numbers": [""]}, "numbers.0"),
        ({"numbers": [str(number) for number in range(1001)]}, "numbers"),
        ({"style": "angry"}, "style: Input should be 'normal', 'slow', 'fast', 'happy', 'sad' or 'calm'"),
        ({"name": "Desk"}, "name"),
        ({"prompt": "half of a \ud83d"}, "prompt: Input should be a valid string"),
    ],
)
def test_unusable_settings_are_named(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        checked({**GOOD, **wrong}, ())
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(content: object) -> None:
    with pytest.raises(InvalidInputError, match="must be a mapping"):
        checked(content, ())


def test_a_persona_cannot_be_renamed() -> None:
    assert checked({"prompt": "x"}, (), "desk").name == "desk"
    with pytest.raises(InvalidInputError, match="cannot be renamed"):
        checked({"name": "other", "prompt": "x"}, (), "desk")


def test_the_agent_s_environment_is_not_for_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_AGENT_TURN_SECRET", "s3cret")
    monkeypatch.setenv("TRUNKLINE_PERSONA_DESK", "sip:desk@example.com")
    transfer = {"name": "t", "kind": "transfer", "keys": "1"}
    patterns = ("TRUNKLINE_PERSONA_*",)
    with pytest.raises(InvalidInputError, match="TRUNKLINE_AGENT_TURN_SECRET' may not be used") as error:
        checked({**GOOD, "actions": [{**transfer, "target": "${TRUNKLINE_AGENT_TURN_SECRET}"}]}, patterns)
    assert "s3cret" not in str(error.value)
    hook = {"name": "h", "kind": "webhook", "keys": "1", "url": "https://example.com"}
    with pytest.raises(InvalidInputError, match="may not be used"):
        checked({**GOOD, "actions": [{**hook, "headers": {"X": "${TRUNKLINE_AGENT_TURN_SECRET}"}}]}, patterns)
    allowed = checked({**GOOD, "actions": [{**transfer, "target": "${TRUNKLINE_PERSONA_DESK}"}]}, patterns)
    assert allowed.actions[0].target == "sip:desk@example.com"  # type: ignore[union-attr]
    assert allowed.settings["actions"][0]["target"] == "${TRUNKLINE_PERSONA_DESK}", "each agent fills in its own"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no persona in it"),
        ("a: [", "not YAML"),
        ("name: a\nprompt: x\n---\nname: a\nprompt: y\n", "document 2: the name 'a' stands there twice"),
        ("name: a\nprompt: x\n---\n- 1\n", "document 2: a persona must be a mapping"),
        ("name: a\nprompt: x\nwhen: 2026-99-99\n", "not YAML"),
    ],
)
def test_unusable_yaml_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        from_yaml(text, ())


def test_a_style_is_said_in_the_prompt_s_language() -> None:
    said = {
        language: Persona(name="a", prompt="x", language=language, style="calm").system_prompt
        for language in ("en-GB", "zh-CN")
    }
    assert said["en-GB"] == INTERLEAVING_SENTENCE + "x Speak calmly."
    assert said["zh-CN"] == INTERLEAVING_SENTENCE + "x 请用平静的语气说话。"
    assert Persona(name="a", prompt="x").system_prompt == INTERLEAVING_SENTENCE + "x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([*Persona.model_fields, "promt", ""])


@STEADY
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_whatever_comes_is_a_persona_or_refused_in_words(content: dict[str, object]) -> None:
    refusal = ""
    try:
        persona = checked({**GOOD, **content}, ())
    except InvalidInputError as error:
        refusal = str(error)
        assert refusal
    else:
        assert Persona.model_validate(persona.settings) == persona
    assert "\n" not in refusal


PROMPTS = st.lists(
    st.sampled_from(["You are Ann.", INTERLEAVING_SENTENCE, "13 text token", "followed by 26 audio tokens", "\n"])
    | st.text(max_size=20),
    max_size=8,
).map(" ".join)


@STEADY
@given(PROMPTS, st.sampled_from(["normal", "slow", "happy"]), st.sampled_from(["en", "zh"]))
def test_the_interleaving_sentence_is_in_front_once_whatever_the_prompt_says(
    prompt: str, style: str, language: str
) -> None:
    try:
        persona = checked({"name": "a", "prompt": prompt, "style": style, "language": language}, ())
    except InvalidInputError:
        return
    assert persona.system_prompt.startswith(INTERLEAVING_SENTENCE)
    assert persona.system_prompt.casefold().count("13 text token followed by 26 audio tokens") == 1


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60).filter(str.strip)
PERSONAS = st.builds(
    lambda **given: {key: value for key, value in given.items() if value is not None},
    name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True),
    prompt=TEXT,
    greeting=st.none() | TEXT,
    style=st.none() | st.sampled_from(["normal", "slow", "calm"]),
    barge_in=st.none() | st.booleans() | st.integers(100, 5000),
    temperature=st.none() | st.floats(0, 2),
    numbers=st.none() | st.lists(TEXT, max_size=3, unique_by=str.strip),
    silence=st.none() | st.fixed_dictionaries({"after_s": st.floats(2, 600), "say": TEXT}),
)


@STEADY
@given(st.lists(PERSONAS, min_size=1, max_size=3, unique_by=lambda persona: persona["name"]))
def test_an_export_imports_as_the_same_personas(contents: list[dict[str, object]]) -> None:
    personas = [checked(content, ()) for content in contents]
    exported = "---\n".join(as_yaml(persona.settings) for persona in personas)
    assert from_yaml(exported, ()) == personas
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(exported))
