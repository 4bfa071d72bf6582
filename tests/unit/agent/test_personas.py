from pathlib import Path

import pytest

from services.agent.personas import Persona, PersonaError, load_persona, load_personas, persona_for

ROOT = Path(__file__).resolve().parents[3]
SENTENCE = (
    "User will provide you with a speech instruction. Do it step by step. First, think about the instruction and respond "  # noqa: E501
    "in a interleaved manner, with 13 text token followed by 26 audio tokens. "
)
MINIMAL = "name: front-desk\nprompt: You are Ann.\n"


def write(directory: Path, content: str, name: str = "one.yaml") -> Path:
    path = directory / name
    path.write_text(content)
    return path


def test_the_default_persona_is_the_documented_one() -> None:
    persona = load_persona(ROOT / "personas" / "default.yaml")
    assert persona.name == "default"
    assert persona.system_prompt == (
        SENTENCE + "You are Mira at Harbour Parcel. We are open Monday to Friday from nine to six, Saturday from ten "
        "to two, closed on Sunday. Our address is twelve Quay Street. A small parcel costs four euros, a medium one "
        "seven, a large one eleven."
    )
    assert persona.greeting == "Hello, this is Mira at Harbour Parcel. How can I help you?"


def test_a_minimal_persona_gets_defaults(tmp_path: Path) -> None:
    persona = load_persona(write(tmp_path, MINIMAL))
    assert (persona.temperature, persona.top_p, persona.barge_in, persona.greeting) == (0.2, 0.8, True, "")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("name: a\n", "prompt: Field required"),
        ("name: a\nprompt: ''\n", "prompt"),
        ("name: a\nprompt: '   '\n", "prompt: Value error, must not be blank"),
        ("prompt: You are Ann.\n", "name: Field required"),
        (MINIMAL + "promt: typo\n", "promt: Extra inputs are not permitted"),
        (MINIMAL + "temperature: 3\n", "temperature"),
        (MINIMAL + "top_p: 0\n", "top_p"),
        (MINIMAL + "barge_in: sometimes\n", "barge_in"),
        ("name: Front Desk\nprompt: x\n", "name"),
        ("- a\n- b\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("name: [\n", "is not YAML"),
        ("name: \xff\x00\n", "is not YAML"),
    ],
)
def test_an_unusable_file_is_refused_with_its_name_and_reason(tmp_path: Path, content: str, complaint: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(PersonaError) as error:
        load_persona(path)
    assert str(path) in str(error.value)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PersonaError, match="cannot be read"):
        load_persona(path)


def test_a_directory_must_hold_the_default(tmp_path: Path) -> None:
    with pytest.raises(PersonaError, match="does not exist"):
        load_personas(tmp_path / "nowhere", "default")
    with pytest.raises(PersonaError, match="there are: none"):
        load_personas(tmp_path, "default")
    write(tmp_path, MINIMAL)
    with pytest.raises(PersonaError, match="there are: front-desk"):
        load_personas(tmp_path, "default")
    assert set(load_personas(tmp_path, "front-desk")) == {"front-desk"}


def test_names_and_numbers_are_unique(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL + "numbers: ['100']\n", "a.yaml")
    write(tmp_path, MINIMAL, "b.yaml")
    with pytest.raises(PersonaError, match="name 'front-desk' is taken"):
        load_personas(tmp_path, "front-desk")
    write(tmp_path, MINIMAL.replace("front-desk", "back") + "numbers: ['100']\n", "b.yaml")
    with pytest.raises(PersonaError, match="number '100' is answered by 'front-desk'"):
        load_personas(tmp_path, "front-desk")


@pytest.mark.parametrize(
    ("to", "name"),
    [("sip:100@example.com", "desk"), ("100", "desk"), ("sip:101@example.com", "default"), ("web", "default")],
)
def test_the_called_number_picks_the_persona(to: str, name: str) -> None:
    personas = {
        "default": Persona(name="default", prompt="x"),
        "desk": Persona(name="desk", prompt="y", numbers=("100",)),
    }
    assert persona_for(to, personas, "default").name == name
