"""The chart says what the code says: settings and their values, ports, probes, grace periods, permissions."""

import datetime
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from services.agent import app, kube
from services.agent.carriers.settings import CarrierSettings
from services.agent.legs.sip_workers.supervisor import PORT_STEP
from services.agent.replicas.discovery import Targets
from services.agent.settings import AgentSettings, split_address
from services.common import probe
from services.common.security import GrpcSecurity
from services.common.settings import load
from services.common.telemetry.settings import TelemetrySettings
from services.decoder import build as decoder_build
from services.decoder import triton_model as decoder_triton
from services.lm import build as lm_build
from services.lm import triton_model as lm_triton
from services.tokenizer import build as tokenizer_build
from services.tokenizer import triton_model as tokenizer_triton
from tests.deploy.cases import CASES, documented
from tests.deploy.objects import MODELS, containers, environment, is_selected, pods
from tests.deploy.tools import ROOT, Object
from tests.integration.kube_server import LEASES, POD, PODS, kube_server

SETTINGS: dict[str, type[BaseSettings]] = {
    "agent": AgentSettings,
    "tokenizer": tokenizer_build.Settings,
    "lm": lm_build.Settings,
    "decoder": decoder_build.Settings,
}
AT_TRITON: dict[str, type[BaseSettings]] = {
    "tokenizer": tokenizer_triton.TritonSettings,
    "lm": lm_triton.TritonSettings,
    "decoder": decoder_triton.TritonSettings,
}
OF_ALL: tuple[type[BaseSettings], ...] = (GrpcSecurity, TelemetrySettings)
# the rest of what agents read: app.py, and variables that personas name
OF_AGENTS = re.compile(r"POD_NAME|REDIS_URL|TRUNKLINE_PERSONA_\w+|TRUNKLINE_TRANSFER_TARGET")
# the SDK's: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
OF_OPENTELEMETRY = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
Render = Callable[[str], list[Object]]
Environment = dict[str, str]


def variables(cls: type[BaseSettings]) -> set[str]:
    prefix = cls.model_config.get("env_prefix", "")
    return {f"{prefix}{name}".upper() for name in cls.model_fields}


def ours(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Name, container and pod of every container that runs our code."""
    for _, pod in pods(objects):
        for container in containers(pod):
            if container["name"] in (*SETTINGS, "triton"):
                yield container["name"], container, pod


def readers(name: str, given: Environment) -> list[type[BaseSettings]]:
    """The settings that a container's code reads."""
    if name == "triton":
        served = [model for model in MODELS if f"TRUNKLINE_{model.upper()}_WEIGHTS" in given]
        return [*(AT_TRITON[model] for model in served), TelemetrySettings]
    return [SETTINGS[name], *OF_ALL, *([CarrierSettings] if name == "agent" else [])]


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Environment], None]:
    """Makes this process's environment that of a container."""

    def replace(given: Environment) -> None:
        for name in os.environ:
            if name.startswith(("TRUNKLINE_", "OTEL_")):
                monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return replace


@pytest.mark.parametrize("name", CASES)
def test_every_variable_is_a_setting_that_takes_its_value(
    render: Render, name: str, set_environment: Callable[[Environment], None]
) -> None:
    seen = set()
    for service, container, _ in ours(render(name)):
        given = environment(container)
        set_environment(given)
        classes = readers(service, given)
        known = set().union(*map(variables, classes), OF_OPENTELEMETRY, {"POD_UID"})
        unknown = {variable for variable in given if variable not in known}
        if service == "agent":
            unknown = {variable for variable in unknown if not OF_AGENTS.fullmatch(variable)}
        assert not unknown, f"{service} reads none of these"
        for cls in classes:
            cls()
        security = GrpcSecurity.read()
        if service != "triton":
            settings: Any = SETTINGS[service]()
            security.check_exposure(settings.calls_listen if service == "agent" else settings.listen)
        seen.add(service)
    assert set(SETTINGS) <= seen


@pytest.mark.parametrize("name", CASES)
def test_ports_are_those_that_the_processes_listen_on(
    render: Render, name: str, set_environment: Callable[[Environment], None]
) -> None:
    for service, container, pod in ours(render(name)):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        if service == "triton":
            continue
        set_environment(environment(container))
        settings: Any = SETTINGS[service]()
        metrics = TelemetrySettings.read().metrics_address
        expected: dict[str, int] = {} if metrics is None else {next(p for p in ports if p.startswith("m")): metrics[1]}
        if service == "agent":
            expected |= {"http": split_address(settings.http_listen)[1]}
            expected |= {"calls": split_address(settings.calls_listen)[1]}
            for worker in range(settings.sip_workers if settings.sip_listen else 0):
                port = split_address(settings.sip_listen)[1] + PORT_STEP * worker
                for transport in settings.sip_transports.split(","):
                    expected[f"sip-{transport}-{worker}"] = port + (transport == "tls")
        else:
            expected |= {service: split_address(settings.listen)[1]}
        assert ports == expected
        if pod["spec"].get("hostNetwork"):
            assert all(port["hostPort"] == port["containerPort"] for port in container["ports"])


@pytest.mark.parametrize("name", CASES)
def test_containers_of_a_pod_have_no_port_in_common(render: Render, name: str) -> None:
    for _, pod in pods(render(name)):
        every = [
            (port["containerPort"], port.get("protocol", "TCP"))
            for container in containers(pod)
            for port in container.get("ports", [])
        ]
        assert len(every) == len(set(every))


@pytest.mark.parametrize("name", CASES)
def test_agents_find_the_models(render: Render, name: str, set_environment: Callable[[Environment], None]) -> None:
    objects = render(name)
    services = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Service"}
    [agent] = [container for service, container, _ in ours(objects) if service == "agent"]
    set_environment(environment(agent))
    settings = AgentSettings()
    for model in MODELS:
        [(host, port)] = Targets.parse(getattr(settings, model)).names
        assert services[host]["clusterIP"] == "None"
        [entry] = services[host]["ports"]
        assert (entry["port"], entry["targetPort"]) == (port, model)
        serving = [
            pod
            for service, _, pod in ours(objects)
            if service == model and is_selected(pod, services[host]["selector"])
        ]
        assert len(serving) == 1
        [listening] = [container for container in containers(serving[0]) if container["name"] == model]
        assert {"name": model, "containerPort": port} in listening["ports"]


def test_defaults_are_those_of_the_code() -> None:
    values, agent = documented(), AgentSettings()
    assert values["agent"]["drainSeconds"] == agent.drain_seconds
    assert values["agent"]["drainNoticeSeconds"] == agent.drain_notice_seconds
    assert values["agent"]["capacity"] == agent.capacity
    assert values["agent"]["sip"]["workers"] == agent.sip_workers
    assert (values["agent"]["rtp"]["first"], values["agent"]["rtp"]["last"]) == agent.rtp_range
    assert values["agent"]["webrtc"]["resumeSeconds"] == agent.resume_seconds
    drain_seconds = {cls.model_fields["drain_seconds"].default for model, cls in SETTINGS.items() if model in MODELS}
    assert drain_seconds == {values["models"]["drainSeconds"]}
    lease_seconds = {cls.model_fields["lease_s"].default for cls in AT_TRITON.values()}
    assert lease_seconds == {values["triton"]["leaseSeconds"]}


@pytest.mark.parametrize("name", CASES)
def test_pods_are_given_the_time_to_drain(
    render: Render, name: str, set_environment: Callable[[Environment], None]
) -> None:
    for service, container, pod in ours(render(name)):
        if service == "triton":
            assert container["restartPolicy"] == "Always", "a sidecar ends after the services in front of it"
            continue
        set_environment(environment(container))
        settings: Any = SETTINGS[service]()
        before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        # what comes after the drain: last words of streams, the Lease, the recordings
        longest = int(before[1]) + settings.drain_seconds + 2 * app.GRACE_S + kube.REQUEST_S
        assert pod["spec"]["terminationGracePeriodSeconds"] > longest


@pytest.mark.parametrize("name", CASES)
def test_grpc_is_probed_where_it_is_served(
    render: Render, name: str, monkeypatch: pytest.MonkeyPatch, set_environment: Callable[[Environment], None]
) -> None:
    objects = render(name)
    certificates = {
        item["spec"]["secretName"]: item["spec"]["dnsNames"] for item in objects if item["kind"] == "Certificate"
    }
    for service, container, pod in ours(objects):
        if service not in MODELS:
            continue
        set_environment(environment(container))
        settings: Any = SETTINGS[service]()
        port, security = split_address(settings.listen)[1], GrpcSecurity.read()
        assert container["livenessProbe"]["tcpSocket"] == {"port": port}
        for kind in ("startupProbe", "readinessProbe"):
            if security.certificate is None:
                assert container[kind]["grpc"] == {"port": port}
                continue
            command = container[kind]["exec"]["command"]
            assert command[:3] == ["python", "-m", probe.__name__]
            monkeypatch.setattr("sys.argv", command[2:])
            asked = load(probe.ProbeSettings, "probe")
            assert split_address(asked.address) == ("127.0.0.1", port)
            assert asked.timeout < container[kind]["timeoutSeconds"]
            if certificates:
                [mount] = [one for one in container["volumeMounts"] if one["mountPath"] == "/run/secrets/grpc"]
                [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == mount["name"]]
                assert asked.server_name in certificates[volume["secret"]["secretName"]]


@pytest.mark.parametrize("name", CASES)
def test_start_up_probes_outlast_what_the_processes_wait_for(
    render: Render, name: str, set_environment: Callable[[Environment], None]
) -> None:
    for service, container, _ in ours(render(name)):
        patience = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
        given = environment(container)
        set_environment(given)
        if service == "agent":
            assert patience > AgentSettings().wait_for_models
        elif given.get(f"TRUNKLINE_{service.upper()}_BACKEND") == "triton":
            settings: Any = SETTINGS[service]()
            assert patience >= settings.wait_for_triton


@pytest.mark.parametrize("name", CASES)
def test_files_that_settings_name_are_mounted(
    render: Render, name: str, set_environment: Callable[[Environment], None]
) -> None:
    baked = Path("/opt/trunkline")  # what images hold
    for service, container, _ in ours(render(name)):
        given = environment(container)
        set_environment(given)
        mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        for cls in readers(service, given):
            settings = cls()
            for field in sorted(cls.model_fields):
                value = getattr(settings, field)
                named = f"{cls.model_config.get('env_prefix', '')}{field}".upper() in given
                if named and isinstance(value, Path):
                    assert any(value.is_relative_to(mount) for mount in (*mounts, baked)), f"{field}: {value}"


VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}


def test_the_role_allows_what_the_agent_asks_for_and_no_more(render: Render, tmp_path: Path) -> None:
    with kube_server(tmp_path) as server:
        first = kube.Pod(server.account, server.environ, POD, "first")
        now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        first.renew(now)  # reads the Lease, which is not there; reads the pod, and creates it
        first.renew(now)  # replaces it
        second = kube.Pod(server.account, server.environ, POD, "second")
        second.renew(now)  # reads and replaces another's
        second.cost(1)
        second.release()
        first.close()
        second.close()
        asked = set()
        for line in server.asked:
            method, path = line.split(" ", 1)
            resource = "pods" if path.startswith(PODS) else "leases"
            assert path.startswith((PODS, LEASES)), path
            assert VERBS[method] != "get" or path not in (PODS, LEASES), "that is a list"
            asked.add(("" if resource == "pods" else "coordination.k8s.io", resource, VERBS[method]))
    [role] = [item for item in render("default") if item["kind"] == "Role"]
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == asked


@pytest.mark.parametrize("name", CASES)
def test_only_agents_have_a_token_and_a_role(render: Render, name: str) -> None:
    objects = render(name)
    kinds = {item["kind"] for item in objects}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}
    [binding] = [item for item in objects if item["kind"] == "RoleBinding"]
    for component, pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is (component == "agent")
        if component == "agent":
            assert [subject["name"] for subject in binding["subjects"]] == [pod["spec"]["serviceAccountName"]]


def test_the_edge_and_coturn_are_told_what_they_read(render: Render) -> None:
    known = re.findall(r"#!trydefenvs? \w+=(\w+)", (ROOT / "deploy" / "kamailio" / "kamailio.cfg").read_text())
    known += re.findall(r"\$\{(TRUNKLINE_\w+)", (ROOT / "deploy" / "coturn" / "start.sh").read_text())
    seen = set()
    for name in CASES:
        for component, pod in pods(render(name)):
            if component in ("edge", "turn"):
                [container] = containers(pod)
                assert set(environment(container)) <= set(known)
                if component == "edge":  # to whom an empty value is not an unset one
                    assert all(environment(container).values())
                seen.add(component)
    assert seen == {"edge", "turn"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.values.get("edge", {}).get("enabled")])
def test_the_edge_finds_the_agents(render: Render, name: str, set_environment: Callable[[Environment], None]) -> None:
    objects = render(name)
    found = {component: environment(containers(pod)[0]) for component, pod in pods(objects)}
    set_environment(found["agent"])
    settings = AgentSettings()
    first = split_address(settings.sip_listen)[1]
    ports = [first + PORT_STEP * worker for worker in range(settings.sip_workers)]
    assert found["edge"]["TRUNKLINE_EDGE_AGENTS_PORTS"] == ",".join(map(str, ports))
    host, _, domain = found["edge"]["TRUNKLINE_EDGE_AGENTS_DNS"].partition(".")
    assert domain == "voice.svc.cluster.local"
    [service] = [item for item in objects if (item["kind"], item["metadata"]["name"]) == ("Service", host)]
    assert service["spec"]["clusterIP"] == "None"
    assert not service["spec"].get("publishNotReadyAddresses"), "one that drains takes no calls"


@pytest.mark.parametrize(
    ("service", "weights"),
    [(service, ("/opt/trunkline/weights/nano",)) for service in (*MODELS, "triton")]
    + [("agent", ()), ("kamailio", ())],
)
def test_images_are_what_the_chart_takes_them_for(render: Render, service: str, weights: tuple[str, ...]) -> None:
    text = (ROOT / "docker" / f"{service}.Dockerfile").read_text()
    assert "USER 10001:10001" in text
    for path in weights:
        assert path in text
    for _, pod in pods(render("default")):
        assert (pod["spec"]["securityContext"]["runAsUser"], pod["spec"]["securityContext"]["runAsGroup"]) == (
            10001,
            10001,
        )
