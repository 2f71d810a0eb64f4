"""One offline HTML page per run, tables for the terminal, and comparison of runs over seeds.

In goes `ReportData` (plain frozen data: slots, results, curves, settings), out comes text; nothing here reads a run
folder, loads torch or touches the network.

    data.py      what a report is made from
    slots.py     an allocation -> the rows of slots
    verdict.py   the run in plain words, baselines that win included
    html.py      render(data) -> one HTML page: report.html.j2, report.css and the pictures inlined
    pictures.py  widths per slot, dimension map; spending.py where the budget goes (SVG)
    charts.py    training curves, dot plot against the baselines (SVG)
    rows.py      figures formatted for tiles and the results table
    svg.py       escaped shapes; axes.py scales and ticks; numbers.py how figures are written
    terminal.py  rich tables: widths, results, comparison
    compare.py   seeds -> means, spread and paired differences; markdown and CSV

Whatever a slot, a model or a run is called, it is escaped and freed of control characters wherever it is shown.
Everything is named by its file (`from autodim.report.html import render`): a terminal table needs no jinja2.
"""
