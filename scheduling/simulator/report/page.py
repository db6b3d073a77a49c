"""One self-contained HTML page about a replay: figures in tables, distributions and time lines as charts."""

from collections.abc import Callable, Sequence
from html import escape

from scheduling.simulator.history import History, Record
from scheduling.simulator.report.charts import COLOURS, Axis, Curve, bars, lines
from scheduling.simulator.report.summary import Figures

POINTS = 300  # of a line: more cannot be seen

STYLE = """
:root{color-scheme:light dark}
:root{--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#dc2626;--c4:#7c3aed;--c5:#0891b2;--c6:#be185d;--c7:#65a30d}
@media(prefers-color-scheme:dark){
:root{--c0:#60a5fa;--c1:#f59e0b;--c2:#34d399;--c3:#f87171;--c4:#a78bfa;--c5:#22d3ee;--c6:#f472b6;--c7:#a3e635}
}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:24px;max-width:1360px}
h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.1rem;margin:32px 0 8px}p{margin:0 0 12px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr));gap:20px}
figure{margin:0;overflow-x:auto}figcaption{font-weight:600}svg{width:100%;min-width:560px;height:auto}
svg text{font-size:11px;fill:currentColor;opacity:.75}.grid{stroke:currentColor;opacity:.13}
polyline{fill:none;stroke-width:1.8}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid color-mix(in srgb,currentColor 15%,transparent)}
th,td{white-space:nowrap}tr>:first-child{text-align:left}th[scope=row]{font-weight:400}
@media(max-width:600px){body{padding:14px}tr>:first-child{white-space:normal;min-width:7.5em}}
.legend span{display:inline-block;margin-right:18px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px}
""" + "".join(
    f"polyline.k{n}{{stroke:var(--c{n})}}rect.k{n}{{fill:var(--c{n})}}i.k{n}{{background:var(--c{n})}}"
    for n in range(COLOURS)
)


def page(title: str, notes: Sequence[str], runs: Sequence[tuple[Figures, History]]) -> str:
    """`notes`: what was replayed and what was left out. The first run is ours, the others are for comparison."""
    legend = _legend([figures.name for figures, _ in runs])
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<h2>Figures</h2>",
        _figures([f for f, _ in runs]),
        f'<h2>Distributions</h2>{legend}<div class="charts">',
        _distribution("Wait: share of jobs that waited at most so long", runs, lambda record: record.wait_s),
        _distribution(
            "Completion: share of jobs done at most so long after submission", runs, lambda r: r.completion_s
        ),
        "</div><h2>Over time</h2><div class=charts>",
        *_over_time(runs[0][1]),
        _held_by_teams(*runs[0]),
        f'</div><h2>Teams</h2>{legend}<div class="charts">{_team_bars(runs)}</div>',
        _teams(runs[0][0]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _legend(names: Sequence[str]) -> str:
    marks = "".join(f'<span><i class="k{n % COLOURS}"></i>{escape(name)}</span>' for n, name in enumerate(names))
    return f'<p class="legend">{marks}</p>'


def duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


ROWS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("Jobs", lambda f: f"{f.jobs:,}"),
    ("Finished", lambda f: f"{f.finished:,}"),
    ("Never started", lambda f: f"{f.never_started:,}"),
    ("Mean wait", lambda f: f"{f.mean_wait_s:,.0f} s"),
    ("Median wait", lambda f: duration(f.median_wait_s)),
    ("90 % waited at most", lambda f: duration(f.p90_wait_s)),
    ("99 % waited at most", lambda f: duration(f.p99_wait_s)),
    ("Mean completion", lambda f: f"{f.mean_completion_s:,.0f} s"),
    ("GPUs allocated (mean)", lambda f: _percent(f.allocated_percent)),
    ("Free GPUs of no use (mean)", lambda f: _percent(f.fragmented_percent)),
    ("Suspended", lambda f: f"{f.suspensions:,}"),
    ("Evicted and requeued", lambda f: f"{f.requeues:,}"),
    ("GPU-hours lost", lambda f: f"{f.gpu_hours_lost:,.1f}"),
    ("Promises kept", lambda f: "–" if f.promises_kept is None else f"{100 * f.promises_kept:.1f} % of {f.promises:,}"),
    ("Deadlines", lambda f: f"{f.deadlines:,}"),
    ("Deadlines accepted at submit", lambda f: _count(f.deadlines_accepted)),
    ("Deadlines refused at submit", lambda f: _count(f.deadlines_refused)),
    ("Accepted deadlines met", lambda f: _of(f.accepted_met, f.deadlines_accepted)),
    ("Deadlines met in all", lambda f: _of(f.deadlines_met, f.deadlines)),
    ("Fairness over teams (Jain)", lambda f: f"{f.fairness:.3f}"),
)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _of(part: int | None, whole: int | None) -> str:
    return f"{100 * part / whole:.1f} % of {whole:,}" if whole and part is not None else "–"


def _figures(all_: Sequence[Figures]) -> str:
    head = "".join(f"<th>{escape(f.name)}</th>" for f in all_)
    due = any(f.deadlines for f in all_)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(words(f))}</td>" for f in all_) + "</tr>"
        for name, words in ROWS
        if due or not name.lower().count("deadline")
    )
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _distribution(title: str, runs: Sequence[tuple[Figures, History]], value_of: Callable[[Record], int | None]) -> str:
    curves, most = [], 10.0
    for figures, history in runs:
        values = sorted(v for record in history.records if (v := value_of(record)) is not None)
        if values:
            most = max(most, float(values[-1]))
            every = max(1, len(values) // POINTS)
            picked = [*range(0, len(values), every), len(values) - 1]
            curves.append(Curve(figures.name, [(values[i], 100 * (i + 1) / len(values)) for i in picked]))
    return lines(
        title,
        curves,
        Axis("(logarithmic)", 1, most, log=True, words=duration, seconds=True),
        Axis("", 0, 100, words=lambda v: f"{v:g} %"),
    )


def _over_time(history: History) -> list[str]:
    samples = history.samples[:: max(1, len(history.samples) // POINTS)]
    if not samples:
        return ["<p>The replay was shorter than one sample.</p>"]
    time = Axis("since the start", 0, max(1, samples[-1].at - history.began), words=duration, seconds=True)
    share = Axis("", 0, 100, words=lambda value: f"{value:g} %")
    most = max(1, *(sample.waiting for sample in samples))

    def curve(name: str, values: list[float]) -> Curve:
        return Curve(name, [(sample.at - history.began, value) for sample, value in zip(samples, values, strict=True)])

    return [
        lines("GPUs allocated", [curve("allocated", [100 * s.used for s in samples])], time, share),
        lines(
            "Free GPUs of no use to the asks seen so far",
            [curve("fragmented", [100 * s.fragmented for s in samples])],
            time,
            share,
        ),
        lines("Jobs that wait", [curve("waiting", [float(s.waiting) for s in samples])], time, Axis("", 0, most)),
    ]


def _held_by_teams(figures: Figures, history: History) -> str:
    """Those that used most, as many as there are colours."""
    samples = history.samples[:: max(1, len(history.samples) // POINTS)]
    largest = sorted(figures.teams, key=lambda team: (-team.gpu_hours, team.team))[:COLOURS]
    if not samples or not largest:
        return ""
    curves = [
        Curve(team.team, [(sample.at - history.began, sample.used_by_team.get(team.id, 0.0)) for sample in samples])
        for team in largest
    ]
    most = max(1.0, *(value for curve in curves for _, value in curve.points))
    time = Axis("since the start", 0, max(1, samples[-1].at - history.began), words=duration, seconds=True)
    drawn = lines("GPUs held by the teams that use most", curves, time, Axis("", 0, most))
    return f"<div>{drawn}{_legend([team.team for team in largest])}</div>"


def _team_bars(runs: Sequence[tuple[Figures, History]]) -> str:
    names = [team.team for team in runs[0][0].teams][:40]
    curves, most = [], 1.0
    for figures, _ in runs:
        points = [(float(names.index(team.team)), team.mean_wait_s) for team in figures.teams if team.team in names]
        most = max(most, *(value for _, value in points)) if points else most
        curves.append(Curve(figures.name, points))
    return bars("Mean wait per team", names, curves, Axis("", 0, most, words=duration, seconds=True))


def _teams(figures: Figures) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(t.team)}</th><td>{t.jobs:,}</td><td>{t.mean_wait_s:,.0f} s</td>'
        f"<td>{duration(t.p90_wait_s)}</td>"
        f"<td>{t.gpu_hours:,.0f}</td><td>{t.slowdown:.2f}</td></tr>"
        for t in figures.teams
    )
    head = (
        "<tr><th>Team</th><th>Jobs</th><th>Mean wait</th><th>90 % at most</th><th>GPU-hours</th><th>Slowdown</th></tr>"
    )
    return f'<div class="scroll"><table>{head}{rows}</table></div>'
