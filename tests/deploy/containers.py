"""Services of docker-compose.yml as processes, with what a container has that matters to them, but without an engine.

Each has a network namespace with an address of its own on a common bridge, names from a DNS server, and the root file
system that `container_start` builds: the image's own files as its Dockerfile copies them, read-only where the compose
file says so, its secrets, volumes and tmpfs; its user, no capability but those added, no new privileges. Needs root.

What an image brings that is not ours is this machine's: Debian's packages, and the Python of the tests' environment.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.deploy.compose import Service, services
from tests.deploy.dockerfiles import Image, of_service

CHECK_S = 60.0
LONGEST_PAUSE_S = 10.0
START = Path(__file__).with_name("container_start.py")
# Of images that are not ours: their user and what they start, where the compose file does not say.
THIRD = {
    "redis:7.2": Image("", user="999:999", workdir="/data"),
    "prom/prometheus:v2.53.2": Image("", user="65534:65534", entrypoint=["/usr/bin/prometheus"], workdir="/prometheus"),
    "coturn/coturn:4.6": Image("", user="65534:65534"),
}
# Programs that this machine lacks, and what tells the same.
HEALTH = {"wget": ["python3", "-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[-1])"]}


@dataclass(frozen=True)
class Container:
    """One service of the project, not started.

    Attributes:
        service: as Compose resolves it.
        address: on the bridge.
    """

    name: str
    service: Service
    image: Image
    address: str

    @property
    def command(self) -> list[str]:
        """Entry point and arguments."""
        entrypoint = self.service.get("entrypoint") or self.image.entrypoint
        return [*entrypoint, *(self.service.get("command") or self.image.command)]

    @property
    def environment(self) -> dict[str, str]:
        """Of the image and of the service; what has no value there was not set where Compose ran."""
        told = self.service.get("environment") or {}
        return {**self.image.environment, **{name: value for name, value in told.items() if value is not None}}

    @property
    def user(self) -> tuple[int, int]:
        """Numbers of user and group."""
        user, _, group = str(self.service.get("user") or self.image.user).partition(":")
        return int(user), int(group)

    @property
    def health(self) -> list[str]:
        """The command of its health check; empty: it has none."""
        check = self.service.get("healthcheck")
        command = check["test"][1:] if check else self.image.health
        return [*HEALTH[command[0]], *command[1:]] if command and command[0] in HEALTH else list(command)

    @property
    def privileges(self) -> list[str]:
        """Options of setpriv."""
        kept = "".join(f",+{name.lower()}" for name in self.service.get("cap_add", []))
        user, group = self.user
        options = ["--reuid", str(user), "--regid", str(group), "--clear-groups"]
        if "ALL" in self.service.get("cap_drop", []):
            options += ["--inh-caps", "-all", "--bounding-set", f"-all{kept}"]
        if "no-new-privileges:true" in self.service.get("security_opt", []):
            options.append("--no-new-privs")
        return options

    def recipe(self, project: dict[str, Any], directory: Path) -> dict[str, Any]:
        """What `container_start` needs.

        Args:
            directory: for named volumes, and the place where it builds the root file system.
        """
        root = directory / "roots" / self.name
        root.mkdir(parents=True, exist_ok=True)
        binds: list[tuple[str, str, bool]] = []
        if self.environment["PATH"].startswith("/opt/venv/"):
            binds += [(sys.base_prefix, sys.base_prefix, False), (sys.prefix, "/opt/venv", False)]
        # outer ones first
        binds += [(str(source), target, False) for target, source in sorted(self.image.files().items())]
        for secret in self.service.get("secrets", []):
            target = secret.get("target") or secret["source"]
            source = project["secrets"][secret["source"]]["file"]
            binds.append((source, str(Path("/run/secrets", target)), False))
        for volume in self.service.get("volumes", []):
            source, writable = volume["source"], not volume.get("read_only")
            if volume["type"] == "volume":
                folder = directory / "volumes" / source
                folder.mkdir(parents=True, exist_ok=True)
                os.chown(folder, *self.user)
                source = str(folder)
            binds.append((source, volume["target"], writable))
        return {
            "root": str(root),
            "binds": binds,
            # Docker adds these options to all that are mounted so
            "tmpfs": {path: f"noexec,nosuid,nodev,{options}" for path, _, options in map(_halves, self._tmpfs)},
            "read_only": bool(self.service.get("read_only")),
            "workdir": self.service.get("working_dir") or self.image.workdir,
            # whatever becomes of the test, it leaves no process behind
            "privileges": ["--pdeathsig", "TERM", *self.privileges],
            "command": self.command,
            "environment": self.environment,
        }

    @property
    def _tmpfs(self) -> list[str]:
        found: list[str] = self.service.get("tmpfs", [])
        return found


def _halves(text: str) -> tuple[str, str, str]:
    return text.partition(":")


def containers(project: dict[str, Any], network: str) -> dict[str, Container]:
    """All services of the resolved project, with addresses on a network such as 10.214.7."""
    found: dict[str, Container] = {}
    for number, (name, service) in enumerate(sorted(services(project).items()), start=20):
        build = service.get("build")
        image = of_service(_name(build)).image(**_given(build)) if build else THIRD.get(service["image"], Image(""))
        fixed = [net["ipv4_address"] for net in service["networks"].values() if net and "ipv4_address" in net]
        found[name] = Container(name, service, image, fixed[0] if fixed else f"{network}.{number}")
    return found


def _name(build: dict[str, Any]) -> str:
    return Path(build["dockerfile"]).name.removesuffix(".Dockerfile")


def _given(build: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in (build.get("args") or {}).items() if value is not None}


class Running:
    """A started container."""

    def __init__(self, container: Container, namespace: str, recipe: dict[str, Any], log: Path) -> None:
        self.container = container
        self.log = log
        command = ["ip", "netns", "exec", namespace, "unshare", "--mount", "--propagation", "private"]
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [*command, sys.executable, str(START), json.dumps(recipe)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", process_group=0,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the service's process itself: all before it has become it."""
        return self._child.pid

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-3000:]

    def execute(self, command: Sequence[str], seconds: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """What `docker exec` does."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--root", "--wd"]
        inside = ["setpriv", *self.container.privileges, "--", *command]
        environment = self.container.environment
        return subprocess.run(
            [*enter, *inside], capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )

    async def healthy(self, seconds: float = 600.0) -> None:
        """Until its health check succeeds.

        Raises:
            AssertionError: it ended, or does not succeed in time.
        """
        until = time.monotonic() + seconds
        said, pause_s = "the check was not made", 0.5
        while time.monotonic() < until:
            assert self._child.poll() is None, f"{self.container.name} ended: {self.tail()}"
            if self._inside():
                try:
                    done = await asyncio.to_thread(self.execute, self.container.health, CHECK_S)
                    if done.returncode == 0:
                        return
                    said = done.stdout + done.stderr
                except subprocess.TimeoutExpired:
                    said = "the check takes too long"
            # A check takes a second of a processor, which those that start need too.
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
        raise AssertionError(f"{self.container.name} does not become healthy: {said}\n{self.tail()}")

    def _inside(self) -> bool:
        """Whether it has become the service's process."""
        try:
            root = Path(f"/proc/{self.pid}/root").readlink()
            user = Path(f"/proc/{self.pid}").stat().st_uid
        except OSError:  # it has just ended
            return False
        return str(root) != "/" and user == self.container.user[0]

    def stop(self) -> int:
        """SIGTERM, then SIGKILL after its stop_grace_period or a minute; the exit status."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._child.wait()
        return int(self._child.returncode)


@dataclass
class Engine:
    """Starts containers of one project."""

    project: dict[str, Any]
    containers: dict[str, Container]
    directory: Path
    prefix: str
    running: dict[str, Running] = field(default_factory=dict)

    async def up(self) -> None:
        """Starts all in the order that depends_on asks for, as `docker compose up --wait` does."""
        waiting = dict(self.containers)
        while waiting:
            ready = [name for name in waiting if not waiting.keys() & self._needs(name)]
            assert ready, f"services wait for each other: {sorted(waiting)}"
            for name in ready:
                self._start(waiting.pop(name))
            await asyncio.gather(*(self.running[name].healthy() for name in ready if self.containers[name].health))

    def _needs(self, name: str) -> set[str]:
        return set(self.containers[name].service.get("depends_on", {}))

    def _start(self, container: Container) -> None:
        recipe = container.recipe(self.project, self.directory)
        namespace = f"{self.prefix}-{container.name}"
        self.running[container.name] = Running(container, namespace, recipe, self.directory / f"{container.name}.log")

    async def down(self) -> dict[str, int]:
        """Stops all, those that need others first; exit statuses."""
        return {name: await asyncio.to_thread(self.running.pop(name).stop) for name in reversed(list(self.running))}


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """A network of its own: gives the first three bytes of its addresses, such as 10.214.7. This machine is .1 in it.

    Skips where this is no root.
    """
    if os.geteuid() != 0:
        pytest.skip("network and mount namespaces need root")
    numbers = ((os.getpid() + offset) % 250 for offset in range(250))
    number = next(number for number in numbers if _made("link", "add", f"tl{number}", "type", "bridge"))
    name, network = f"tl{number}", f"10.214.{number}"
    try:
        _ip("addr", "add", f"{network}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        yield network
    finally:
        _ip("link", "del", name)


@contextlib.asynccontextmanager
async def engine(project: dict[str, Any], network: str, directory: Path) -> AsyncIterator[Engine]:
    """Namespaces on a bridge for all services of the project, and DNS for them."""
    found = containers(project, network)
    prefix = f"tl{network.rpartition('.')[2]}"
    with _namespaces(prefix, network, found.values()):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Names(found), (f"{network}.1", 53))
        made = Engine(project, found, directory, prefix)
        try:
            yield made
        finally:
            await made.down()
            transport.close()


@contextlib.contextmanager
def _namespaces(prefix: str, network: str, members: Iterable[Container]) -> Iterator[None]:
    made: list[str] = []
    try:
        for number, member in enumerate(members):
            name, link = f"{prefix}-{member.name}", f"{prefix}v{number}"
            _ip("netns", "add", name)
            made.append(name)
            resolver = Path("/etc/netns", name, "resolv.conf")  # which `ip netns exec` shows as /etc/resolv.conf
            resolver.parent.mkdir(parents=True, exist_ok=True)
            resolver.write_text(f"nameserver {network}.1\n")
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", link, "master", prefix, "up")
            _ip("-n", name, "addr", "add", f"{member.address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "route", "add", "default", "via", f"{network}.1")
        yield
    finally:
        for name in made:
            _made("netns", "del", name)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


def _made(*arguments: str) -> bool:
    """Whether `ip` could do it."""
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class Names(asyncio.DatagramProtocol):
    """Docker's DNS: a service knows those by name with which it shares a network."""

    def __init__(self, members: dict[str, Container]) -> None:
        self._members = members

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | Any, int]) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        question = query.question[0]
        found = self._addresses(question.name.to_text(omit_final_dot=True), address[0])
        if not found:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", *found))
        self._transport.sendto(answer.to_wire(), address)

    def _addresses(self, name: str, asker: str) -> list[str]:
        [networks] = [set(one.service["networks"]) for one in self._members.values() if one.address == asker] or [set()]
        found = []
        for one in self._members.values():
            for network, settings in one.service["networks"].items():
                if network in networks and name in (one.name, *((settings or {}).get("aliases") or [])):
                    found.append(one.address)
                    break
        return found
