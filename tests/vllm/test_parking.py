from services.lm.vllm_engine.parking import Parking


def test_the_longest_waiting_gives_way() -> None:
    gone: list[str] = []
    parking = Parking(limit=64, block=16)
    for name, tokens in (("a", 17), ("b", 16), ("c", 1)):
        parking.put(name, tokens, lambda name=name: gone.append(name))  # type: ignore[misc]
    assert (gone, parking.held) == ([], 64)
    parking.put("b", 17, lambda: gone.append("b"))
    assert (gone, parking.held) == (["a"], 48)
    parking.put("d", 32, lambda: gone.append("d"))
    assert (gone, parking.held) == (["a", "c"], 64)


def test_what_is_needed_stays() -> None:
    gone: list[str] = []
    parking = Parking(limit=32, block=16)
    parking.put("a", 16, lambda: gone.append("a"))
    parking.need("a")
    parking.put("b", 16, lambda: gone.append("b"))
    parking.put("c", 16, lambda: gone.append("c"))
    assert gone == ["b"]
    parking.need("c")
    parking.put("d", 1, lambda: gone.append("d"))
    assert (gone, parking.held) == (["b", "d"], 32)
    parking.put("a", 16, lambda: gone.append("a"))
    parking.put("e", 1, lambda: gone.append("e"))
    assert (gone, parking.held) == (["b", "d", "a"], 32)


def test_one_that_gives_way_may_ask_again() -> None:
    parking = Parking(limit=16, block=16)
    gone: list[str] = []

    def leave() -> None:
        parking.remove("a")
        gone.append("a")

    parking.put("a", 17, leave)
    parking.need("a")
    assert (gone, parking.held) == (["a"], 0)
    parking.put("a", 16, leave)
    assert parking.held == 16
    parking.remove("a")
    parking.remove("a")
    assert parking.held == 0
