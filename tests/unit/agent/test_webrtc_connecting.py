"""A page's call that ends while its connection comes up: nothing of it is left."""

import asyncio
import gc
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

from services.agent.legs.webrtc import WebRtcLeg
from services.agent.legs.webrtc_connecting import Connecting

SECONDS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)


@pytest.mark.parametrize("page_goes_first", [False, True])
async def test_a_call_that_ends_while_it_connects_leaves_nothing(page_goes_first: bool) -> None:
    loop = asyncio.get_running_loop()
    wrong: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    before = asyncio.all_tasks()
    states = await asyncio.gather(*(_cut_short(wait_s, page_goes_first) for wait_s in SECONDS))
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:  # aioice's closing takes some rounds
            await asyncio.sleep(0.05)
    gc.collect()  # tasks tell of their exceptions when they go
    assert not wrong
    assert "new" in states or "connecting" in states, "all were cut short too late: nothing was tested"


async def test_a_page_that_never_connects_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    peer, leg = await _offered()
    await peer.close()
    await leg.hang_up("the bot hung up")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def _offered() -> tuple[RTCPeerConnection, WebRtcLeg]:
    peer = RTCPeerConnection()
    peer.addTrack(AudioStreamTrack())
    peer.createDataChannel("rtvi")
    await peer.setLocalDescription(await peer.createOffer())
    return peer, await WebRtcLeg.from_offer(peer.localDescription.sdp, "a page")


async def _cut_short(wait_s: float, page_goes_first: bool) -> str:
    """How far the connection was."""
    peer, leg = await _offered()
    connecting = Connecting(peer)  # the page is aiortc's, too
    await peer.setRemoteDescription(RTCSessionDescription(leg.sdp_answer, "answer"))
    await asyncio.sleep(wait_s)
    state = str(leg._connection.pc.connectionState)
    if page_goes_first:
        await connecting.stop()
        await peer.close()
    await leg.hang_up("the bot hung up")
    await connecting.stop()
    await peer.close()
    return state
