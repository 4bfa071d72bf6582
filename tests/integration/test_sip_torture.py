"""RFC 4475 over UDP: every message gets a defined answer or none, none begins a call, and the next call works."""

import asyncio
import json
import os
import shutil
import sys

import pytest

from tests.integration.stack import ROOT
from tests.integration.torture import AGENT, MESSAGES

# What comes back. The RFC's INVITEs are turned down with 500: their SDP has `a=rtpmap:31 LPC`, without the clock rate
# that RFC 4566 section 6 asks for. REGISTER and MESSAGE are not ours to serve: 501.
ANSWERED = {
    200: "badaspec badbranch bext01 lwsdisp mcl01 novelsc semiuri transports unkscm zeromf",
    400: "insuf mismatch01 mismatch02",
    481: "wsinv",  # its To has a tag, and there is no such dialog
    500: "baddate clerr esc01 escruri invut multi01 ncl quotbal sdp01",
    501: "cparam01 cparam02 dblreq esc02 escnull intmeth mpart01 regaut01 regbadct regescrt scalar02",
}
# Responses to nothing that we asked (RFC 3261 section 18.1.2), and the archive's `baddn`, which is cut off.
SILENT_BY_RFC = "bcast bigcode noreason scalarlg unreason baddn"
# The stack drops these as unreadable where the RFC would have had an answer: docs/phone.md names them.
SILENT_BY_STACK = "badinv01 badvers inv2543 longreq ltgtruri lwsruri lwsstart trws unksm2"


async def test_every_torture_message_is_survived() -> None:
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    network = f"ip link set lo up && ip address add {AGENT}/24 dev lo"
    script = f'{network} && exec "{sys.executable}" -m tests.integration.torture'
    process = await asyncio.create_subprocess_exec(
        *namespace, "sh", "-c", script, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode and b"unshare" in errors:
        pytest.skip(f"this kernel allows no network namespace: {errors.decode().strip()}")
    assert process.returncode == 0, errors.decode()
    outcome = json.loads(output)
    expected = {name: [status] for status, names in ANSWERED.items() for name in names.split()}
    expected |= {name: [] for name in (SILENT_BY_RFC + " " + SILENT_BY_STACK).split()}
    assert expected.keys() == {path.stem for path in MESSAGES.glob("*.dat")}
    assert len(expected) == 49
    assert outcome == {"answers": expected, "calls": 0}
