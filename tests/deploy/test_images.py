"""What the Dockerfiles say, held against the repository and the code. No engine is needed."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.agent.legs.sip_workers.supervisor import PORT_STEP
from services.agent.settings import AgentSettings, split_address
from tests.deploy.dockerfiles import FOLDER, ROOT, Image, of_service, read
from tests.deploy.known import unknown
from tests.deploy.tools import ToolError, Tools, run

MODELS = ("tokenizer", "lm", "decoder")
OURS = ("agent", *MODELS)
NAMES = sorted(path.name.removesuffix(".Dockerfile") for path in FOLDER.iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROBE = ["python", "-m", "services.common.probe", "--address"]
VARIANTS = {
    "tokenizer": ("cpu", "cuda"),
    "lm": ("cpu", "cuda", "vllm"),
    "decoder": ("cpu", "cuda"),
    "triton": ("cpu", "cuda", "vllm"),
}
IMAGES: list[tuple[str, str, dict[str, str]]] = [(name, "", {}) for name in NAMES] + [
    (name, target, {"VARIANT": variant})
    for name, variants in VARIANTS.items()
    for variant in variants
    for target in ("mounted", "nano")
]


def hadolint(tools: Tools, path: Path) -> None:
    run(tools.hadolint, "--config", ROOT / ".hadolint.yaml", path)


@pytest.mark.parametrize("name", NAMES)
def test_a_linter_finds_nothing(tools: Tools, name: str) -> None:
    hadolint(tools, FOLDER / f"{name}.Dockerfile")


def test_the_linter_does_find(tools: Tools, tmp_path: Path) -> None:
    bad = tmp_path / "bad.Dockerfile"
    bad.write_text("FROM debian:latest\nRUN sudo pip install torch\n")
    with pytest.raises(ToolError, match=r"DL3004|DL3007|DL3013"):
        hadolint(tools, bad)


@pytest.mark.parametrize(("name", "target", "arguments"), IMAGES)
def test_all_that_is_copied_is_there_and_let_in(name: str, target: str, arguments: dict[str, str]) -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources, _ in of_service(name).image(target, **arguments).copied:
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in let_in), source


@pytest.mark.parametrize("name", NAMES)
def test_what_is_installed_is_declared(name: str) -> None:
    file = read(FOLDER / f"{name}.Dockerfile")
    names = {stage.name for stage in file.stages}
    for stage in file.stages:
        image = file.image(stage.name) if stage.name else file.image()
        there = {Path(path).name for path in image.files()}
        for command in image.runs:
            for extras in re.findall(r'"\.\[([^\]]+)\]"', command):
                assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
            for requirements in re.findall(r"--(?:requirement|constraint) requirements/(\S+)", command):
                assert requirements in there
        assert {of for of, _, _ in image.taken} <= names


def test_the_agent_has_no_torch_and_what_kubernetes_needs() -> None:
    installed = of_service("agent").image("installed").runs[-1]
    assert '".[agent,kubernetes]"' in installed
    declared = " ".join(PROJECT["optional-dependencies"]["agent"] + PROJECT["optional-dependencies"]["kubernetes"])
    assert not re.search(r"\b(torch|transformers|triton|vllm)", declared)


@pytest.mark.parametrize(("name", "target", "arguments"), IMAGES)
def test_it_is_no_root_and_says_what_it_is(name: str, target: str, arguments: dict[str, str]) -> None:
    image = of_service(name).image(target, **arguments)
    assert image.user == "10001:10001"
    assert image.labels["org.opencontainers.image.version"] == PROJECT["version"]
    assert {"title", "description", "revision"} <= {label.rpartition(".")[2] for label in image.labels}
    assert image.health
    assert image.entrypoint
    assert not image.command, "settings come from the environment, or behind the entry point"


@pytest.mark.parametrize(("name", "target", "arguments"), IMAGES)
def test_its_environment_is_of_settings(name: str, target: str, arguments: dict[str, str]) -> None:
    assert not unknown(name, of_service(name).image(target, **arguments).environment)


@pytest.mark.parametrize(("name", "target", "arguments"), [image for image in IMAGES if image[0] in VARIANTS])
def test_a_variant_runs_where_it_says_with_its_weights(name: str, target: str, arguments: dict[str, str]) -> None:
    image = of_service(name).image(target, **arguments)
    default = "cuda" if name == "triton" else "cpu"
    variant = arguments.get("VARIANT", default)
    for model in MODELS if name == "triton" else (name,):
        prefix = f"TRUNKLINE_{model.upper()}_"
        assert image.environment.get(f"{prefix}DEVICE", "cpu") == ("cpu" if variant == "cpu" else "cuda")
        weights = image.environment[f"{prefix}WEIGHTS"]
        if target == "nano":
            assert weights == f"/opt/trunkline/weights/nano/{model}"
            assert any(weights == path or weights.startswith(f"{path}/") for path in image.files())
        else:
            assert weights == (f"/weights/{model}" if name == "triton" else "/weights")
            assert not any("weights" in path for path in image.files())
    assert ("TRUNKLINE_LM_ENGINE" in image.environment) == (variant == "vllm")
    assert image.taken[0][0] == "installed"


@pytest.mark.parametrize("name", OURS)
def test_its_ports_are_those_it_listens_on(name: str) -> None:
    image = of_service(name).image()
    exposed = {port.removesuffix("/udp") for port in image.ports}
    listened = {str(split_address(value)[1]) for key, value in image.environment.items() if key.endswith("_LISTEN")}
    if name == "agent":
        settings = AgentSettings()
        first = split_address(image.environment["TRUNKLINE_AGENT_SIP_LISTEN"])[1]
        listened |= {str(first + PORT_STEP * worker) for worker in range(settings.sip_workers)}
        listened.add(settings.rtp_ports)
    assert exposed == listened
    assert image.health[:4] == PROBE
    listen = f"TRUNKLINE_{name.upper()}_LISTEN" if name != "agent" else "TRUNKLINE_AGENT_CALLS_LISTEN"
    assert split_address(image.health[4])[1] == split_address(image.environment[listen])[1]


def test_the_model_services_differ_in_their_model_alone() -> None:
    """Of five lines that follow each other in one file all are in the others, so that layers and fixes are common."""
    ports = {"tokenizer": "50051", "lm": "50052", "decoder": "50053"}
    texts = {}
    for name, port in ports.items():
        text = (FOLDER / f"{name}.Dockerfile").read_text().replace(port, "PORT")
        text = text.replace(f"services/{name}", "services/NAME").replace(f"services.{name}", "services.NAME")
        text = text.replace(f"nano/{name}", "nano/NAME").replace(f"TRUNKLINE_{name.upper()}_", "TRUNKLINE_NAME_")
        lines = [line for line in text.splitlines() if "image.title" not in line and "image.description" not in line]
        texts[name] = [line for line in lines if not line.startswith("#")]
    assert texts["tokenizer"] == texts["decoder"]
    more = [line for line in texts["lm"] if line not in texts["tokenizer"]]
    less = [line for line in texts["tokenizer"] if line not in texts["lm"]]
    assert all("vllm" in line or "apt" in line or "LM_ENGINE" in line or "NAME_ENGINE" in line for line in more), more
    assert less == ["COPY requirements/constraints.txt requirements/"]


def test_vllm_is_of_one_version() -> None:
    found = {
        re.search(r"^vllm(?:-cpu)?==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
        for name in ("vllm.txt", "vllm-gpu.txt")
    }
    assert len({match and match[1] for match in found}) == 1


def laid_out(image: Image, root: Path) -> Path:
    """What the image has from the repository, below `root`; its working directory."""
    for target, source in sorted(image.files().items()):
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source)
    return root / image.workdir.lstrip("/")


@pytest.mark.parametrize("name", OURS)
def test_its_own_files_are_enough_to_start(name: str, tmp_path: Path) -> None:
    image = of_service(name).image()
    workdir = laid_out(image, tmp_path)
    environment = {**os.environ, **image.environment, "PATH": os.environ["PATH"], "PYTHONPATH": str(workdir)}
    _, *entrypoint = image.entrypoint
    command = [sys.executable, *entrypoint, "--help"]
    done = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--listen" in done.stdout or "--calls-listen" in done.stdout
    # what is imported after the command line was read
    everything = f"import services.{name}.{'app' if name == 'agent' else 'build'}, services.common.probe, sys"
    more = f"{everything}; print([m.__file__ for k, m in sys.modules.items() if k.startswith('services.')])"
    command = [sys.executable, "-c", f"{more}; print('torch' in sys.modules)"]
    done = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files, torch = done.stdout.splitlines()
    assert files.count(str(workdir)) > 3, files
    assert name != "agent" or torch == "False"


def test_triton_has_the_models_and_their_code(tmp_path: Path) -> None:
    image = of_service("triton").image()
    workdir = laid_out(image, tmp_path)
    repository = image.entrypoint[1].removeprefix("--model-repository=")
    models = tmp_path / repository.lstrip("/")
    assert {path.name for path in models.iterdir()} == {path.name for path in (ROOT / "model_repo").iterdir()}
    code = "import services.tokenizer.triton_model, services.lm.triton_model, services.decoder.triton_model"
    environment = {**os.environ, "PYTHONPATH": str(workdir)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
