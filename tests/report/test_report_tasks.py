"""The part of the report about several tasks: right shares, gates and courses; the warning of unlike losses."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from autodim.report.data import BudgetRow, ReportData
from autodim.report.html import render
from autodim.report.task_pictures import course_charts, gate_maps, share_map
from autodim.report.tasks import GateRow, TaskCourse, TaskReport, TaskShares, loss_warning

SHARES = TaskShares(
    ("click", "buy <b>"), {"user": (0.9, 0.2), "zip & co": (0.1, 0.8)}, (0.05, 0.31), "spectral", "worst"
)
GATES = (
    GateRow("click", 1, ("expert 1", "expert 2"), (0.98, 0.02), (0.1, 0.1)),
    GateRow("buy", 1, ("expert 2", "own"), (0.4, 0.6), (0.2, 0.2)),
    GateRow("click", 2, ("top",), (1.0,), (0.0,)),
)
COURSE = TaskCourse(
    {"click": ((1, 1.0), (2, 0.7)), "buy": ((1, 1.0), (2, 1.3))},
    {"click": ((1, 0.6), (2, 0.5)), "buy": ((1, 0.05), (2, 0.03))},
    ((1, 0.4), (2, 0.5)),
    ((1, 0.1), (2, -0.2)),
)


def page(tasks: TaskReport | None) -> str:
    return render(ReportData("run", "2026-03-04", BudgetRow("params", 10, 9, 100), tasks=tasks))


def test_shares_gates_and_courses_are_drawn() -> None:
    html = page(TaskReport(SHARES, GATES, "retrained", {"pretrain": COURSE}))
    section = html.split('<section id="tasks">')[1].split("</section>")[0]
    for text in ("90 %", "80 %", "31 %", "the cut loses", "buy &lt;b&gt;", "zip &amp; co", "covariance", "loses least"):
        assert text in section, text
    for text in ("level 1", "level 2", "0.98", "(retrained)", "weight of each task", "pairs in conflict"):
        assert text in section, text
    for picture in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(picture)


def test_one_task_has_no_such_part() -> None:
    assert 'id="tasks"' not in page(None)
    assert 'id="tasks"' not in page(TaskReport())


def test_darker_is_more() -> None:
    levels = [int(x) for x in re.findall(r'class="h(\d)"', share_map(SHARES))]
    assert levels == [8, 4, 3, 8]  # roots of the share of the largest: user, then zip, by task


def test_experts_that_a_gate_cannot_choose_stay_blank() -> None:
    first, second = gate_maps(GATES)
    assert len(re.findall(r'class="h\d"', first)) == 4  # of 2 x 3
    assert len(re.findall(r'class="h\d"', second)) == 1


def test_weights_that_never_move_are_not_drawn() -> None:
    still = TaskCourse({"a": ((1, 1.0),), "b": ((1, 1.0),)}, COURSE.losses)
    assert len(course_charts("pretrain", still)) == 1
    assert len(course_charts("pretrain", COURSE)) == 3


def test_losses_ten_times_apart_are_told() -> None:
    words = loss_warning("pretrain", COURSE.losses)
    assert "the loss of click (.5500) is 14 times that of buy (.0400)" in words
    assert loss_warning("pretrain", {"a": ((1, 1.0),), "b": ((1, 0.1001),)}) == ""
    assert loss_warning("pretrain", {"a": ((1, 1.0),), "b": ((1, 0.0),)}) == ""
