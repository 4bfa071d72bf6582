"""One page with everything in it: no other file, no network."""

from pathlib import Path

import yaml

from loadtest.results.plots import plots
from loadtest.results.record import Run
from loadtest.results.summary import (
    AT_LEAST,
    Figure,
    Verdict,
    by_leg,
    costs,
    doubts,
    figures,
    late_p99_s,
    outcomes,
    reasons,
    verdicts,
    wrong,
)

TEMPLATE = Path(__file__).parent / "report.html.j2"
TILES = ("first_audio_p50_s", "first_audio_p95_s", "correct", "gaps_per_minute", "stops_p95_s", "failed")
WRONG = 40


def page(run: Run) -> str:
    """The report of a run."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    whole = figures(run)
    legs = by_leg(run)
    shown = [legs[leg] for leg in legs] if len(legs) > 1 else []
    found = {figure.key: figure for figure in whole}
    return environment.from_string(TEMPLATE.read_text()).render(
        run=run,
        most=max((calls for _, calls in run.live), default=0),
        verdicts=verdicts(run),
        at_least=AT_LEAST,
        text=_wanted,
        doubts=doubts(run),
        tiles=[found[key] for key in TILES if found[key].of],
        plots=plots(run),
        legs=list(legs) if shown else [],
        rows=[row for row in zip(whole, *shown, strict=True) if row[0].of],
        outcomes=outcomes(run),
        reasons=reasons(run),
        costs=costs(run),
        late=late_p99_s(run),
        wrong=wrong(run.answers)[:WRONG],
        scenario=yaml.safe_dump(run.scenario.model_dump(mode="json", exclude_defaults=True), sort_keys=False),
    )


def _wanted(verdict: Verdict) -> str:
    found = verdict.found
    return Figure(found.key, found.name, verdict.wanted, found.unit, 0).text
