"""Source networks of SIP: packets from anywhere else are dropped by the kernel, before the stack reads them.

The stack has no source filter of its own, and a Via header is only a claim. So a socket filter (classic BPF,
`man 7 socket`: SO_ATTACH_FILTER) is put on its listening sockets: over UDP every datagram passes it, over TCP and TLS
every segment, the first SYN included. What is dropped is not answered and not seen, so it is not logged either.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.agent.legs.sip_settings import IPNetwork

SO_ATTACH_FILTER = 26
NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from here on count from the IP header
# Opcodes of linux/filter.h, of the form class | size | mode.
LOAD_WORD, LOAD_BYTE, SHIFT_RIGHT, AND, JUMP_IF_EQUAL, RETURN = 0x20, 0x30, 0x74, 0x54, 0x15, 0x06
SOURCE_OFFSET = {4: 12, 6: 8}  # of the source address in the header
WHOLE_PACKET = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]  # opcode, jump if true, jump if false, operand


def program(networks: Sequence[IPNetwork]) -> list[Instruction]:
    """A classic BPF program that keeps packets whose source is in one of these networks and drops all others."""
    code: list[Instruction] = []
    for network in networks:
        test = _test(network)
        code += test
    return [*code, (RETURN, 0, 0, 0)]


def _test(network: IPNetwork) -> list[Instruction]:
    """Keeps the packet if its source is in the network; else control goes on behind these instructions."""
    address = struct.iter_unpack("!I", network.network_address.packed)
    mask = struct.iter_unpack("!I", network.netmask.packed)
    start = NETWORK_HEADER + SOURCE_OFFSET[network.version]
    steps: list[Instruction] = [
        (LOAD_BYTE, 0, 0, NETWORK_HEADER),
        (SHIFT_RIGHT, 0, 0, 4),
        (JUMP_IF_EQUAL, 0, 0, network.version),
    ]
    for index, ((word,), (bits,)) in enumerate(zip(address, mask, strict=True)):
        if bits:
            steps += [
                (LOAD_WORD, 0, 0, start + 4 * index),
                (AND, 0, 0, bits),
                (JUMP_IF_EQUAL, 0, 0, word),
            ]
    steps.append((RETURN, 0, 0, WHOLE_PACKET))
    # A comparison that fails leaves for the end of this test.
    return [
        (code, true, len(steps) - at - 1 if code == JUMP_IF_EQUAL else 0, operand)
        for at, (code, true, _, operand) in enumerate(steps)
    ]


def restrict(ports: Sequence[int], networks: Sequence[IPNetwork]) -> int:
    """Puts the filter on this process's own sockets that are bound to one of these ports; returns how many there were.

    Raises:
        OSError: the kernel refused it, or has no such filters.
    """
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in program(networks))
    buffer = ctypes.create_string_buffer(code)
    filter_ = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    count = 0
    for own in _bound_sockets(frozenset(ports)):
        own.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
        count += 1
    return count


def _bound_sockets(ports: frozenset[int]) -> Iterator[socket.socket]:
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not os.readlink(entry).startswith("socket:"):
                continue
            descriptor = os.dup(int(entry.name))
            with socket.socket(fileno=descriptor) as own:
                if own.family in (socket.AF_INET, socket.AF_INET6) and own.getsockname()[1] in ports:
                    yield own
