import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.scenario import model
from loadtest.scenario.model import Scenario, ScenarioError, load
from loadtest.scenario.questions import QuestionsError, questions, spoken

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))
LEAST: dict[str, Any] = {"name": "least", "phases": [{"kind": "constant", "per_minute": 6, "for_s": 10}]}


def write(path: Path, **more: Any) -> Path:
    path.write_text(yaml.safe_dump({**LEAST, **more}))
    return path


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_what_is_shipped_can_be_used(path: Path) -> None:
    scenario = load(path)
    assert scenario.name == path.stem
    assert questions(scenario.talk.questions)


def test_there_are_scenarios() -> None:
    assert {"office-hours", "soak", "barge-in", "faults"} <= {path.stem for path in SCENARIOS}


def test_questions_are_as_seen_from_the_file(tmp_path: Path) -> None:
    assert load(write(tmp_path / "s.yaml", talk={"questions": "asked"})).talk.questions == tmp_path / "asked"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "No Name"}, "name: "),
        ({"phases": []}, "phases: "),
        ({"phases": [{"kind": "trickle"}]}, "phases.0: Input tag 'trickle'"),
        ({"phases": [{"kind": "burst", "calls": 0, "every_s": 1, "for_s": 1}]}, "phases.0.calls: "),
        ({"phases": [{"kind": "ramp", "per_minute": [0, 0], "for_s": 1}]}, "one of both rates is above 0"),
        ({"legs": {"sip": 0}}, "one weight is above 0"),
        ({"legs": {"fax": 1}}, "legs.fax"),
        ({"talk": {"pause_s": "long"}}, "talk.pause_s: "),
        ({"talk": {"keys": {"digits": "1x"}}}, "talk.keys.digits: "),
        ({"faults": [{"kind": "drop", "share": 0.1, "for_s": 1}]}, "give at_s or every_s"),
        ({"faults": [{"kind": "kill", "service": "lm", "at_s": 1}]}, "set system.replicas to 2"),
        ({"targets": {"first_audio": 1}}, "targets.first_audio: Extra inputs"),
        ({"targets": {"correct": 1.5}}, "targets.correct: "),
    ],
)
def test_what_cannot_be_used_is_told_with_its_file_and_key(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "bad.yaml", **change)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "\x00"])
def test_no_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ScenarioError, match="cannot be read as YAML"):
        load(tmp_path / "bad.yaml")


def test_the_schema_knows_every_key() -> None:
    schema = json.loads(model.schema_text())
    assert schema["properties"].keys() == Scenario.model_fields.keys()


def test_the_samples_are_told_apart() -> None:
    found = {question.name: question for question in questions(ROOT / "samples")}
    assert found["opening-hours"].expects == ("nine to six", "ten to two")
    assert not found["opening-hours"].ends
    assert found["goodbye"].ends
    said = spoken(found["opening-hours"])
    assert 0.5 < said.seconds < 5
    assert abs(said.wave[:320]).max() > 0.009  # from the first sound on
    assert abs(said.wave[-320:]).max() > 0.009


def test_directories_that_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match="no recorded questions"):
        questions(tmp_path)
    (tmp_path / "questions.yaml").write_text("one: {says: One}")
    with pytest.raises(QuestionsError, match=r"there is no one\.wav"):
        questions(tmp_path)
    (tmp_path / "one.wav").write_bytes(b"no sound")
    with pytest.raises(QuestionsError, match="cannot be read"):
        spoken(questions(tmp_path)[0])
    (tmp_path / "questions.yaml").write_text("one: {expect: [a]}")
    with pytest.raises(QuestionsError, match=r"one\.expect: Extra inputs"):
        questions(tmp_path)
