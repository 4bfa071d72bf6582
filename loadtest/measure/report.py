"""Puts a report together: `python -m loadtest measure`."""

import asyncio
import os
import platform
import time
from pathlib import Path

import torch

from loadtest.child import ROOT
from loadtest.measure import calls, steps, talk
from loadtest.measure.steps import Progress
from loadtest.recordings import recordings
from loadtest.sim.report import Steps
from services.agent.personas import load_persona

PERSONA = ROOT / "personas" / "default.yaml"


def measure(weights: Path, samples: Path, capacity: int, progress: Progress) -> Steps:
    """Step times by batch, what a call costs, and how long questions and answers are; on this machine, about 3 minutes.

    Args:
        weights: a directory with tokenizer, lm, decoder.
        samples: recorded questions that suit the default persona.
        capacity: sessions that the language model's memory is made for.
    """
    paths = recordings(samples)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        heard_by, tokenizer = steps.tokenizer(weights / "tokenizer", progress)
        bench = steps.LmBench(weights / "lm", capacity)
        lm = steps.lm(bench, progress)
        _, decoder = steps.decoder(weights / "decoder", progress)
        progress("how much busy cores slow each other down")
        slower = steps.slower(bench)
        ears = talk.listened(paths, progress)
        said = talk.answers(bench, heard_by, load_persona(PERSONA), ears, progress)
    finally:
        torch.set_num_threads(threads)
    known = {question.name for question in said.questions}
    asked = [path for path in paths if path.stem in known]
    costs = asyncio.run(calls.sip(weights, asked, ears.questions, said, ears.end_of_turn_s, progress))
    circumstances = (
        f"{weights.name} on {len(os.sched_getaffinity(0))} cores ({platform.machine()}), one thread a process, "
        f"{time.strftime('%d %B %Y', time.gmtime())}, load {os.getloadavg()[0]:.1f} at the end"
    )
    return Steps.model_validate(
        {
            "circumstances": circumstances,
            "slowdown": slower,
            "tokenizer": {**tokenizer, "stream_s": costs.tokenizer_stream_s},
            "lm": {**lm, "token_s": costs.lm_token_s},
            "decoder": decoder,
            "legs": {"sip": costs.leg.model_dump()},
            "talk": said.model_dump(),
        }
    )
