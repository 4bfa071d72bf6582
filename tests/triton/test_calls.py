"""The conversations of tests/integration, word for word, with all three models at Triton."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.test_sip_conversations import (
    agent,
    test_two_phones_hold_separate_conversations,
    test_who_interrupts_is_listened_to,
)
from tests.triton.server import TritonServer

__all__ = ["agent", "test_two_phones_hold_separate_conversations", "test_who_interrupts_is_listened_to"]


@pytest.fixture(autouse=True)
async def nothing_is_left_at_triton(triton: TritonServer) -> AsyncIterator[None]:
    yield
    await triton.until_idle()
