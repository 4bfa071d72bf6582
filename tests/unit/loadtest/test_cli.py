import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from loadtest.callers import Level
from loadtest.check import Compared, page, planned
from loadtest.cli import app
from loadtest.planning import Plan
from loadtest.results.record import written
from loadtest.sim import profile as profiles
from loadtest.sim.profile import Profile
from loadtest.sim.run import Outcome
from tests.unit.loadtest.reports import profile, steps
from tests.unit.loadtest.runs import many


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    report, wanted = tmp_path / "steps.json", tmp_path / "calls.yaml"
    report.write_text(json.dumps({"steps": steps()}))
    wanted.write_text(yaml.safe_dump(profile(target={"first_audio_s": 0.5})))  # few calls: a short search
    return {"report": report, "profile": wanted, "out": tmp_path / "out" / "plan"}


def made(files: dict[str, Path], *more: str) -> tuple[int, str, str]:
    report, wanted = str(files["report"]), str(files["profile"])
    return run("plan", "--report", report, "--profile", wanted, "--turns", "40", *more)


def test_a_plan_is_a_table_json_and_a_plot(files: dict[str, Path]) -> None:
    status, said, _ = made(files, "--out", str(files["out"]))
    assert status == 0
    assert "node" in said
    record = json.loads(files["out"].with_suffix(".json").read_text())
    assert record["replicas"] == {"node": 1}
    assert record["chosen"] in record["curve"]
    assert files["out"].with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_command_line_has_the_last_word_on_the_target(files: dict[str, Path]) -> None:
    status, _, error = made(files, "--target-first-audio", "0.05")
    assert status == 2
    assert "the target is 0.05 s" in error


def test_sizes_beyond_the_report_are_warned_of(files: dict[str, Path]) -> None:
    record = steps()
    record["lm"]["prefill"] |= {"rows": [1], "seconds": [[0.004, 0.005]]}
    files["report"].write_text(json.dumps({"steps": record}))
    status, _, error = made(files)
    assert status == 0
    assert "warning: lm.prefill: tokens up to" in error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"load": {"calls_at_once": 0}}, "load.calls_at_once"),
        ({"leg": "webrtc"}, "holds no costs of webrtc calls, only of sip"),
    ],
)
def test_bad_profiles_end_with_one_line(files: dict[str, Path], change: dict[str, Any], said: str) -> None:
    files["profile"].write_text(yaml.safe_dump(profile(**change)))
    status, _, error = made(files)
    assert status == 2
    assert error.startswith("loadtest: error:")
    assert error.count("\n") == 1
    assert said in error


def test_the_engines_report_is_told_apart(files: dict[str, Path]) -> None:
    engines = Path(__file__).resolve().parents[3] / "docs" / "benchmarks" / "engines.json"
    status, _, error = run("plan", "--report", str(engines), "--profile", str(files["profile"]))
    assert status == 2
    assert "python -m loadtest measure" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calls", "1,x"], "--calls 1,x"),
        (["--calls", "0"], "--calls 0"),
        (["--target", "nowhere"], "--target nowhere"),
        (["--target", "host:99999"], "HOST:PORT is wanted"),
        (["--samples", "/nonexistent"], "holds no recorded questions"),
    ],
)
def test_bad_arguments_of_run(arguments: list[str], said: str) -> None:
    status, _, error = run("run", *arguments)
    assert status == 2
    assert said in error


@pytest.mark.parametrize("calls", ["1", "1:0", "0:5", "65:5", "a:b", ""])
def test_bad_levels_of_check(calls: str) -> None:
    status, _, error = run("check", "--calls", calls)
    assert status == 2
    assert "pairs CALLS:SECONDS" in error


def test_a_check_says_what_is_within_a_quarter() -> None:
    predicted = Outcome(2, 100, 0.5, 0.6, {"node": 0.2}, {}, 0.0, 0)
    good, bad = Level(2, [0.5] * 19 + [0.6]), Level(2, [0.5] * 10 + [0.9] * 10)
    assert Compared(predicted, good).within
    assert not Compared(predicted, bad).within
    assert not Compared(predicted, Level(2)).within
    found = Plan(20, {"node": 10}, (predicted,), predicted, ())
    lines = planned(found, Profile.model_validate(profile()))
    text = page([Compared(predicted, good), Compared(predicted, bad)], "here", "there", 1.0, ["too far"], lines)
    assert "2 calls at once, when 95 % of answers" in text
    assert "20 calls take 10 such machines" in text
    assert text.count("| yes |") == 1
    assert text.count("| no |") == 1
    assert "- too far" in text


@pytest.mark.parametrize("name", ["small-machine", "gpus"])
def test_the_profiles_that_come_with_it_are_valid(name: str) -> None:
    profiles.load(Path(profiles.__file__).parents[1] / "profiles" / f"{name}.yaml")


SCENARIO = {"name": "one", "phases": [{"kind": "burst", "calls": 1, "every_s": 1, "for_s": 1}]}


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ({"phases": 3}, [], "phases: "),
        ({"legs": {"webrtc": 1}}, [], "--page http://HOST:PORT"),
        ({"talk": {"questions": "."}}, [], "no recorded questions"),
        ({"faults": [{"kind": "kill", "service": "lm", "at_s": 1}], "system": {"replicas": {"lm": 2}}}, [], "--start"),
        ({}, ["--calls", "1,2"], "how many calls in all"),
        ({}, ["--find-capacity", "4"], "--find-capacity needs one"),
    ],
)
def test_scenarios_that_cannot_be_run_end_with_one_line(
    tmp_path: Path, change: dict[str, Any], arguments: list[str], said: str
) -> None:
    path = tmp_path / "one.yaml"
    talk = {"questions": str(Path(__file__).resolve().parents[3] / "samples")}
    path.write_text(yaml.safe_dump({**SCENARIO, "talk": talk, **change}))
    status, _, error = run("run", str(path), "--target", "127.0.0.1:9", *arguments)
    assert status == 2
    assert error.startswith("loadtest: error:")
    assert error.count("\n") == 1
    assert said in error


def test_what_goes_with_a_scenario_only() -> None:
    assert run("run", "--start")[0] == 2


def test_runs_are_compared(tmp_path: Path) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_text(written(many(1), {}))
    after.write_text(written(many(2, 0.9), {}))
    status, said, _ = run("compare", str(before), str(after))
    assert status == 0
    assert "worse: first audio" in said
    assert run("compare", str(before), str(after), "--fail-on-worse")[0] == 1
    assert run("compare", str(after), str(after), "--fail-on-worse")[0] == 0
    status, _, error = run("compare", str(before), str(tmp_path / "none.json"))
    assert (status, error.count("\n")) == (2, 1)


def test_the_schema_is_printed() -> None:
    status, said, _ = run("schema")
    assert status == 0
    assert json.loads(said)["title"] == "Scenario"
