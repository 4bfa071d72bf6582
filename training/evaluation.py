"""The joint evaluation of a directory of weights: tokenizer, language model, decoder, lines and sounds, cost."""

import json
from collections.abc import Sequence
from typing import Any

import torch

from training.paths import Models

PARTS = ("tokenizer", "lm", "decoder", "noise", "cost")


def evaluate(models: Models, parts: Sequence[str], limit: int, failures: int) -> dict[str, Any]:
    """Prints and returns the figures of some parts; also written to the cache as evaluation.json.

    Raises SystemExit naming an unknown part, WeightsError where weights are missing.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise SystemExit(f"no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    if "tokenizer" in parts:
        from training.tokenizer.evaluate import evaluate as tokenizer

        report["tokenizer"] = tokenizer(models)
    if "lm" in parts or "noise" in parts:
        from training.lm.evaluate import Tests, robustness
        from training.lm.evaluate import evaluate as lm

        tests = Tests(models, limit)
        if "lm" in parts:
            report["lm"] = _counted(lm(tests, failures))
        if "noise" in parts:
            report["noise"] = _counted(robustness(tests, failures))
    if "decoder" in parts:
        from training.decoder.evaluate import evaluate as decoder

        report["decoder"] = decoder(models, 60, False)
    if "cost" in parts:
        from training.cost import cost

        report["cost"] = cost(models)
    path = models.checkpoint("evaluation").with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def _counted(report: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Right and asked by group."""
    return {
        name: {group: [score.right, score.asked] for group, score in scores.items()} for name, scores in report.items()
    }
