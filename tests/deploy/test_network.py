"""NetworkPolicies: what must reach what does, by both ends' policies, and nobody else gets to where it matters."""

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.cases import CASES
from tests.deploy.objects import MODELS, containers, is_selected, pods
from tests.deploy.tools import Object

Render = Callable[[str], list[Object]]
GUARDED = [name for name, case in CASES.items() if case.values.get("networkPolicy", {}).get("enabled", True)]
# as a peer that is no pod of the release
ANYONE = "203.0.113.99"
PORTS = {"tokenizer": 50051, "lm": 50052, "decoder": 50053}


class Policies:
    """What the policies of some objects allow.

    Pods are named by component; those with hostNetwork are seen with their nodes' addresses, and no policy holds
    for them. None holds for the pod of `helm test` either.
    """

    def __init__(self, objects: list[Object]) -> None:
        self._policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
        self.pods = dict(pods(objects))
        self.node = ""
        for policy in self._policies:
            for rule in policy["ingress"]:
                for peer in rule.get("from") or []:
                    network = peer.get("ipBlock", {}).get("cidr", "::/0")
                    if network.startswith("10.1."):  # networkPolicy.nodes in cases.py
                        self.node = str(ipaddress.ip_network(network)[1])

    def on_host(self, component: str) -> bool:
        return bool(self.pods[component]["spec"].get("hostNetwork"))

    def of(self, component: str) -> list[Object]:
        """The policies that hold for a component's pods."""
        matching = (p for p in self._policies if is_selected(self.pods[component], p["podSelector"]["matchLabels"]))
        return list(matching)

    def allow(self, source: str, target: str, port: int, protocol: str = "TCP") -> bool:
        """Whether one component, or an address, may open a connection to another one's port."""
        return self._end("egress", source, target, port, protocol) and self._end(
            "ingress", target, source, port, protocol
        )

    def _end(self, direction: str, held: str, other: str, port: int, protocol: str) -> bool:
        if held not in self.pods or self.on_host(held) or held == "test":
            return True
        return any(
            self._has_port(rule, port, protocol) and self._has_peer(rule, direction, other)
            for policy in self.of(held)
            for rule in policy[direction]
        )

    def _has_port(self, rule: Object, port: int, protocol: str) -> bool:
        return "ports" not in rule or any(
            entry["port"] <= port <= entry.get("endPort", entry["port"]) and entry.get("protocol", "TCP") == protocol
            for entry in rule["ports"]
        )

    def _has_peer(self, rule: Object, direction: str, other: str) -> bool:
        peers = rule.get("from" if direction == "ingress" else "to")
        return peers is None or any(self._is_peer(peer, other) for peer in peers)

    def _is_peer(self, peer: dict[str, Any], other: str) -> bool:
        if other in self.pods and not self.on_host(other):
            return "podSelector" in peer and is_selected(self.pods[other], peer["podSelector"].get("matchLabels", {}))
        address = ipaddress.ip_address(self.node if other in self.pods else other)
        return "ipBlock" in peer and address in ipaddress.ip_network(peer["ipBlock"]["cidr"])


def host(policies: Policies, model: str) -> str:
    return model if model in policies.pods else "models"


@pytest.mark.parametrize("name", GUARDED)
def test_the_system_reaches_itself(render: Render, name: str) -> None:
    policies = Policies(render(name))
    for model, port in PORTS.items():
        assert policies.allow("agent", host(policies, model), port)
    if "redis" in policies.pods:
        assert policies.allow("agent", "redis", 6379)
    [agent] = containers(policies.pods["agent"])
    ports = {port["name"]: port for port in agent["ports"]}
    assert policies.allow("test", "agent", ports["http"]["containerPort"])
    if "edge" in policies.pods:
        [edge] = containers(policies.pods["edge"])
        inside = next(port["containerPort"] for port in edge["ports"] if port["name"] == "inside")
        for port in (port for key, port in ports.items() if key.startswith("sip-udp")):
            assert policies.allow("edge", "agent", port["containerPort"], "UDP")
        assert policies.allow("agent", "edge", inside, "UDP")


@pytest.mark.parametrize("name", GUARDED)
def test_every_pod_is_guarded_both_ways(render: Render, name: str) -> None:
    policies = Policies(render(name))
    for component in policies.pods:
        if component != "test" and not policies.on_host(component):
            [policy] = policies.of(component)
            assert policy["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("name", GUARDED)
def test_strangers_reach_neither_models_nor_redis_nor_calls(render: Render, name: str) -> None:
    policies = Policies(render(name))
    strangers = [ANYONE, *(one for one in policies.pods if one != "agent" and not policies.on_host(one))]
    for stranger in strangers:
        for model, port in PORTS.items():
            assert not policies.allow(stranger, host(policies, model), port) or stranger == host(policies, model)
        if not policies.on_host("agent"):
            assert not policies.allow(stranger, "agent", 50050)
        if "redis" in policies.pods:
            assert not policies.allow(stranger, "redis", 6379) or stranger == "redis"
    for model in {host(policies, model) for model in MODELS}:  # Triton's gRPC has no authentication
        assert not any(policies.allow(one, model, port) for one in policies.pods for port in (8000, 8001))


def test_media_comes_in_and_goes_out(render: Render) -> None:
    policies = Policies(render("default"))
    for port in (10000, 10199, 32768, 60999):
        assert policies.allow(ANYONE, "agent", port, "UDP")
        assert policies.allow("agent", ANYONE, port, "UDP")
    for port in (9999, 10200, 32767):
        assert not policies.allow(ANYONE, "agent", port, "UDP")
    narrow = Policies(render("network policies"))
    assert not narrow.allow(ANYONE, "agent", 10000, "UDP")
    assert narrow.allow("198.51.100.7", "agent", 10000, "UDP")
    assert not narrow.allow(ANYONE, "agent", 8080)


def test_with_an_edge_phones_go_through_it(render: Render) -> None:
    policies = Policies(render("edge"))
    assert not policies.allow(ANYONE, "agent", 5060, "UDP")
    assert policies.allow("192.0.2.9", "agent", 5060, "UDP"), "agent.sip.networks"
    assert policies.allow("198.51.100.9", "edge", 5080, "UDP"), "edge.callers"
    assert not policies.allow(ANYONE, "edge", 5080, "UDP")
    assert not policies.allow("198.51.100.9", "edge", 5090, "UDP"), "the inside is for agents"
