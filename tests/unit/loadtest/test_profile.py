import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.sim import profile as profiles
from loadtest.sim import report as reports
from loadtest.sim.profile import ProfileError
from loadtest.sim.report import ReportError
from tests.unit.loadtest.reports import profile, steps

NODE = {"name": "node", "cores": 2, "runs": ["agent", "tokenizer", "lm", "decoder"]}


def written(tmp_path: Path, record: Any) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(record))
    return path


def test_a_profile_with_gpus(tmp_path: Path) -> None:
    machines = [
        {"name": "agents", "cores": 8, "runs": ["agent"]},
        {"name": "speech", "gpus": 1, "runs": ["tokenizer", "decoder"]},
        {"name": "lm", "gpus": 2, "runs": ["lm"]},
    ]
    talk = {"question": {"median_s": 3, "sigma": 0.4}, "answer": {"median_s": 6}}
    load = {"arrivals_per_hour": 600}
    found = profiles.load(written(tmp_path, profile(machines=machines, talk=talk, load=load)))
    assert [machine.processors for machine in found.machines] == [8, 1, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machines": [{**NODE, "runs": ["agent", "tokenizer", "lm"]}]}, "decoder runs on 0 of the machines"),
        ({"machines": [NODE, {"name": "more", "gpus": 1, "runs": ["lm"]}]}, "lm runs on 2 of the machines"),
        ({"machines": [{**NODE, "gpus": 1}]}, "give cores or gpus"),
        ({"machines": [{**NODE, "cores": None, "gpus": 1}]}, "the agent computes on cores"),
        ({"machines": [{**NODE, "cores": 0}]}, "machines.0.cores"),
        ({"machines": []}, "machines"),
        ({"load": {}}, "give calls_at_once or arrivals_per_hour"),
        ({"load": {"calls_at_once": 2, "arrivals_per_hour": 3}}, "give calls_at_once or arrivals_per_hour"),
        ({"load": {"calls_at_once": 0}}, "load.calls_at_once"),
        ({"talk": {"pause_s": [2, 1]}}, "the least comes first"),
        ({"talk": {"question": {"median_s": 3}}}, "answer is given together with a question's length"),
        ({"talk": {"answer": {"median_s": 3}}}, "answer is given together with a question's length"),
        ({"talk": {"quesiton": "measured"}}, "talk.quesiton"),
        ({"target": {"percentile": 100}}, "target.percentile"),
        ({"leg": "fax"}, "leg"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path, profile(**changes))
    with pytest.raises(ProfileError) as raised:
        profiles.load(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["[", "just a word", ""])
def test_no_profile_at_all(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError):
        profiles.load(path)


def test_a_missing_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        profiles.load(tmp_path / "none.yaml")


def report(tmp_path: Path, record: Any) -> Path:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(record))
    return path


def test_a_report(tmp_path: Path) -> None:
    assert reports.load(report(tmp_path, {"steps": steps()})).lm.answering == 24


def test_a_report_of_other_figures_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="holds no step times; make such a report with: python -m loadtest measure"):
        reports.load(report(tmp_path, {"sections": []}))


def test_a_report_without_a_table_names_it(tmp_path: Path) -> None:
    record = steps()
    del record["lm"]["decode"]
    with pytest.raises(ReportError, match=r"lm\.decode: Field required"):
        reports.load(report(tmp_path, {"steps": record}))


def test_slowdown_begins_with_one(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="slowdown begins with 1"):
        reports.load(report(tmp_path, {"steps": {**steps(), "slowdown": [1.2]}}))


def test_no_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("{")
    with pytest.raises(ReportError, match="cannot be read as JSON"):
        reports.load(path)
