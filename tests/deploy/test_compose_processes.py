"""The processes of docker-compose.yml, started as it says, carry calls that its Prometheus shows."""

import asyncio
import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from playwright.async_api import async_playwright

from tests.deploy.compose import resolved
from tests.deploy.containers import Engine, bridge, containers, engine
from tests.deploy.dockerfiles import ROOT
from tests.deploy.tools import Tools
from tests.integration.chromium import CHROMIUM, FLAGS
from tests.integration.phone import RATE as PHONE_RATE
from tests.integration.phone import Pcm, Phone, phone
from tests.integration.test_browser import WAIT_MS
from tests.integration.webrtc_caller import RATE, sample

PROFILES = ("cpu", "edge", "observability")
SHOWN_S = 180.0
WORKERS_S = 180.0
BEFORE_S = 8.0  # the greeting is over by then
AFTER_S = 20.0
ASKED = 6
ANSWERED_S = 30.0
MISSING = "otel-collector"  # its program is in no package here
RELAY_ONLY = """
window.peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(settings) {
    super({ ...settings, iceTransportPolicy: "relay" });
    window.peers.push(this);
  }
};
"""
LOCAL_CANDIDATES = """
async () => {
  const stats = await window.peers.at(-1).getStats();
  const pairs = [...stats.values()].filter((item) => item.type === "candidate-pair" && item.nominated);
  return pairs.length && pairs.map((pair) => stats.get(pair.localCandidateId).candidateType);
}
"""


@pytest.fixture(autouse=True)
def debian_peers(require_debian: Callable[..., None]) -> None:
    require_debian("baresip", "chromium", "coturn", "kamailio", "prometheus", "redis-server")


@pytest.mark.timeout(1500)
def test_calls_by_phone_and_browser(tools: Tools, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    subprocess.run([ROOT / "scripts" / "secrets.sh", secrets], check=True)
    with bridge() as network:
        asyncio.run(_calls(tools, tmp_path, secrets, network))


async def _calls(tools: Tools, directory: Path, secrets: Path, network: str) -> None:
    told = {
        "TRUNKLINE_SUBNET": f"{network}.0/24",
        "TRUNKLINE_AGENT_ADDRESS": f"{network}.10",
        "TRUNKLINE_SECRETS": str(secrets),
        "TRUNKLINE_CAPACITY": "2",
        "TRUNKLINE_MODEL_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    coturn = containers(resolved(tools, *PROFILES, **told), network)["coturn"].address
    told["TRUNKLINE_ICE_SERVERS"] = f"turn:{coturn}:3478?transport=udp"
    project = resolved(tools, *PROFILES, **told)
    del project["services"][MISSING]
    async with engine(project, network, directory) as system:
        await system.up()
        await _edge_knows_agent(system)
        await _phone_call(system, directory)
        await _browser_call(system, directory)
        await _prometheus_shows(system, 'trunkline_first_audio_seconds_count{leg="webrtc"} > 0')
        await _prometheus_shows(system, 'sum(trunkline_calls_total{leg="sip"}) > 0')
        await _prometheus_shows(system, 'sum(trunkline_calls_total{leg="webrtc"}) > 0')
        jobs = ("agent", "tokenizer", "lm", "decoder", "kamailio", "prometheus")
        await _prometheus_shows(system, f"count(up == 1) == {len(jobs)}")
        statuses = await system.down()
    # coturn leaves SIGTERM to the kernel
    assert statuses.pop("coturn") in (0, -signal.SIGTERM)
    assert statuses == dict.fromkeys(statuses, 0), statuses


async def _edge_knows_agent(system: Engine) -> None:
    address = system.containers["kamailio"].address
    until = time.monotonic() + WORKERS_S
    async with httpx.AsyncClient() as client:
        while True:
            text = ""
            with contextlib.suppress(httpx.TransportError):  # it may end a connection as we ask
                text = (await client.get(f"http://{address}:9464/metrics", timeout=30.0)).text
            if re.search(r"^trunkline_edge_workers_active(\{\})? 2\b", text, re.MULTILINE):
                return
            assert time.monotonic() < until, text + system.running["kamailio"].tail()
            await asyncio.sleep(0.2)


async def _phone_call(system: Engine, directory: Path) -> None:
    """By the edge: a greeting, a question, an answer."""
    gateway = system.containers["kamailio"].address.rpartition(".")[0] + ".1"
    question = np.asarray(sample("opening-hours")[:: RATE // PHONE_RATE] * 32767, np.int16)
    async with phone(directory / "phone", host=gateway) as handset:
        await handset.call(f"sip:anyone@{system.containers['kamailio'].address}", timeout_s=60.0)
        greeting = await handset.listen()
        answer = await _answer(system, handset, question)
        assert min(len(greeting), len(answer)) > PHONE_RATE / 2
        await handset.hang_up()
        await handset.wait_for("CALL_CLOSED")


async def _answer(system: Engine, handset: Phone, question: Pcm) -> Pcm:
    """What is heard after the question. A busy machine may tear it, or the greeting, in which it then falls: so again.

    That it was an answer is what Prometheus shows.
    """
    for _ in range(ASKED):
        with contextlib.suppress(TimeoutError):
            answer = await handset.ask(question)
            with contextlib.suppress(AssertionError):
                await _prometheus_shows(system, 'trunkline_first_audio_seconds_count{leg="sip"} > 0', ANSWERED_S)
                return answer
    raise AssertionError(f"no answer by phone: {system.running['agent'].tail()}")


async def _browser_call(system: Engine, directory: Path) -> None:
    """Over coturn alone, as from behind a strict firewall."""
    page_url = f"http://{system.containers['agent'].address}:8080"
    microphone = directory / "question.wav"  # again and again: where it is asked too early, it comes once more
    before, after = (np.zeros(int(quiet_s * RATE), np.float32) for quiet_s in (BEFORE_S, AFTER_S))
    soundfile.write(microphone, np.concatenate([before, sample("opening-hours"), after]), RATE, subtype="PCM_16")
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
    # Browsers hand out the microphone on localhost, which a published port has; here there is none.
    flags.append(f"--unsafely-treat-insecure-origin-as-secure={page_url}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = await browser.new_page()
        page.set_default_timeout(WAIT_MS)
        await page.add_init_script(RELAY_ONLY)
        await page.goto(page_url)
        await page.click("#call")
        await page.locator("#call[data-state=live]").wait_for()
        chosen = await page.wait_for_function(LOCAL_CANDIDATES)
        assert set(await chosen.json_value()) == {"relay"}
        await page.locator("#turns tr").first.wait_for(state="attached")
        await page.click("#call")
        await page.locator("text=The call has ended.").wait_for()
        await browser.close()


async def _prometheus_shows(system: Engine, query: str, seconds: float = SHOWN_S) -> None:
    url = f"http://{system.containers['prometheus'].address}:9090/api/v1/query"
    until = time.monotonic() + seconds
    async with httpx.AsyncClient() as client:
        while True:
            answer: dict[str, Any] = {}
            with contextlib.suppress(httpx.TransportError):
                answer = (await client.get(url, params={"query": query}, timeout=30.0)).json()
                assert answer["status"] == "success", answer
            if answer and answer["data"]["result"]:
                return
            assert time.monotonic() < until, f"{query}: {answer}"
            await asyncio.sleep(0.5)
