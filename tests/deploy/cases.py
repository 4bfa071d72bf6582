"""What the chart is rendered with: every topology, and every option that values.yaml documents."""

from dataclasses import dataclass
from typing import Any

import yaml

from tests.deploy.tools import CHART, NEWEST, OLDEST, Object


@dataclass(frozen=True)
class Case:
    """Values, and the Kubernetes versions that they are for."""

    values: Object
    versions: tuple[str, ...] = (OLDEST, NEWEST)


def secret(name: str, key: str = "value") -> Object:
    return {"name": name, "key": key}


_NODES: Object = {"networkPolicy": {"nodes": ["10.1.0.0/16", "fd00:1::/64"]}}
_PLACED: Object = {
    "nodeSelector": {"pool": "voice"},
    "tolerations": [{"key": "voice", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}]}]
            }
        }
    },
}
_SIZE: Object = {"requests": {"cpu": "3", "memory": "3Gi"}, "limits": {"cpu": 4, "memory": "5Gi"}}
_SCALED: Object = {"enabled": True, "minReplicas": 3, "maxReplicas": 9}
_DOWN: Object = {"stabilizationSeconds": 900, "pods": 2, "periodSeconds": 90}
_IMAGE: Object = {"repository": "example/other", "tag": "7"}
_MODEL: Object = {
    "image": _IMAGE,
    "directory": "glm",
    "replicas": 2,
    "capacity": 24,
    "device": "cuda:1",
    "settings": {"THREADS": 2},
    "resources": _SIZE,
    "triton": {"gpus": 2, "resources": _SIZE},
    "autoscaling": _SCALED,
    **_PLACED,
}
_MODELS: Object = {
    "drainSeconds": 40,
    "terminationGracePeriodSeconds": 90,
    "startSeconds": 300,
    "scaleDown": _DOWN,
    "gateway": {"resources": _SIZE},
    **dict.fromkeys(("tokenizer", "lm", "decoder"), _MODEL),
}
_SCALING: Object = {
    "prometheus": "https://prometheus.example.com",
    "pollingSeconds": 20,
    "targetLoad": 0.5,
    "targetQueueMilliseconds": 20,
    "targetPending": 8,
    "authentication": "prometheus",
}
_CUSTOM_MODEL_PODS: Object = {"models": _MODELS, "scaling": _SCALING}

CASES: dict[str, Case] = {
    "default": Case({}),
    "cpu": Case({"topology": "cpu", **_CUSTOM_MODEL_PODS}),
    "shared": Case({"topology": "shared"}),
    "split": Case({"topology": "split"}),
    "shared, all its options": Case(
        {
            "topology": "shared",
            "shared": {"replicas": 2, "gpus": 2, "resources": _SIZE, "autoscaling": _SCALED, **_PLACED},
            **_CUSTOM_MODEL_PODS,
            "triton": {
                "image": _IMAGE,
                "gpuResource": "amd.com/gpu",
                "runtimeClassName": "nvidia",
                "nodeSelector": {"gpu": "L40S"},
                "tolerations": [],
                "sharedMemory": "2Gi",
                "leaseSeconds": 20,
                "args": ["--log-verbose=1"],
            },
            "telemetry": {"otlp": {"endpoint": "http://otel.monitoring:4317"}},
        }
    ),
    "split, all its options": Case({"topology": "split", **_CUSTOM_MODEL_PODS}),
    "names": Case({"nameOverride": "voice", "topology": "split"}),
    "full name": Case({"fullnameOverride": "speech"}),
    "images": Case(
        {
            "image": {
                "registry": "registry.example.com/voice",
                "tag": "1.2.3",
                "pullPolicy": "Always",
                "pullSecrets": ["registry"],
            },
            "topology": "shared",
            "edge": {"enabled": True},
            **_NODES,
        }
    ),
    "weights from a claim": Case({"weights": {"source": "claim", "claim": "weights", "subPath": "v1"}}),
    "weights from a claim, split": Case({"weights": {"source": "claim", "claim": "weights"}, "topology": "split"}),
    "weights from an init container": Case(
        {
            "weights": {
                "source": "init",
                "init": {
                    "image": "example/copier:1",
                    "command": ["sh", "-c"],
                    "args": ["cp -r /models/. /weights"],
                    "envFromSecret": "copier",
                    "sizeLimit": "50Gi",
                },
            },
            "topology": "shared",
        }
    ),
    "weights from an image": Case(
        {"weights": {"source": "oci", "oci": {"reference": "example/weights:1", "pullPolicy": "Always"}}},
        ("1.33", NEWEST),
    ),
    "token": Case({"grpc": {"security": "token", "token": {"secret": "grpc", "key": "tokens"}}}),
    "mtls": Case(
        {
            "grpc": {
                "security": "mtls",
                "mtls": {"secrets": {"agent": "a", "tokenizer": "t", "lm": "l", "decoder": "d"}},
            },
            "topology": "shared",
        }
    ),
    "mtls by cert-manager": Case(
        {
            "grpc": {
                "security": "mtls",
                "mtls": {
                    "certManager": {
                        "enabled": True,
                        "issuerRef": {"name": "ca", "kind": "ClusterIssuer", "group": "example.com"},
                        "duration": "48h",
                    }
                },
            }
        }
    ),
    "logs and traces": Case(
        {
            "log": {"level": "DEBUG", "format": "text"},
            "telemetry": {
                "otlp": {
                    "endpoint": "https://otel.example.com",
                    "sampler": "parentbased_traceidratio",
                    "samplerArg": "0.1",
                }
            },
        }
    ),
    "no metrics": Case({"telemetry": {"metrics": False}}),
    "redis for trials": Case(
        {
            "redis": {
                "bundled": {
                    "image": "example/redis:7",
                    "persistence": {"enabled": True, "size": "2Gi", "storageClass": "fast"},
                    "resources": _SIZE,
                },
                "passwordSecret": secret("redis"),
            }
        }
    ),
    "redis of yours": Case(
        {
            "redis": {
                "bundled": {"enabled": False},
                "url": "rediss+sentinel://s1.example.com:26379,s2.example.com:26379/voice",
                "username": "trunkline",
                "passwordSecret": secret("redis"),
                "caSecret": secret("redis-ca", "ca.pem"),
                "networks": ["10.9.0.0/24"],
                "ports": [6380, 26379],
            }
        }
    ),
    "agent": Case(
        {
            "agent": {
                "image": _IMAGE,
                "replicas": 3,
                "capacity": 20,
                "drainSeconds": 1200,
                "drainNoticeSeconds": 60,
                "preStopSeconds": 0,
                "terminationGracePeriodSeconds": 1300,
                "rtp": {"first": 20000, "last": 20099},
                "webrtc": {
                    "ports": {"first": 30000, "last": 30999},
                    "iceServers": ["stun:stun.example.com:3478"],
                    "resumeSeconds": 10,
                },
                "personas": {"files": {"default.yaml": "name: default\n"}},
                "secrets": {
                    "apiKeys": secret("keys"),
                    "pageKey": secret("keys", "page"),
                    "stateKeys": secret("keys", "state"),
                    "twilioAuthToken": secret("twilio"),
                    "plivoAuthToken": secret("plivo"),
                },
                "recordings": {"claim": "recordings", "format": "wav"},
                "settings": {"MAX_CALL_MINUTES": 30, "SPECULATIVE": False, "SIP_CODECS": "pcma"},
                "env": [{"name": "TRUNKLINE_TRANSFER_TARGET", "value": "sip:desk@example.com"}],
                "resources": _SIZE,
                "podAnnotations": {"example.com/team": "voice"},
                "priorityClassName": "calls",
                **_PLACED,
            },
            "serviceAccount": {"name": "voice", "annotations": {"example.com/role": "voice"}},
        }
    ),
    "agent on the nodes' network": Case({"agent": {"hostNetwork": True}, **_NODES}),
    "sip": Case(
        {
            "agent": {
                "sip": {
                    "port": 6060,
                    "workers": 3,
                    "transports": "tls,udp,tcp",
                    "tlsSecret": "sip-tls",
                    "srtp": "optional",
                    "networks": ["192.0.2.0/24"],
                    "busy": "486",
                    "trunksSecret": "trunks",
                }
            }
        }
    ),
    "no phone line": Case({"agent": {"sip": {"enabled": False}}}),
    "https": Case(
        {
            "agent": {
                "http": {
                    "port": 8443,
                    "certificateSecret": "page-tls",
                    "origins": ["https://shop.example.org", "https://www.example.org"],
                    "publicUrl": "https://voice.example.org",
                },
                "service": {
                    "type": "LoadBalancer",
                    "annotations": {"example.com/lb": "public"},
                    "stickySeconds": 600,
                },
            }
        }
    ),
    "ingress": Case(
        {
            "agent": {
                "ingress": {
                    "enabled": True,
                    "className": "nginx",
                    "host": "voice.example.org",
                    "tlsSecret": "voice-tls",
                    "annotations": {"example.com/timeout": "3600"},
                },
                "personas": {"configMap": "personas"},
            }
        }
    ),
    "gateway": Case(
        {
            "agent": {
                "httpRoute": {
                    "enabled": True,
                    "parentRefs": [{"name": "public", "namespace": "gateways"}],
                    "hostnames": ["voice.example.org"],
                }
            }
        }
    ),
    "agents scaled": Case(
        {"agent": {"autoscaling": {**_SCALED, "targetLoad": 0.6, "scaleDown": _DOWN}}, "scaling": _SCALING}
    ),
    "edge": Case(
        {
            "edge": {
                "enabled": True,
                "image": _IMAGE,
                "replicas": 2,
                "hostNetwork": False,
                "service": {"type": "NodePort", "annotations": {"example.com/lb": "sip"}},
                "advertise": "sip.example.com",
                "port": 5080,
                "tlsSecret": "edge-tls",
                "insidePort": 5090,
                "callers": ["198.51.100.0/24", "2001:db8::/32"],
                "agentNetworks": ["10.2.0.0/16"],
                "callsPerSecond": 50,
                "env": [{"name": "TRUNKLINE_EDGE_PROBE_SECONDS", "value": "2"}],
                "resources": _SIZE,
                **_PLACED,
            },
            "agent": {"sip": {"networks": ["192.0.2.0/24"]}},
        }
    ),
    "edge on the nodes' network": Case({"edge": {"enabled": True}, **_NODES}),
    "turn": Case(
        {
            "turn": {
                "enabled": True,
                "image": "example/coturn:4",
                "secret": secret("turn", "shared"),
                "host": "turn.example.com",
                "externalIp": "198.51.100.7/10.1.0.7",
                "peers": ["10.2.0.0-10.2.255.255", "10.3.0.1"],
                "realm": "example.com",
                "port": 3479,
                "ports": {"first": 50000, "last": 50099},
                "tlsSecret": "turn-tls",
                "hostNetwork": False,
                "resources": _SIZE,
                **_PLACED,
            }
        }
    ),
    "turn on the nodes' network": Case(
        {
            "turn": {
                "enabled": True,
                "host": "198.51.100.7",
                "secret": secret("turn"),
                "peers": ["10.2.0.0-10.2.255.255"],
            }
        }
    ),
    "network policies": Case(
        {
            "networkPolicy": {
                "httpFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
                "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
                "callsFrom": [{"podSelector": {"matchLabels": {"app": "console"}}}],
                "media": ["198.51.100.0/24"],
                "nodes": ["10.1.0.0/16"],
                "dnsNamespace": "dns",
                "apiServer": ["10.0.0.1/32"],
                "webhooks": ["203.0.113.0/24"],
            }
        }
    ),
    "no network policies": Case({"networkPolicy": {"enabled": False}, "agent": {"hostNetwork": True}}),
    "monitoring": Case(
        {
            "topology": "split",
            "edge": {"enabled": True},
            **_NODES,
            "monitoring": {
                "monitor": "PodMonitor",
                "interval": "30s",
                "labels": {"release": "prometheus"},
                "rules": {
                    "enabled": True,
                    "runbookUrl": "https://runbooks.example.com/",
                    "firstAudioSeconds": 1.0,
                    "lossRatio": 0.01,
                    "mos": 4.0,
                },
                "dashboard": {"enabled": True, "labels": {"grafana_dashboard": "voice"}},
            },
        }
    ),
    "service monitor": Case({"topology": "shared", "monitoring": {"monitor": "ServiceMonitor"}}),
    "account of yours": Case({"serviceAccount": {"create": False, "name": "voice"}}),
    "disruption": Case({"podDisruptionBudget": {"maxUnavailable": "25%"}}),
    "no disruption budget": Case({"podDisruptionBudget": {"enabled": False}}),
    "test": Case({"test": {"image": "example/tester:1"}}),
}


def leaves(values: Any, path: str = "") -> set[str]:
    """Paths of all values that hold no named values themselves."""
    if not isinstance(values, dict) or not values:
        return {path}
    return set().union(*(leaves(value, f"{path}.{name}" if path else name) for name, value in values.items()))


def documented() -> Object:
    """values.yaml."""
    found: Object = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def value_at(values: Object, path: str) -> Any:
    """The value at a path; None where there is none."""
    found: Any = values
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
