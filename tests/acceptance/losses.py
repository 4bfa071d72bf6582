"""`python -m tests.acceptance.losses`: calls over lossy networks, words and delays; the figures of docs/webrtc.md.

Needs root, for network namespaces, and Debian's baresip.
"""

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml

from services.agent.legs.base import INPUT_RATE
from tests.integration import stack as stacks
from tests.integration.losses import Answered, ask_by_phone, ask_by_web, beeps, over_a_burst, phone_ear, web_ear, write
from tests.integration.network import NetworkSettings, bad_network
from tests.integration.phone import RATE as PHONE_RATE

QUESTIONS = {
    "opening-hours": "friday nine six saturday ten two",
    "saturday-closing": "saturday two",
    "address": "twelve street",
    "price-medium": "seven",
    "parcel-number": "four seven one nine",
}
BEFORE_S, AFTER_S = 3.0, 6.0


def words(stack: stacks.Stack, directory: Path, settings: NetworkSettings) -> list[Answered]:
    """The questions over both legs."""
    personas = directory / "personas"
    personas.mkdir(parents=True)
    persona = yaml.safe_load((stacks.ROOT / "personas" / "default.yaml").read_text())
    (personas / "default.yaml").write_text(yaml.safe_dump({**persona, "temperature": 0.0}))
    with bad_network(settings) as network, stack.agent(1, personas, True, host=network.here) as agent:
        by_web = asyncio.run(ask_by_web(network, agent, directory, QUESTIONS))
        return by_web + asyncio.run(ask_by_phone(network, agent, directory, QUESTIONS))


async def burst(leg: str, directory: Path, stalls: bool) -> dict[str, float]:
    """Milliseconds of delay: the most after a burst of 300 ms, and from 2 s after its beginning on."""
    rate = INPUT_RATE if leg == "web" else PHONE_RATE
    wave = write(directory / "beeps.wav", beeps(60, INPUT_RATE), INPUT_RATE, rate)
    with bad_network(NetworkSettings(stalls=stalls)) as network:
        if leg == "web":
            async with web_ear(network, wave) as (pcm, _):
                delays, begun = await over_a_burst(network, pcm, BEFORE_S, AFTER_S)
        else:
            async with phone_ear(network, wave, directory / "far") as pcm:
                delays, begun = await over_a_burst(network, pcm, BEFORE_S, AFTER_S)
    later = delays.added[delays.at > begun + 2.0]
    return {
        "most_ms": round(1000 * float(np.max(delays.added[delays.at > begun]))),
        "after_2_s_ms": round(1000 * float(later[np.abs(later).argmax()])),
    }


def main(
    losses: Annotated[str, typer.Option(help="shares of packets, comma-separated")] = "0,0.01,0.05",
    jitter_ms: Annotated[float, typer.Option(help="of all of them")] = 30.0,
    bursts: Annotated[int, typer.Option(help="of each kind")] = 3,
) -> None:
    """Prints one JSON object a line."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for number in range(bursts):
            for leg in ("web", "phone"):
                for stalls in (False, True):
                    (own := root / f"{leg}-{stalls}-{number}").mkdir()
                    found = asyncio.run(burst(leg, own, stalls))
                    print(json.dumps({"leg": leg, "stalls": stalls, **found}), flush=True)
        (root / "stack").mkdir()
        with stacks.running(root / "stack", stacks.nano_weights()) as stack:
            for loss in map(float, losses.split(",")):
                settings = NetworkSettings(loss=loss, jitter_ms=jitter_ms)
                for answer in words(stack, root / f"loss-{loss}", settings):
                    print(json.dumps({"loss": loss, **asdict(answer)}), flush=True)


if __name__ == "__main__":
    typer.run(main)
