"""Real Redis servers on loopback: one with TLS and an ACL user, a primary with Sentinels, a cluster."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.certificates import certificate
from tests.integration.stack import HOST, START_S, Process, free_port

SERVICE = "primary"
USER, PASSWORD = "trunkline", "se:cr@t/é"


@dataclass
class Servers:
    """Running servers: `settings` are the agent's for them, by name."""

    settings: dict[str, str]
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """Of an agent."""
        return [part for name, value in self.settings.items() for part in (f"--{name.replace('_', '-')}", value)]


def cli(port: int, *words: str) -> str:
    """What redis-cli says; empty when the server does not answer."""
    done = subprocess.run(
        ["redis-cli", "-h", HOST, "-p", str(port), *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def until(condition: Callable[[], bool], what: str) -> None:
    """Polls for a condition."""
    end = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def _server(processes: dict[str, Process], directory: Path, name: str, options: Sequence[str]) -> None:
    folder = directory / name
    folder.mkdir(parents=True)
    common = ["--bind", HOST, "--save", "", "--dir", str(folder)]
    processes[name] = Process(name, ["redis-server", *common, *options], folder / "log")


@contextlib.contextmanager
def _stopping(processes: dict[str, Process]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes.values():
            process.stop()


@contextlib.contextmanager
def secured(directory: Path) -> Iterator[Servers]:
    """One server that talks TLS only and lets nobody in but one user, who may touch our keys and nothing else."""
    files = certificate(directory / "tls")
    port = free_port()
    rule = directory / "users.acl"
    rule.write_text(f"user default off\nuser {USER} on >{PASSWORD} ~trunkline:* +@all -@admin -@dangerous\n")
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    processes: dict[str, Process] = {}
    with _stopping(processes):
        options = ["--port", "0", "--tls-port", str(port), "--aclfile", str(rule)]
        options += ["--tls-cert-file", str(files.certificate), "--tls-key-file", str(files.key)]
        options += ["--tls-ca-cert-file", str(files.ca)]
        _server(processes, directory, "secured", options)
        processes["secured"].wait_serving()
        settings = {
            "redis_url": f"rediss://{USER}@{HOST}:{port}/0",
            "redis_password_file": str(password),
            "redis_tls_ca": str(files.ca),
            "redis_tls_certificate": str(files.certificate),
            "redis_tls_key": str(files.key),
        }
        yield Servers(settings, processes)


@contextlib.contextmanager
def watched(directory: Path) -> Iterator[Servers]:
    """A primary and its replica under three Sentinels: `primary`, `replica` among the processes."""
    primary, replica = free_port(), free_port()
    sentinels = [free_port() for _ in range(3)]
    processes: dict[str, Process] = {}
    with _stopping(processes):
        _server(processes, directory, "primary", ["--port", str(primary)])
        _server(processes, directory, "replica", ["--port", str(replica), "--replicaof", HOST, str(primary)])
        for name in ("primary", "replica"):
            processes[name].wait_serving()
        for number, port in enumerate(sentinels):
            file = directory / f"sentinel-{number}.conf"
            lines = [f"port {port}", f"bind {HOST}", f"dir {directory}"]
            lines.append(f"sentinel monitor {SERVICE} {HOST} {primary} 2")
            lines += [f"sentinel down-after-milliseconds {SERVICE} 1000", f"sentinel failover-timeout {SERVICE} 10000"]
            file.write_text("\n".join(lines) + "\n")
            command = ["redis-server", str(file), "--sentinel"]
            processes[f"sentinel-{number}"] = Process("sentinel", command, directory / f"sentinel-{number}.log")
        until(lambda: "master_link_status:up" in cli(replica, "info", "replication"), "the replica follows")
        until(lambda: all(_knows(port) for port in sentinels), "the Sentinels know each other and the replica")
        hosts = ",".join(f"{HOST}:{port}" for port in sentinels)
        yield Servers({"redis_url": f"redis+sentinel://{hosts}/{SERVICE}"}, processes)


def _knows(port: int) -> bool:
    words = cli(port, "sentinel", "master", SERVICE).splitlines()
    facts = dict(zip(words[::2], words[1::2], strict=False))
    return (facts.get("num-slaves"), facts.get("num-other-sentinels")) == ("1", "2")


@contextlib.contextmanager
def clustered(directory: Path) -> Iterator[Servers]:
    """A cluster of three primaries."""
    ports = [free_port() for _ in range(3)]
    processes: dict[str, Process] = {}
    with _stopping(processes):
        for number, port in enumerate(ports):
            options = ["--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            _server(processes, directory, f"node-{number}", options)
        for process in processes.values():
            process.wait_serving()
        nodes = [f"{HOST}:{port}" for port in ports]
        made = subprocess.run(
            ["redis-cli", "--cluster", "create", *nodes, "--cluster-yes"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        until(lambda: all("cluster_state:ok" in cli(port, "cluster", "info") for port in ports), "the cluster stands")
        yield Servers({"redis_url": f"redis+cluster://{','.join(nodes[:2])}"}, processes)
