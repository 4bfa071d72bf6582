import re

from redis.crc import key_slot

from services.agent.state.keys import Keys


def test_all_of_a_call_is_in_one_slot_and_so_are_all_personas() -> None:
    keys = Keys("mine:")
    of_call = [keys.call("c"), keys.lease("c"), keys.heard("c"), keys.resume("c"), keys.conversation("c")]
    of_personas = [keys.persona("a"), keys.persona("b"), keys.persona_version("b", 2), keys.personas]
    for names in (of_call, of_personas):
        assert len(set(names)) == len(names)
        assert len({key_slot(name.encode()) for name in names}) == 1
        assert all(re.match(r"mine:.*\{\w+\}", name) for name in names)
    assert key_slot(keys.call("c").encode()) != key_slot(keys.call("d").encode())
