"""Voices in Redis: a reference of each, sealed where state keys are set, with who consented to its use.

All keys lie in one slot, so that a voice is there as a whole or not at all. A recording of a voice is biometric data:
what is deleted is gone from here at once, and a note without anything of it has the decoders forget it.
"""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from services.agent.state.connection import Command, Connection, Unchanged
from services.agent.state.sealing import Sealer
from services.common.errors import UnknownIdError, WrongOrderError

MAX_VOICES = 50  # less than a decoder keeps (--max-voices)
GONE_S = 7 * 24 * 3600.0  # deletions are remembered for decoders that were not reached


class VoiceTakenError(WrongOrderError):
    """There is a voice of this name."""


@dataclass(frozen=True)
class Consent:
    """Who agreed that their voice is used, on which day (YYYY-MM-DD), and what else is to be said about it."""

    who: str
    when: str
    note: str


@dataclass(frozen=True)
class Voice:
    """What is told of a voice.

    Attributes:
        voice_id: of the decoders, which derive it from the reference.
        seconds: of the reference.
        created: Unix time.
        by: name of the key.
    """

    name: str
    voice_id: str
    seconds: float
    created: float
    by: str


@dataclass(frozen=True)
class Reference:
    """What a voice is made of.

    Attributes:
        flac: its recording at the decoders' rate.
        codes: the same as speech tokens.
    """

    flac: bytes
    codes: Sequence[int]
    consent: Consent


class VoiceStore:
    """Reads and writes voices. All methods raise RedisError or OSError while Redis is away."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._redis = connection
        self._sealer = sealer

    async def all(self) -> dict[str, Voice]:
        """All voices by name."""
        found: Mapping[str, str] = await self._redis.client.hgetall(self._redis.keys.voices)
        return {name: Voice(name=name, **json.loads(value)) for name, value in sorted(found.items())}

    async def reference(self, name: str) -> Reference:
        """What a voice is made of.

        Raises:
            UnknownIdError: there is none of this name.
            StateError: it is sealed with another key.
        """
        fields: dict[str, str] = await self._redis.client.hgetall(self._redis.keys.voice(name))
        if not fields:
            raise UnknownIdError(f"no voice {name!r}")
        content = self._sealer.open(fields["sealed"], _context(name)) if "sealed" in fields else fields["content"]
        parts = json.loads(content)
        return Reference(base64.b64decode(parts["flac"]), parts["codes"], Consent(**parts["consent"]))

    async def add(self, voice: Voice, reference: Reference) -> None:
        """A new voice.

        Raises:
            VoiceTakenError: there is one of this name.
            WrongOrderError: there are as many as there may be.
        """
        keys = self._redis.keys
        voices = await self.all()
        if voice.name not in voices and len(voices) >= MAX_VOICES:
            raise WrongOrderError(f"there may be {MAX_VOICES} voices at most; delete one first")
        parts = {
            "flac": base64.b64encode(reference.flac).decode(),
            "codes": list(reference.codes),
            "consent": asdict(reference.consent),
        }
        content = json.dumps(parts)
        field = "sealed" if self._sealer.seals else "content"
        value = self._sealer.seal(content, _context(voice.name)) if self._sealer.seals else content
        told = {name: value for name, value in asdict(voice).items() if name != "name"}
        commands: list[Command] = [
            ("HSET", keys.voices, voice.name, json.dumps(told)),
            ("HSET", keys.voice(voice.name), field, value),
            ("HDEL", keys.voices_gone, voice.voice_id),
        ]
        if await self._redis.commit(commands, Unchanged(keys.voices, voice.name, None)):
            return
        if (await self.all()).get(voice.name) != voice:  # else it was carried out, and the answer was lost
            raise VoiceTakenError(f"there is a voice {voice.name!r} already")

    async def delete(self, voice: Voice) -> None:
        """It is gone, and decoders are to forget it."""
        keys = self._redis.keys
        now = time.time()
        gone: dict[str, str] = await self._redis.client.hgetall(keys.voices_gone)
        commands: list[Command] = [("DEL", keys.voice(voice.name)), ("HDEL", keys.voices, voice.name)]
        commands.append(("HSET", keys.voices_gone, voice.voice_id, repr(now)))
        commands += [("HDEL", keys.voices_gone, old) for old, at in gone.items() if now - float(at) > GONE_S]
        await self._redis.commit(commands)

    async def gone(self) -> set[str]:
        """Ids that decoders are to forget."""
        found: dict[str, str] = await self._redis.client.hgetall(self._redis.keys.voices_gone)
        return set(found) - {voice.voice_id for voice in (await self.all()).values()}


def _context(name: str) -> str:
    return f"voice:{name}"
