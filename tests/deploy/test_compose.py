"""docker-compose.yml as Compose resolves it, held against the images and the code. No engine is needed."""

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.agent.replicas.discovery import Targets
from services.agent.settings import AgentSettings, split_address
from services.common.settings import ModelServiceSettings
from tests.deploy.compose import Service, resolved, seconds, services
from tests.deploy.dockerfiles import ROOT, Image, of_service
from tests.deploy.known import unknown
from tests.deploy.test_images import PROJECT
from tests.deploy.tools import Tools, run

COMPOSE = ROOT / "docker-compose.yml"
PROFILES = ("cpu", "gpu", "edge", "observability")
OF_PROFILES = {
    "": {"agent", "redis"},
    "cpu": {"tokenizer", "lm", "decoder"},
    "gpu": {"triton", "tokenizer-at-triton", "lm-at-triton", "decoder-at-triton"},
    "edge": {"kamailio", "coturn"},
    "observability": {"prometheus", "otel-collector"},
}
COMBINATIONS = [chosen for count in range(1, len(PROFILES) + 1) for chosen in itertools.combinations(PROFILES, count)]
DRAIN_MARGIN_S = 10.0  # what an agent takes to end beyond its drain
YAMLLINT = """
extends: default
rules:
  line-length: {max: 120}
  document-start: disable
  comments: {min-spaces-from-content: 2}
  braces: {max-spaces-inside: 1}
"""


@pytest.fixture(scope="module")
def project(tools: Tools) -> dict[str, Any]:
    """With every profile at once, to look at all services."""
    return resolved(tools, *PROFILES)


@pytest.fixture(scope="module")
def all_services(project: dict[str, Any]) -> dict[str, Service]:
    return services(project)


def image_of(service: Service) -> Image | None:
    """Of a service that is ours, as the compose file has it built."""
    build = service.get("build")
    if not build:
        return None
    given = {key: value for key, value in (build.get("args") or {}).items() if value is not None}
    return of_service(name_of(service)).image(**given)


def name_of(service: Service) -> str:
    return Path(service["build"]["dockerfile"]).name.removesuffix(".Dockerfile")


def environment_of(service: Service) -> dict[str, str]:
    image = image_of(service)
    told = {key: str(value) for key, value in (service.get("environment") or {}).items()}
    return {**(image.environment if image else {}), **told}


def known_as(all_services: dict[str, Service], name: str, asker: Service) -> list[Service]:
    """Services that the asker reaches under a name."""
    found = []
    for own, service in all_services.items():
        for network, settings in service["networks"].items():
            if network in asker["networks"] and name in (own, *((settings or {}).get("aliases") or [])):
                found.append(service)
                break
    return found


@pytest.mark.parametrize("chosen", COMBINATIONS, ids="+".join)
def test_every_combination_of_profiles_is_valid(tools: Tools, chosen: tuple[str, ...]) -> None:
    expected = OF_PROFILES[""].union(*(OF_PROFILES[profile] for profile in chosen))
    assert services(resolved(tools, *chosen)).keys() == expected


def test_without_a_profile_it_is_nano_on_the_processors(tools: Tools) -> None:
    default = resolved(tools)
    assert services(default) == services(resolved(tools, "cpu"))
    for name in "tokenizer", "lm", "decoder":
        [weights] = services(default)[name]["volumes"]
        assert Path(weights["source"]) == ROOT / "weights" / "nano" / name
        assert weights["target"] == environment_of(services(default)[name])[f"TRUNKLINE_{name.upper()}_WEIGHTS"]


def test_every_service_is_confined(all_services: dict[str, Service]) -> None:
    for name, service in all_services.items():
        image = image_of(service)
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "coturn" else []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        user = service.get("user") or (image.user if image else "")
        # the images of these two are nobody's from the start
        assert user.split(":")[0] not in ("", "0") or name in ("prometheus", "otel-collector"), name
        limits = service["deploy"]["resources"]["limits"]
        assert "pids" in limits, name
        assert "memory" in limits or name == "triton", name
        assert service["logging"] == {"driver": "local"}, name
        assert service["restart"] == "unless-stopped", name
        assert (image and image.health) or service.get("healthcheck") or name == "otel-collector", name


def test_who_waits_for_health_waits_for_one_that_has_it(all_services: dict[str, Service]) -> None:
    for service in all_services.values():
        for needed, how in service.get("depends_on", {}).items():
            other = all_services[needed]
            image = image_of(other)
            if how["condition"] == "service_healthy":
                assert (image and image.health) or other.get("healthcheck"), needed
            # what only some profiles have must not be missed in others
            assert how["required"] != bool(other.get("profiles")) or service.get("profiles"), needed


def test_nothing_is_stopped_before_it_has_drained(tools: Tools, all_services: dict[str, Service]) -> None:
    agent = all_services["agent"]
    drain = float(environment_of(agent)["TRUNKLINE_AGENT_DRAIN_SECONDS"])
    assert seconds(agent["stop_grace_period"]) >= drain + DRAIN_MARGIN_S
    longest = ModelServiceSettings.model_fields["drain_seconds"].default
    for model in OF_PROFILES["cpu"] | OF_PROFILES["gpu"]:
        assert seconds(all_services[model]["stop_grace_period"]) > longest
    # and what calls need stays until the agent is gone
    assert agent["depends_on"].keys() == all_services.keys() - {"agent", "triton", "prometheus", "otel-collector"}
    for model in OF_PROFILES["gpu"] - {"triton"}:
        assert "triton" in all_services[model]["depends_on"]


def test_every_variable_is_one_that_the_service_reads(all_services: dict[str, Service]) -> None:
    for name, service in all_services.items():
        reader = name_of(service) if image_of(service) else name
        if service.get("environment"):
            assert not unknown(reader, environment_of(service)), name


def test_the_values_are_taken(all_services: dict[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(all_services["agent"]).items():
        if name.startswith("TRUNKLINE_"):
            monkeypatch.setenv(name, value)
    settings = AgentSettings()
    assert settings.redis_url == "redis://redis:6379/0"
    ports = [port["target"] for port in all_services["agent"]["ports"]]
    first, last = settings.rtp_range
    assert set(range(first, last + 1)) <= set(ports)
    assert split_address(settings.http_listen)[1] in ports
    assert split_address(settings.sip_listen)[1] in ports
    assert last - first + 1 >= 4 * settings.capacity


@pytest.mark.parametrize("compute", ["cpu", "gpu"])
def test_the_agent_finds_each_model_where_it_listens(tools: Tools, compute: str) -> None:
    found = services(resolved(tools, compute))
    agent = found["agent"]
    for model in "tokenizer", "lm", "decoder":
        targets = environment_of(agent)[f"TRUNKLINE_AGENT_{model.upper()}"]
        Targets.parse(targets)
        name, port = targets.removeprefix("dns:").split(":")
        [service] = known_as(found, name, agent)
        assert name_of(service) == model
        listen = environment_of(service)[f"TRUNKLINE_{model.upper()}_LISTEN"]
        assert split_address(listen)[1] == int(port)
        assert service["secrets"] == [one for one in agent["secrets"] if one["source"] == "grpc-token"]
        if compute == "gpu":
            url = environment_of(service)[f"TRUNKLINE_{model.upper()}_TRITON_URL"]
            [triton] = known_as(found, url.split(":")[0], service)
            image = image_of(triton)
            assert image is not None
            assert url.split(":")[1] in image.ports


def test_who_reaches_what(project: dict[str, Any], all_services: dict[str, Service]) -> None:
    def members(network: str) -> set[str]:
        return {name for name, service in all_services.items() if network in service["networks"]}

    assert members("state") == {"agent", "redis"}
    assert members("triton") == OF_PROFILES["gpu"] | OF_PROFILES["observability"]
    inner = {name for name, network in project["networks"].items() if network.get("internal")}
    assert inner == {"state", "models", "triton"}
    assert members("models") & {"kamailio", "coturn", "redis"} == set()
    # internal networks publish nothing
    assert all("outside" in service["networks"] for service in all_services.values() if service.get("ports"))
    assert {port["host_ip"] for service in all_services.values() for port in service.get("ports", [])} == {"127.0.0.1"}


def test_no_port_of_this_machine_is_taken_twice(all_services: dict[str, Service]) -> None:
    taken = [
        (port["published"], port["protocol"]) for service in all_services.values() for port in service.get("ports", [])
    ]
    assert len(taken) == len(set(taken))


def test_coturn_relays_on_the_ports_that_are_published_and_to_the_agent(all_services: dict[str, Service]) -> None:
    coturn = all_services["coturn"]
    told = environment_of(coturn)
    relayed = set(range(int(told["TRUNKLINE_TURN_MIN_PORT"]), int(told["TRUNKLINE_TURN_MAX_PORT"]) + 1))
    assert {port["target"] for port in coturn["ports"]} == relayed | {3478}
    assert told["TRUNKLINE_TURN_PEERS"] == all_services["agent"]["networks"]["outside"]["ipv4_address"]


def test_images_have_this_version(all_services: dict[str, Service]) -> None:
    for service in all_services.values():
        repository, _, tag = service["image"].rpartition(":")
        assert tag not in ("", "latest")
        if image_of(service):
            assert (repository, tag) == (f"trunkline/{name_of(service)}", PROJECT["version"])
        assert "." not in service["image"].split("/")[0] or "/" not in service["image"], "a registry's name"


def test_what_is_mounted_is_there(all_services: dict[str, Service]) -> None:
    for service in all_services.values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), volume["source"]
                assert volume["read_only"], volume["source"]


def test_the_secrets_are_made_once(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    project = resolved(tools, TRUNKLINE_SECRETS=str(folder))
    subprocess.run([ROOT / "scripts" / "secrets.sh", folder], check=True)
    made = {path: path.read_text() for path in folder.iterdir()}
    assert {str(path) for path in made} == {secret["file"] for secret in project["secrets"].values()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in made)
    lengths = {path.name: len(text) for path, text in made.items()}
    assert {lengths[name] for name in ("grpc-token", "redis-password", "turn-secret")} == {64}
    subprocess.run([ROOT / "scripts" / "secrets.sh", folder], check=True)
    assert made == {path: path.read_text() for path in folder.iterdir()}


def test_the_example_names_every_variable_with_its_default() -> None:
    used = set(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE.read_text()))
    passed_on = set(re.findall(r"^ +(TRUNKLINE_\w+):$", COMPOSE.read_text(), re.MULTILINE))
    example = (ROOT / ".env.example").read_text()
    shown = set(re.findall(r"^#(\w+)=(.*)$", example, re.MULTILINE))
    defaults = (ROOT / ".env").read_text()
    assert [line for line in defaults.splitlines() if not line.startswith("#")] == ["COMPOSE_PROFILES=cpu"]
    assert shown == used | {(name, "") for name in passed_on} | {("COMPOSE_PROFILES", "cpu")}


def test_yaml_is_tidy(tools: Tools) -> None:
    files = [COMPOSE, *(ROOT / "deploy").rglob("*.y*ml")]
    run(tools.yamllint, "--strict", "--config-data", YAMLLINT, *files)


def test_prometheus_takes_its_configuration(promtool: Path) -> None:
    run(promtool, "check", "config", ROOT / "deploy" / "prometheus" / "prometheus.yml")


def test_prometheus_reaches_all_metrics(all_services: dict[str, Service]) -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    reached: dict[str, int] = {}
    for job in configuration["scrape_configs"]:
        for discovery in job.get("dns_sd_configs", []):
            for name in discovery["names"]:
                found = known_as(all_services, name, all_services["prometheus"])
                assert found, name
                for service in found:
                    reached[next(key for key, value in all_services.items() if value is service)] = discovery["port"]
    wanted = {
        name: split_address(environment_of(service)["TRUNKLINE_METRICS_LISTEN"])[1]
        for name, service in all_services.items()
        if "TRUNKLINE_METRICS_LISTEN" in environment_of(service)
    }
    collector = yaml.safe_load((ROOT / "deploy" / "otel-collector" / "config.yaml").read_text())
    [reader] = collector["service"]["telemetry"]["metrics"]["readers"]
    wanted["otel-collector"] = reader["pull"]["exporter"]["prometheus"]["port"]
    wanted["triton"] = 8002
    assert reached == wanted


def test_the_collectors_pipelines_use_what_is_configured(all_services: dict[str, Service]) -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "otel-collector" / "config.yaml").read_text())
    [pipeline] = configuration["service"]["pipelines"].values()
    for kind in "receivers", "processors", "exporters":
        assert set(pipeline[kind]) == configuration[kind].keys()
    for name in "agent", *OF_PROFILES["cpu"], *OF_PROFILES["gpu"]:
        assert known_as(all_services, "otel-collector", all_services[name])
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in environment_of(all_services[name])
