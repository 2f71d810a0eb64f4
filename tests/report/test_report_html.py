"""The report page: right numbers, nothing hostile gets through, nothing is loaded, every picture is valid XML."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from autodim.report import charts, pictures, spending
from autodim.report.data import (
    BudgetRow,
    Command,
    CurvePoint,
    ReportData,
    ResultRow,
    SlotRow,
    Stability,
)
from autodim.report.html import render

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a&b<c>'\"",
    "{{ 7*7 }}{% raw %}",
    "nul\x00esc\x1b[31m",
    "right\u202eleft",
    "]]></svg>",
    "x" * 300,
    "漢字" * 40,
    "../../etc/passwd",
    "\ud800",
]


def slot(name: str, rows: int = 100, width: int = 4, **changes: object) -> SlotRow:
    scores = tuple(0.5**j for j in range(16))
    row = SlotRow(name, rows, 16, width, width * (rows + 16), None, 0.25, scores, tuple(range(width)))
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture
def data() -> ReportData:
    slots = (slot("user", 6041, 2), slot("item", 3707, 3), slot("zip", 3440, 0, state="dropped", kept=()))
    curve = tuple(
        CurvePoint(s, 0.6 - s / 1e4, 0.7 + s / 1e4 - (s / 1e3) ** 2 / 20, 0.58) for s in range(100, 1100, 100)
    )
    return ReportData(
        title="MovieLens at 12.5 %",
        created="2026-03-04",
        budget=BudgetRow("params", 26_400, 23_283, 211_008),
        slots=slots,
        results=(
            ResultRow("uniform 16", "uncut", 0.8123, 0.5241, 1.004, 211_008, 2_532_096, 212.4, 3, 0.0004, 0.0005),
            ResultRow("cut, no retraining", "cut", 0.7033, 0.6712, 0.871, 23_283, 279_396, None, 3, 0.0051),
            ResultRow("retrained", "retrained", 0.8034, 0.5342, 0.998, 23_283, 279_396, 95.1, 3, 0.0003),
            ResultRow("uniform 2", "baseline", 0.8006, 0.5361, 1.0, 26_376, 316_512, 101.0, 3, 0.0002),
        ),
        curves={"pretrain": curve, "retrain": curve[:4]},
        stability=Stability(0.93, 0.4),
        facts={"model": "DeepFM"},
        settings="seed: 0\nnote: <b>bold</b>\n",
        environment={"torch": "2.13.0"},
        notes=("14 rows were rejected",),
        commands=(Command("autodim export runs/x --format torchrec", "Take the widths along"),),
    )


def svgs(page: str) -> list[ET.Element]:
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_says_the_measured_numbers(data: ReportData) -> None:
    page = render(data)
    assert "11 % of the embedding parameters, test AUC .8034 against .8123 uncut (−.0089)" in page
    for figure in (".7033", ".6712", "0.871", "23,283", "211,008", "1 min 35 s", "−.1090", "14 rows were rejected"):
        assert figure in page, figure


def test_every_picture_is_valid_xml_with_a_name(data: ReportData) -> None:
    found = svgs(render(data))
    assert len(found) == 4 + 4  # widths, budget, dots, map; two charts of two stages
    for picture in found:
        assert picture.get("role") == "img"
        assert picture.get("aria-label")
        assert picture[0].tag == "title"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(data: ReportData, name: str) -> None:
    """The page has the same elements and attributes whatever the texts are, and no control characters."""
    texts = {"title": name, "notes": (name,), "settings": name, "environment": {name: name}, "facts": {name: name}}
    tame = replace(data, **{k: _tame(v) for k, v in texts.items()}, **_named(data, "tame"))
    wild = replace(data, **texts, **_named(data, name))
    page = render(wild)
    assert _skeleton(page) == _skeleton(render(tame))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", page)
    page.encode()
    assert len(svgs(page)) == 8


def _tame(value: object) -> object:
    if isinstance(value, dict):
        return {"tame": "tame"}
    return ("tame",) if isinstance(value, tuple) else "tame"


def _named(data: ReportData, name: str) -> dict[str, object]:
    return {
        "slots": tuple(replace(s, name=name) for s in data.slots),
        "results": tuple(replace(r, name=name) for r in data.results),
        "curves": {f"{name}{i}": points for i, points in enumerate(data.curves.values())},
        "commands": (Command(name, name),),
    }


def _skeleton(page: str) -> list[object]:
    found: list[object] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            # Labels carry names; positions carry the measured length of names.
            found.append((tag, sorted(k for k, _ in attrs)))

        def handle_endtag(self, tag: str) -> None:
            found.append("/" + tag)

    Parser().feed(page)
    return found


def test_loads_nothing(data: ReportData) -> None:
    page = render(data)
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|link|img|iframe|object|embed|base|form)\b|url\(|@import|https?:|\bon\w+=", page)
    for link in re.findall(r'(?:href|src)="([^"]*)"', page):
        assert link.startswith("#")
        assert f'id="{link[1:]}"' in page


def test_marks_the_best_after_the_cut_and_not_the_uncut(data: ReportData) -> None:
    rows = re.findall(r'<tr class="ours">.*?</tr>|<tr><th scope="row">uniform.*?</tr>', render(data), re.DOTALL)
    stars = {re.search(r'row">(.*?)<', r).group(1): r.count("★") for r in rows}  # type: ignore[union-attr]
    assert stars == {"uniform 16": 0, "retrained": 2, "uniform 2": 0}


@pytest.mark.parametrize(
    "missing", ["slots", "results", "curves", "stability", "facts", "settings", "notes", "commands"]
)
def test_any_part_may_be_missing(data: ReportData, missing: str) -> None:
    empty = {"curves": {}, "facts": {}, "settings": "", "stability": None}.get(missing, ())
    page = render(replace(data, **{missing: empty}))
    assert svgs(page)
    assert not re.search(r"\b(nan|None)\b", page)
    anchors = re.findall(r'href="#(\w+)"', page)
    assert all(f'id="{a}"' in page for a in anchors)


def test_nothing_at_all_is_still_a_page() -> None:
    page = render(ReportData("empty", "now", BudgetRow("params", 0, 0, 0)))
    assert "No embeddings to cut" in page
    assert "This model has no slots" in page
    assert svgs(page) == []


def test_unmeasured_numbers_are_dashes_not_nan(data: ReportData) -> None:
    nan = float("nan")
    results = (
        ResultRow("a", "uncut", nan, None, nan),
        ResultRow("b", "retrained", None, nan),
        ResultRow("c", "baseline"),
    )
    page = render(replace(data, results=results, curves={"pretrain": (CurvePoint(1), CurvePoint(2, nan, nan, nan))}))
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    assert not re.search(r"\bNone\b", page)


def test_many_slots_are_summed_not_drawn(data: ReportData) -> None:
    many = tuple(slot(f"s{i}", 10 + i) for i in range(200))
    page = render(replace(data, slots=many))
    assert page.count('class="s-projected"') == pictures.LIMIT
    assert "140 smaller slots" in page
    assert page.count('<th scope="row">s') == 2 * 200  # every one in both tables


def test_width_bar_is_the_share_of_the_uniform_width() -> None:
    bars = ET.fromstring(pictures.widths((slot("a", width=4), slot("b", width=16, state="whole")), "params"))
    sizes = {b.get("class"): float(b.get("width", 0)) for b in bars.iter("rect")}
    assert sizes["s-projected"] == pytest.approx(sizes["track"] / 4, abs=0.01)
    assert sizes["s-whole"] == sizes["track"]


def test_budget_bars_are_on_one_scale() -> None:
    slots = (slot("a", 1000, 4), slot("b", 500, 2))
    picture = ET.fromstring(spending.budget(slots, BudgetRow("params", 6000, 5096, 24000)))
    bars: dict[str, float] = {}
    for rect in picture.iter("rect"):
        if "segment" in rect.get("class", ""):
            bars[rect.get("y", "")] = bars.get(rect.get("y", ""), 0) + float(rect.get("width", 0))
    uniform, cut, enlarged = bars.values()
    assert cut / uniform == pytest.approx((4 * 1016 + 2 * 516) / 24000, rel=1e-3)
    assert enlarged == pytest.approx(uniform, abs=0.1)


def test_budget_parts_lose_nothing() -> None:
    slots = tuple(slot(f"s{i}", 10 * i + 1, i % 5) for i in range(30))
    parts = spending.budget_parts(slots)
    assert sum(p[1] for p in parts) == sum(s.before for s in slots)
    assert sum(p[2] for p in parts) == sum(s.cost for s in slots)
    assert [p[3] for p in parts] == list(range(1, 9))


@pytest.mark.parametrize(("score", "level"), [(0, 0), (1, 8), (0.5, 8), (0.1, 7), (1e-2, 5), (1e-4, 1), (1e-9, 1)])
def test_heat_is_the_order_of_magnitude(score: float, level: int) -> None:
    assert pictures.heat_level(score, 1.0) == level


def test_the_mark_is_the_first_best_evaluation() -> None:
    points = (CurvePoint(1, 0.6, 0.7), CurvePoint(2, 0.5, 0.8), CurvePoint(3, 0.4, 0.8), CurvePoint(4, 0.3, None))
    best = charts.best_point(points)
    assert best is not None
    assert best.step == 2
    assert ".8000 at step 2 (kept)" in charts.auc_chart("pretrain", points)


def test_long_curves_are_thinned_and_keep_their_mean() -> None:
    points = tuple(CurvePoint(s, train_loss=1.0 if s % 2 else 0.0) for s in range(10_000))
    line = ET.fromstring(charts.loss_chart("pretrain", points)).find("polyline")
    assert line is not None
    assert len(line.get("points", "").split()) <= 300
