"""The contract of VoiceLM, over vLLM: each test of tests/contract/test_lm.py that asks for a `service` runs here."""

import inspect

from tests.contract import test_lm

SHARED = {
    name: test
    for name, test in vars(test_lm).items()
    if name.startswith("test_") and "service" in inspect.signature(test).parameters
}
globals().update(SHARED)


def test_the_contract_has_tests() -> None:
    assert len(SHARED) >= 20
