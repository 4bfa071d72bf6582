"""The chart renders in every topology and with every option, and what it renders is valid."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.deploy.cases import CASES, documented, leaves, value_at
from tests.deploy.objects import containers, is_selected, pod_template
from tests.deploy.tools import CHART, CRDS, OLDEST, Object, ToolError, Tools, run

WRONG: list[tuple[Object, str]] = [
    ({"agent": {"capcity": 4}}, "'capcity' not allowed"),
    ({"topology": "both"}, "topology"),
    ({"agent": {"drainSeconds": 900}}, "terminationGracePeriodSeconds is 630: calls would be cut.* = 915"),
    ({"agent": {"preStopSeconds": 60}}, "terminationGracePeriodSeconds is 630: calls would be cut.* = 670"),
    ({"models": {"drainSeconds": 100}}, "models.terminationGracePeriodSeconds is 60: streams would be cut.* = 120"),
    ({"agent": {"drainSeconds": 20}}, "drainNoticeSeconds is 30: it must be less"),
    ({"agent": {"capacity": 51}}, "agent.rtp has 200 ports for 51 calls"),
    ({"agent": {"rtp": {"first": 32000, "last": 33000}}}, "overlap"),
    ({"agent": {"webrtc": {"ports": {"first": 40000, "last": 39999}}}}, "first is behind last"),
    ({"agent": {"sip": {"transports": "udp,tls"}}}, "agent.sip.tlsSecret is missing"),
    ({"agent": {"personas": {"files": {"a.yaml": "a"}, "configMap": "a"}}}, "files or configMap, not both"),
    ({"redis": {"url": "redis://redis:6379/0"}}, "exclude each other"),
    ({"redis": {"bundled": {"enabled": False}}}, "redis.url is missing"),
    ({"redis": {"url": "redis://:password@redis:6379"}}, "redis/url"),
    ({"weights": {"source": "claim"}}, "weights.claim is missing"),
    ({"weights": {"source": "init"}}, "weights.init.image is missing"),
    ({"weights": {"source": "oci"}}, "weights.oci.reference is missing"),
    ({"grpc": {"security": "token"}}, "grpc.token.secret is missing"),
    ({"grpc": {"security": "mtls"}}, r"grpc.mtls.secrets.\w+ is missing"),
    ({"grpc": {"security": "mtls", "mtls": {"certManager": {"enabled": True}}}}, "issuerRef.name is missing"),
    ({"turn": {"enabled": True, "secret": {"name": "a"}, "peers": ["10.0.0.1"]}}, "turn.host is missing"),
    ({"turn": {"enabled": True, "host": "a", "peers": ["10.0.0.1"]}}, "turn.secret.name is missing"),
    ({"turn": {"enabled": True, "host": "a", "secret": {"name": "a"}}}, "turn.peers is missing"),
    ({"edge": {"enabled": True}}, "networkPolicy.nodes is missing"),
    ({"agent": {"hostNetwork": True}}, "networkPolicy.nodes is missing"),
    ({"edge": {"enabled": True, "hostNetwork": False}, "agent": {"sip": {"enabled": False}}}, "sip.enabled is false"),
    ({"edge": {"enabled": True, "hostNetwork": False}, "agent": {"sip": {"busy": "486"}}}, "must be 503"),
    ({"agent": {"ingress": {"enabled": True}, "httpRoute": {"enabled": True}}}, "exclude each other"),
    ({"agent": {"httpRoute": {"enabled": True}}}, "parentRefs is missing"),
    ({"agent": {"autoscaling": {"enabled": True}}, "telemetry": {"metrics": False}}, "needs telemetry.metrics"),
    ({"agent": {"autoscaling": {"minReplicas": 11}}}, "minReplicas 11 is more than maxReplicas 10"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name is missing"),
]

Render = Callable[[str], list[Object]]


def test_lint(tools: Tools) -> None:
    run(tools.helm, "lint", "--strict", CHART)


def test_every_option_is_rendered_with_another_value_than_its_default() -> None:
    defaults = documented()
    given: set[str] = set()
    for case in CASES.values():
        given |= {
            path for path in leaves(defaults) if value_at(case.values, path) not in (None, value_at(defaults, path))
        }
    assert sorted(leaves(defaults) - given) == [], "no case renders these"


def test_the_schema_describes_every_option_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: Any, described: Any, path: str) -> None:
        if described.get("additionalProperties") is not False:
            return
        if not path.endswith("resources"):
            assert set(values) == set(described["properties"]) - {"global"}, path
        for name, value in values.items():
            compare(value, described["properties"][name], f"{path}.{name}")

    compare(documented(), schema, "values")


def test_everything_is_valid(tools: Tools, render: Render) -> None:
    if not CRDS.is_dir():
        print(f"custom resources are not validated: there are no schemas in {CRDS}")
    objects: dict[tuple[str, ...], dict[str, Object]] = {}
    for name, case in CASES.items():
        for item in render(name):
            objects.setdefault(case.versions, {})[json.dumps(item)] = item
    for versions, items in objects.items():
        assert tools.validate(list(items.values()), *versions) == []


@pytest.mark.parametrize("name", CASES)
def test_objects_hang_together(render: Render, name: str) -> None:
    objects = render(name)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names)), "a name is there twice"
    pods = {item["metadata"]["name"]: pod for item in objects if (pod := pod_template(item))}
    assert pods
    for kind, selector in selectors(objects):
        matching = [pod for pod in pods.values() if is_selected(pod, selector)]
        assert matching, f"{kind} selects nothing: {selector}"
    for item in objects:
        if item["kind"] == "Service":
            ports = {
                port["name"]
                for pod in pods.values()
                if is_selected(pod, item["spec"]["selector"])
                for container in containers(pod)
                for port in container.get("ports", [])
            }
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= ports, item["metadata"]["name"]
        if item["kind"] == "ScaledObject":
            target = item["spec"]["scaleTargetRef"]["name"]
            [deployment] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Deployment", target)]
            assert "replicas" not in deployment["spec"], "an upgrade would undo what KEDA has set"
    for pod in pods.values():
        check_pod(pod["spec"])


@pytest.mark.parametrize(("values", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_cannot_work_is_not_rendered(tools: Tools, values: Object, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        tools.template(values=values)


@pytest.mark.parametrize("name", ["default", "shared", "edge"])
def test_notes_name_the_next_step(tools: Tools, name: str) -> None:
    command = ["install", "voice", str(CHART), "--dry-run=client", "--namespace", "calls", "--values", "-"]
    said = run(tools.helm, *command, given=yaml.safe_dump(CASES[name].values)).partition("NOTES:")[2]
    assert "kubectl -n calls rollout status deployment/voice-trunkline-agent" in said
    assert ("ADDRESS-OF-THE-EDGE:5080" in said) == (name == "edge")


def test_image_volumes_are_not_rendered_for_versions_that_lack_them(tools: Tools) -> None:
    with pytest.raises(ToolError, match=r"needs Kubernetes 1.33 or later; this is v1.29"):
        tools.template(values=CASES["weights from an image"].values, kubernetes=OLDEST)


def test_older_versions_are_refused(tools: Tools) -> None:
    with pytest.raises(ToolError, match="incompatible with Kubernetes"):
        tools.template(kubernetes="1.28.0")


def selectors(objects: list[Object]) -> list[tuple[str, dict[str, str]]]:
    """All label selectors that are meant for pods."""
    found = []
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] == "Service":
            found.append(("Service", spec["selector"]))
        elif item["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor"):
            found.append((item["kind"], spec["selector"]["matchLabels"]))
        elif item["kind"] == "NetworkPolicy":
            found.append(("NetworkPolicy", spec["podSelector"]["matchLabels"]))
            for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
                for peer in [*(rule.get("from") or []), *(rule.get("to") or [])]:
                    own = peer.get("podSelector", {}).get("matchLabels", {})
                    if "app.kubernetes.io/component" in own:
                        found.append(("NetworkPolicy's peer", own))
    return found


def check_pod(spec: Object) -> None:
    """The restricted pod security standard, and that every mount has its volume and every volume its mount."""
    security = spec["securityContext"]
    assert security["runAsNonRoot"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = set()
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        assert len(paths) == len(set(paths))
        mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
        names = [entry["name"] for entry in container.get("env", [])]
        assert len(names) == len(set(names)), names
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    assert mounted - {"data"} == volumes - {"data"}
