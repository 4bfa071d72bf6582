"""The language model's commands and events as Triton tensors and parameters; both ends use this."""

import numpy as np

from services.common.triton_wire import Parameters, Tensors, number, numbers
from services.lm.engine import Added, Finished, GenerationSettings, Kind, Reason

MODEL = "voice_lm"

_KINDS = list(Kind)
_REASONS = list(Reason)


def of_settings(settings: GenerationSettings) -> dict[str, str | int | float | bool]:
    """Request parameters of `generate`."""
    return {
        "temperature": float(settings.temperature),
        "top_p": float(settings.top_p),
        "seed": str(settings.seed),  # Triton's integers are signed
        "max_new_tokens": settings.max_new_tokens,
        "say": settings.say,
        "resume": settings.resume,
    }


def to_settings(parameters: Parameters) -> GenerationSettings:
    """The settings that `of_settings` wrote; absent ones have their defaults."""
    default = GenerationSettings()
    return GenerationSettings(
        temperature=float(parameters.get("temperature", default.temperature)),
        top_p=float(parameters.get("top_p", default.top_p)),
        seed=int(parameters.get("seed", default.seed)),
        max_new_tokens=int(parameters.get("max_new_tokens", default.max_new_tokens)),
        say=str(parameters.get("say", default.say)),
        resume=bool(parameters.get("resume", default.resume)),
    )


def of_event(event: Added | Finished) -> Tensors:
    """A response of `generate`."""
    if isinstance(event, Added):
        kind = number(_KINDS.index(event.kind))
        return {"TOKENS": numbers(event.tokens), "KIND": kind, "LENGTH": number(event.length)}
    return {"REASON": number(_REASONS.index(event.reason)), "LENGTH": number(event.length)}


def to_event(outputs: Tensors) -> Added | Finished | None:
    """The event that `of_event` wrote; None for a response that only says that the command was taken."""
    length = int(outputs["LENGTH"][0])
    if "TOKENS" in outputs:
        return Added(tuple(outputs["TOKENS"].tolist()), _KINDS[int(outputs["KIND"][0])], length)
    if "REASON" in outputs:
        return Finished(_REASONS[int(outputs["REASON"][0])], length)
    return None


def merge(earlier: Tensors, later: Tensors) -> Tensors | None:
    """Joins tokens of one kind that wait in line."""
    if "KIND" not in earlier or "KIND" not in later or earlier["KIND"] != later["KIND"]:
        return None
    return {**later, "TOKENS": np.concatenate([earlier["TOKENS"], later["TOKENS"]])}
