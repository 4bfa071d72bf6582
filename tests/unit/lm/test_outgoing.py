import asyncio

from services.lm.conversation import Outgoing
from trunkline.v1 import lm_pb2

TEXT, SPEECH = lm_pb2.TOKEN_KIND_TEXT, lm_pb2.TOKEN_KIND_SPEECH


def generated(kind: "lm_pb2.TokenKind.ValueType", token: int, text: str = "") -> lm_pb2.ConverseResponse:
    speech = [token - 100] if kind == SPEECH else []
    return lm_pb2.ConverseResponse(
        generated=lm_pb2.Generated(tokens=[token], kind=kind, text=text, speech=speech, length=token)
    )


async def test_what_waits_together_and_is_of_one_kind_is_one_response() -> None:
    out = Outgoing()
    finished = lm_pb2.ConverseResponse(finished=lm_pb2.Finished(length=104))
    for response in (
        generated(TEXT, 1, "a"), generated(TEXT, 2, "b"), generated(SPEECH, 103), generated(SPEECH, 104), finished,
        generated(SPEECH, 105),
    ):  # fmt: skip
        out.put(response)
    out.put(None)
    first, second, third, fourth, end = [await out.next() for _ in range(5)]
    assert first == lm_pb2.ConverseResponse(generated=lm_pb2.Generated(tokens=[1, 2], kind=TEXT, text="ab", length=2))
    assert second == lm_pb2.ConverseResponse(
        generated=lm_pb2.Generated(tokens=[103, 104], kind=SPEECH, speech=[3, 4], length=104)
    )
    assert third == finished
    assert fourth == generated(SPEECH, 105)
    assert end is None


async def test_nothing_waits_for_company() -> None:
    out = Outgoing()
    waiting = asyncio.ensure_future(out.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    out.put(generated(TEXT, 1))
    assert await waiting == generated(TEXT, 1)
    error = ValueError("broken")
    out.put(error)
    assert await out.next() is error
