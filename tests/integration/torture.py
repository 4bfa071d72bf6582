"""The torture messages of RFC 4475 against one endpoint, run in a network namespace where 192.0.2.0/24 is at home.

`rfc4475/*.dat` are the 49 messages byte for byte, as the archive in the RFC's appendix A holds them (`baddn.dat` ends
there without its empty line). Two public decodings of that archive agree on every byte: commit 509030b of
github.com/josephfrazier/rfc4475, and resip/stack/test of github.com/resiprocate/resiprocate. RFC text: IETF Trust,
BCP 78.

Prints one JSON object: for each message the statuses that came back for it, how many calls it began, and whether a
call of the ordinary kind is answered, heard and ended afterwards.
"""

import asyncio
import json
import re
import socket
import sys
from pathlib import Path

from loadtest.sip.wire import caller
from tests.integration.sip_bots import ToneBot, endpoint, hears_tone

MESSAGES = Path(__file__).parent / "rfc4475"
AGENT, SENDER = "192.0.2.10", "192.0.2.20"
WAIT_S = 1.5
CALL_ID = re.compile(rb"^(?:call-id|i)\s*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
VIA = re.compile(rb"^(?:via|v)\s*:\s*([^\r]*)", re.IGNORECASE | re.MULTILINE)


def batches() -> list[dict[str, bytes]]:
    """All messages, so that no two of a batch would count as one transaction (RFC 3261 section 17.2.3)."""
    result: list[dict[str, bytes]] = []
    for path in sorted(MESSAGES.glob("*.dat")):
        message = path.read_bytes()
        for batch in result:
            if all(_transaction(message) != _transaction(other) for other in batch.values()):
                batch[path.stem] = message
                break
        else:
            result.append({path.stem: message})
    return result


async def main() -> None:
    """See above."""
    answers: dict[str, list[int]] = {}
    calls = 0
    for batch in batches():
        bot = ToneBot()
        async with endpoint(bot, host=AGENT) as agent:
            answers |= await _send(batch, agent.port)
            calls += len(bot.legs)
            async with caller(agent.port, AGENT) as wire:
                await wire.answered()
                await hears_tone(wire, 1000)
                wire.request("BYE")
                await wire.response("BYE", 200)
    json.dump({"answers": answers, "calls": calls}, sys.stdout)


async def _send(batch: dict[str, bytes], port: int) -> dict[str, list[int]]:
    answers: dict[str, list[int]] = {name: [] for name in batch}
    # Without `rport`, answers go to the port in the Via header: 5060, or the one that a message names.
    with socket.socket(type=socket.SOCK_DGRAM) as main_socket, socket.socket(type=socket.SOCK_DGRAM) as other_socket:
        for sock, own_port in ((main_socket, 5060), (other_socket, 5050)):
            sock.bind((SENDER, own_port))
            sock.setblocking(False)
        loop = asyncio.get_running_loop()
        for message in batch.values():
            main_socket.sendto(message, (AGENT, port))
            await asyncio.sleep(0.01)
        until = loop.time() + WAIT_S
        while loop.time() < until:
            for sock in (main_socket, other_socket):
                try:
                    answer = sock.recv(65_535)
                except BlockingIOError:
                    continue
                name = next(name for name, message in batch.items() if _identity(message) == _identity(answer))
                if not answers[name]:
                    until = loop.time() + WAIT_S
                answers[name].append(int(answer.split()[1]))
            await asyncio.sleep(0.005)
            if all(answers.values()):
                break
    return {name: sorted(set(statuses)) for name, statuses in answers.items()}


def _identity(message: bytes) -> bytes:
    """What a message and its answer have in common; one message has no Call-ID."""
    found = CALL_ID.search(message.partition(b"\r\n\r\n")[0])
    return found.group(1) if found else b""


def _transaction(message: bytes) -> tuple[bytes, bytes]:
    via = VIA.search(message)
    return message.split()[0], via.group(1) if via else b""


if __name__ == "__main__":
    asyncio.run(main())
