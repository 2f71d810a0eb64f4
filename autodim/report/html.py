"""`render`: report data to one offline HTML page (inline CSS and SVG, no scripts, no network)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from autodim.report import charts, numbers, pictures, spending, svg, task_pictures
from autodim.report.data import STATE_WORDS, UNIT_WORDS, CurvePoint, ReportData
from autodim.report.rows import results_rows, tiles
from autodim.report.slots import block_sentence
from autodim.report.verdict import stability_words, verdict

_MOST_EVALUATIONS = 200  # rows of a curve's table; more would drown the page


def render(data: ReportData) -> str:
    """The whole page.

    Every text of `data` is escaped and freed of control and bidirectional characters. Cost: linear in slots x D,
    at most `pictures.LIMIT` slots are drawn; the page of 39 slots x 16 dimensions has about 200 kB.
    """
    template = _environment().get_template("report.html.j2")
    drawn = {
        "widths": Markup(pictures.widths(data.slots, data.budget.unit)),
        "budget": Markup(spending.budget(data.slots, data.budget)),
        "map": Markup(pictures.dimension_map(data.slots)),
        "dots": Markup(charts.dot_plot(data.results)) if _baselines(data) else "",
        "curves": [Markup(c) for c in _curves(data)],
        "shares": Markup(task_pictures.share_map(data.tasks.shares)) if data.tasks and data.tasks.shares else "",
        "gates": [Markup(c) for c in task_pictures.gate_maps(data.tasks.gates)] if data.tasks else [],
        "courses": [Markup(c) for c in _courses(data)],
        "sweep": [Markup(c) for c in data.sweep.charts if c] if data.sweep else [],
    }
    stability = stability_words(data.stability, bool(data.chance)) if data.stability else None
    unit = data.budget.unit
    states = [s.state for s in data.slots]
    return template.render(
        data=data,
        verdict=verdict(data),
        tiles=tiles(data),
        parts=_parts(data, drawn, stability is not None),
        pictures=drawn,
        hidden=_hidden(data),
        blocks=block_sentence(data.slots),
        states=[(s, w) for s, w in STATE_WORDS.items() if s in states],
        unit={"params": "parameters", "bytes": "memory", "serving_bytes": "memory", "dims": "dimensions"}[unit],
        unit_words=UNIT_WORDS[unit],
        budget_parts=spending.budget_parts(data.slots),
        table=results_rows(data.results),
        any_seeds=any(r.seeds > 1 for r in data.results),
        same_seeds=len({r.seeds for r in data.results}) == 1,
        any_baselines=_baselines(data),
        stability=stability,
        evaluations={stage: _evaluations(points) for stage, points in data.curves.items() if points},
        amount=lambda value: numbers.amount(value, unit),
        share=numbers.share,
    )


def _environment() -> Environment:
    """Autoescape always; every shown text is cleaned first; an unknown name in the template is an error."""
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["count_"] = numbers.count
    env.filters["ratio"] = numbers.ratio
    return env


def _shown(value: Any) -> Any:
    return svg.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _baselines(data: ReportData) -> bool:
    return any(r.role == "baseline" for r in data.results)


def _curves(data: ReportData) -> list[str]:
    found = []
    for stage, points in data.curves.items():
        found += [charts.loss_chart(stage, points, data.events.get(stage, ())), charts.auc_chart(stage, points)]
    return [chart for chart in found if chart]


def _courses(data: ReportData) -> list[str]:
    courses = data.tasks.courses if data.tasks else {}
    return [chart for stage, course in courses.items() for chart in task_pictures.course_charts(stage, course)]


def _evaluations(points: tuple[CurvePoint, ...]) -> list[CurvePoint]:
    evaluated = [p for p in points if p.valid_auc is not None or p.valid_logloss is not None] or list(points)
    return evaluated[:: -(-len(evaluated) // _MOST_EVALUATIONS)]


def _hidden(data: ReportData) -> dict[str, int | str]:
    rest = pictures.dearest(data.slots, len(data.slots))[pictures.LIMIT :]
    common = ", ".join(f"{n} of width {w}" for w, n in sorted(Counter(s.width for s in rest).items())[:6])
    return {"slots": len(rest), "summary": common}


def _parts(data: ReportData, drawn: dict[str, Any], stable: bool) -> list[tuple[str, str]]:
    """Anchors of the parts that this page has."""
    present = [
        ("widths", "Widths", True),
        ("budget", "Budget", bool(drawn["budget"])),
        ("quality", "Quality", True),
        ("sweep", "Budgets", bool(drawn["sweep"])),
        ("map", "Dimensions", bool(drawn["map"])),
        ("tasks", "Tasks", bool(drawn["shares"] or drawn["gates"] or drawn["courses"])),
        ("stability", "Stability", stable),
        ("training", "Training", bool(drawn["curves"])),
        ("next", "Next", bool(data.commands)),
        ("settings", "Settings", bool(data.settings or data.environment)),
    ]
    return [(anchor, name) for anchor, name, there in present if there]
