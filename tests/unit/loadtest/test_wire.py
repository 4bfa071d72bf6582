"""What a caller takes for a message of its dialog."""

import asyncio
import socket

from loadtest.sip.wire import caller

RTCP = bytes([0x80, 200, 0, 6]) + bytes(24)  # a sender report


def request(method: str, call_id: str) -> bytes:
    lines = [
        f"{method} sip:wire@127.0.0.1 SIP/2.0",
        "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1",
        "From: <sip:agent@127.0.0.1>;tag=1",
        "To: <sip:wire@127.0.0.1>;tag=2",
        f"Call-ID: {call_id}",
        f"CSeq: 1 {method}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_what_was_meant_for_who_had_the_port_before_is_not_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.setblocking(False)
        async with caller(agent.getsockname()[1]) as wire:
            here = (wire.host, wire.port)
            for data in (RTCP, b"", request("BYE", "another"), request("ACK", "another"), request("BYE", wire.call_id)):
                agent.sendto(data, here)
            message = await asyncio.wait_for(wire.message(), 5)
            assert (message.method, message.header("Call-ID")) == ("BYE", wire.call_id)
            assert wire.received == [message]
            answer = (await asyncio.wait_for(asyncio.get_running_loop().sock_recv(agent, 2048), 5)).decode()
            assert answer.startswith("SIP/2.0 481 ")
            assert "Call-ID: another" in answer
            for data in (RTCP, request("BYE", "another"), request("INFO", wire.call_id)):
                agent.sendto(data, here)
            while not (requests := wire.requests_so_far()[1:]):
                await asyncio.sleep(0.01)
            assert [line.split()[0] for line in requests] == ["INFO"]
