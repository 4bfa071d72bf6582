"""Voices and drafts: registered, heard, spoken with in calls, known again after a restart, deleted everywhere."""

import asyncio
import base64
import io
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import redis.asyncio as redis
import soundfile

from services.agent.api.keys import Role
from services.agent.state.keys import Keys as Names
from tests.integration.api import WAIT_S, Client, Keys
from tests.integration.personas import short_persona
from tests.integration.stack import HOST, Agent, Process, Stack, free_again, free_port
from tests.integration.webrtc_caller import calling
from tests.unit.decoder.test_speaker import write_model
from trunkline.v1 import decoder_pb2, decoder_pb2_grpc

PREFIX = "voices:"
WHO = "Johanna Consenting"
FORM = {"name": "anna", "consent_who": WHO, "consent_when": "2026-11-20", "consent_note": "In writing, for this line."}


class Decoder:
    """One that dies and comes back at the same address, with a speaker model or without."""

    def __init__(self, weights: Path, directory: Path) -> None:
        self.weights = weights
        self.address = f"{HOST}:{free_port()}"
        self._directory = directory
        self._starts = 0
        self.process = self.start()

    def start(self) -> Process:
        self._starts += 1
        command = [sys.executable, "-m", "services.decoder", "--weights", str(self.weights), "--threads", "1"]
        command += ["--flow-steps", "1"]  # a voice's prompt goes before each block, and a call waits for the first
        log = self._directory / f"decoder-{self._starts}.log"
        self.process = Process("decoder", [*command, "--listen", self.address], log)
        self.process.wait_serving()
        return self.process

    async def voices(self) -> list[str]:
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = decoder_pb2_grpc.SpeechDecoderStub(channel)
            return list((await stub.Info(decoder_pb2.SpeechDecoderInfoRequest())).voices)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def decoder(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    directory = tmp_path_factory.mktemp("decoder")
    weights = directory / "weights"
    shutil.copytree(golden_dir / "decoder", weights)
    write_model(weights / "speaker.onnx")
    running = Decoder(weights, directory)
    yield running
    running.process.stop()


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, decoder: Decoder, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("agent")
    (directory / "state-keys").write_text("first:" + base64.b64encode(bytes(range(32))).decode())
    stack = replace(tiny_stack, decoder=decoder.address)
    settings = ["--redis-prefix", PREFIX, "--api-keys-file", str(keys.file), "--api-rate", ""]
    settings += ["--state-keys-file", str(directory / "state-keys")]
    with stack.agent(2, short_persona(directory / "personas"), False, *settings, persona_files="seed") as running:
        yield running


def clip(seconds: float = 4.0, rate: int = 16_000, level: float = 0.3, form: str = "WAV") -> bytes:
    """A tone that swells and fades."""
    at = np.arange(int(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * 200 * at) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * at))
    file = io.BytesIO()
    soundfile.write(file, wave.astype(np.float32), rate, format=form, subtype="PCM_16")
    return file.getvalue()


async def upload(client: Client, status: int, content: bytes, **other: str) -> dict[str, Any]:
    answer = await client.ask("POST", "/voices", status, data={**FORM, **other}, files={"clip": ("me.wav", content)})
    found: dict[str, Any] = answer.json()
    return found


async def until(client: Client, condition: Callable[[dict[str, Any]], bool], path: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition(found := (await client.ask("GET", path, 200)).json()):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


def sound(answer: httpx.Response) -> "np.typing.NDArray[np.int16]":
    assert answer.headers["content-type"] == "audio/wav"
    pcm, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert rate == 22_050
    return np.asarray(pcm)


async def test_a_voice_from_its_clip_to_its_deletion(
    agent: Agent, decoder: Decoder, keys: Keys, tiny_stack: Stack
) -> None:
    async with (
        Client(agent, keys, Role.VIEWER) as viewer,
        Client(agent, keys, Role.OPERATOR) as operator,
        Client(agent, keys, Role.ADMIN) as admin,
    ):
        empty = (await viewer.ask("GET", "/voices", 200)).json()
        assert (empty["voices"], empty["can_register"], empty["why_not"]) == ([], True, "")
        await upload(operator, 403, clip())
        for content, other, why in (
            (clip(2.0), {}, "lasts 2.00 s; 3 to 30 s are allowed"),
            (clip(31.0), {}, "lasts 31.00 s"),
            (clip(rate=8000), {}, "has 8000 Hz; 16000 to 48000 are allowed"),
            (clip(form="FLAC"), {}, "must be a WAV file, not FLAC"),
            (b"RIFF is no file", {}, "cannot be read"),
            (clip(level=0.0), {}, "is silent"),
            (clip(), {"consent_who": " "}, "consent_who: must have"),
            (clip(), {"consent_when": "yesterday"}, "YYYY-MM-DD"),
            (clip(), {"consent_when": "2100-01-01"}, "must not be in the future"),
            (clip(), {"name": "default"}, "not 'default'"),
        ):
            assert why in (await upload(admin, 422, content, **other))["detail"]
        await admin.ask("POST", "/voices", 413, data=FORM, files={"clip": ("me.wav", bytes(9 * 1024 * 1024))})
        made = await upload(admin, 201, clip(20.0, rate=48_000))  # more than other requests may have
        assert (made["name"], made["seconds"], made["by"], made["used_by"]) == ("anna", 20.0, "admin", [])
        assert made["consent"] == {"who": WHO, "when": "2026-11-20", "note": "In writing, for this line."}
        assert await decoder.voices() == [made["id"]]
        assert (await viewer.ask("GET", "/voices/anna", 200)).json()["consent"] is None
        assert "already" in (await upload(admin, 409, clip()))["detail"]

        await viewer.ask("POST", "/voices/anna:try", 403, json={"text": "Hello."})
        await operator.ask("POST", "/voices/nobody:try", 404, json={"text": "Hello."})
        await operator.ask("POST", "/voices/anna:try", 422, json={"text": " "})
        hers, default = [
            sound(await operator.ask("POST", f"/voices/{name}:try", 200, json={"text": "Hello."}))
            for name in ("anna", "default")
        ]
        assert len(hers) == len(default) > 0, "the same words, at the same pace"
        assert not np.array_equal(hers, default), "in another voice"

        clerk = {"name": "clerk", "prompt": "Be brief.", "greeting": "Good day.", "max_new_tokens": 60}
        refused = await admin.ask("POST", "/personas", 422, json={**clerk, "voice": "berta"})
        assert "there are: anna" in refused.json()["detail"]
        version = (await admin.ask("POST", "/personas", 201, json={**clerk, "voice": "anna"})).json()["version"]
        kept = await admin.ask("DELETE", "/voices/anna", 409)
        assert "personas speak with it: clerk" in kept.json()["detail"]
        key = keys.secrets[Role.OPERATOR]
        async with calling(agent.page, wants={"persona": "clerk"}, key=key) as caller:
            await caller.until(lambda: "Good day." in caller.captions() and bool(caller.loud_at), "it speaks")
            (call,) = (await viewer.ask("GET", "/calls", 200)).json()["calls"]
            assert (call["persona"], call["persona_version"]) == ("clerk", version)
        await free_again(agent)

        decoder.process.kill()
        (decoder.weights / "speaker.onnx").unlink()
        await asyncio.to_thread(decoder.start)
        await until(viewer, lambda voice: voice["replicas"] == {"ready": 1, "serving": 1}, "/voices/anna")
        assert await decoder.voices() == [made["id"]]
        await until(viewer, lambda found: not found["can_register"], "/voices")
        assert "--speaker-model" in (await upload(admin, 409, clip(), name="berta"))["detail"]

        await admin.ask("DELETE", "/personas/clerk", 204, headers={"If-Match": "*"})
        names, client = Names(PREFIX), redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
        stored = str(await client.hgetall(names.voice("anna")))
        assert len(stored) > 10_000
        assert WHO not in stored, "sealed"
        await operator.ask("DELETE", "/voices/anna", 403)
        await admin.ask("DELETE", "/voices/anna", 204)
        await admin.ask("DELETE", "/voices/anna", 404)
        assert await decoder.voices() == []
        assert [key async for key in client.scan_iter(f"{PREFIX}voice*")] == [names.voices_gone]
        await client.aclose()
    assert WHO not in agent.process.log.read_text()


async def test_a_draft_is_talked_to_before_it_is_stored(agent: Agent, keys: Keys) -> None:
    draft = {"name": "draft", "prompt": "Be brief.", "greeting": "I am new here.", "max_new_tokens": 60}
    async with Client(agent, keys, Role.ADMIN) as admin, Client(agent, keys, Role.OPERATOR) as operator:
        await operator.ask("POST", "/personas:try", 403, json=draft)
        assert "promt" in (await admin.ask("POST", "/personas:try", 422, json={**draft, "promt": "x"})).json()["detail"]
        made = (await admin.ask("POST", "/personas:try", 200, json=draft)).json()
        assert made["expires_s"] == 300
        async with calling(agent.page, wants={"draft": made["draft"]}) as caller:
            await caller.until(lambda: caller.captions() == ["I am new here."], "the draft greets")
            (call,) = (await operator.ask("GET", "/calls", 200)).json()["calls"]
            assert (call["persona"], call["persona_version"]) == ("draft", 0)
        await admin.ask("GET", "/personas/draft", 404)
        for wants, key, status in (
            ({"draft": made["draft"]}, "", 422),  # it was for one call
            ({"persona": "default"}, "", 403),
            ({"persona": "default"}, keys.secrets[Role.VIEWER], 403),
            ({"persona": "nobody"}, keys.secrets[Role.OPERATOR], 422),
        ):
            with pytest.raises(httpx.HTTPStatusError) as refused:
                async with calling(agent.page, wants=wants, key=key):
                    pass
            assert refused.value.response.status_code == status
    await free_again(agent)
