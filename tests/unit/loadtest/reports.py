"""A report with round numbers."""

from typing import Any


def table(axes: tuple[str, str], rows: list[float], columns: list[float], seconds: list[list[float]]) -> dict[str, Any]:
    return {"axes": list(axes), "rows": rows, "columns": columns, "seconds": seconds}


def steps() -> dict[str, Any]:
    """As JSON has it."""
    batch = ("batch", "frames")
    moments = [{"at_s": 0.2, "kind": "paused"}, {"at_s": 0.28, "kind": "ask", "complete": True}]
    return {
        "circumstances": "made up",
        "slowdown": [1.0, 1.1],
        "tokenizer": {
            "encode": table(batch, [1, 4], [8, 32], [[0.003, 0.004], [0.005, 0.008]]),
            "block_frames": 32,
            "block_tokens": 8,
            "batch_frames": 256,
            "stream_s": 0.01,
        },
        "lm": {
            "decode": table(("batch", "past"), [1, 8], [100, 1000], [[0.004, 0.005], [0.006, 0.008]]),
            "prefill": table(("tokens", "past"), [1, 64], [100, 1000], [[0.004, 0.005], [0.01, 0.012]]),
            "answering": 24,
            "silent": 256,
            "reach": 600.0,
            "kv_tokens": 40000,
            "token_s": 0.0005,
            "head_tokens": 4,
        },
        "decoder": {
            "first": table(batch, [1, 4], [60, 600], [[0.01, 0.04], [0.03, 0.12]]),
            "further": table(batch, [1, 4], [60, 600], [[0.01, 0.04], [0.03, 0.12]]),
            "steps": 1,
            "render": table(batch, [1, 2], [60, 400], [[0.01, 0.04], [0.02, 0.08]]),
            "render_batched": False,
            "frames_per_token": 6.89,
            "voice_frames": 0,
            "encoder_block": 10,
            "frame_budget": 8192,
            "token_rate": 12.5,
        },
        "legs": {
            "sip": {
                "listen_s": 0.02,
                "talk_s": 0.01,
                "speak_s": 0.01,
                "line_listen_s": 0.01,
                "line_speak_s": 0.005,
                "others_s": 0.01,
                "token_s": 0.0005,
                "end_of_turn_s": 0.04,
                "delays_s": [0.05, 0.07],
            }
        },
        "talk": {
            "questions": [{"name": "a", "seconds": 2.0, "moments": moments, "answers": [[20, 60], [12, 40]]}],
            "system_tokens": 90,
            "greeting": [18, 50],
            "text_block": 13,
            "speech_block": 26,
        },
    }


def profile(**changes: Any) -> dict[str, Any]:
    """One machine with two cores."""
    machine = {"name": "node", "cores": 2, "runs": ["agent", "tokenizer", "lm", "decoder"]}
    return {"machines": [machine], "load": {"calls_at_once": 4}, **changes}
