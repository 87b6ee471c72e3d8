"""A model card as Markdown; every text that comes from elsewhere is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from everloop.reports.model_card import Card

MAX_ROWS = 100
NOT_ANSWERED = "The installation that this card was made from does not answer this."
_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def render_card(card: Card) -> str:
    """The card in Markdown, each section beneath the heading of Mitchell et al."""
    lines = [f"# Model card: {text(card['version'])} of loop {text(card['loop'])}", ""]
    for title, section in SECTIONS.items():
        lines += [f"## {title}", "", *section(card), ""]
    return "\n".join(lines).rstrip() + "\n"


def text(value: Any) -> str:
    """A value as one line of Markdown in which nothing is a mark, a link or HTML, and nothing is not printable."""
    shown = "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in str(value)
    )
    return _MARKS.sub(r"\\\1", shown).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def figure(value: Any) -> str:
    """A number in four digits; a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose cells are escaped already; the first rows of a long one."""
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows[:MAX_ROWS]:
        yield f"| {' | '.join(row)} |"
    if len(rows) > MAX_ROWS:
        yield f"\n{len(rows) - MAX_ROWS:,} more rows are left out."


def _details(card: Card) -> Iterator[str]:
    d = card["details"]
    model = {key: value for key, value in d["model"].items() if key != "parameters" and value not in (None, {}, [], ())}
    model |= d["model"].get("parameters") or {}
    rows = [
        ("version", text(card["version"])),
        ("line", text(d["line"])),
        ("slot", text(d["slot"] or "none: it does not serve")),
        ("registered", f"{text(d['registered'])}, {text(d['reason'])}"),
        ("model", ", ".join(f"{text(name)} {text(value)}" for name, value in model.items())),
        ("format", text(d["format"])),
        ("inputs", ", ".join(map(text, d["inputs"])) or "none"),
        ("artifact", f"{figure(d['size'])} bytes, SHA-256 {text(d['sha256'])}"),
        ("libraries", ", ".join(f"{text(name)} {text(version)}" for name, version in d["libraries"].items()) or "-"),
        ("seed, revision of the loop's file", f"{figure(d['seed'])}, {figure(d['loop_revision'])}"),
    ]
    yield from table(("", ""), rows)


def _intended_use(card: Card) -> Iterator[str]:
    use = card["intended_use"]
    metric = f", judged by {text(use['metric'])}" if use["metric"] else ""
    yield f"It answers the observations of loop {text(use['loop'])}: a {text(use['task'])} task{metric}."
    if use["fields"]:
        yield "Observations have these fields; others are refused, and so are values beyond the limits:"
        yield ""
        rows = [
            (text(name), ", ".join(f"{text(key)} {text(value)}" for key, value in field.items()))
            for name, field in use["fields"].items()
        ]
        yield from table(("field", "accepted"), rows)


def _training(card: Card) -> Iterator[str]:
    t = card["training"]
    place = f"offsets {figure(t['start_offset'])} to {figure(t['end_offset'])} of {text(t['topic'])}"
    yield f"It learned {figure(t['outcomes'])} outcomes, {place}, partition {text(t['partition'])}."
    if t["skipped"]:
        yield f"Left out, as learning them failed: {len(t['skipped']):,} of the outcomes."
    if data_set := t["data_set"]:
        named = ", ".join(f"{text(key)} {text(value)}" for key, value in data_set.items() if value is not None)
        yield f"Data set: {named}."
    if run := t["run"]:
        yield f"Run {text(run['run'])}, {text(run['trigger'])}: {text(run['reason'])}"
    if t["reported_metrics"]:
        told = ", ".join(f"{text(name)} {figure(value)}" for name, value in t["reported_metrics"].items())
        yield f"Its trainer reported: {told}."


def _evaluation(card: Card) -> Iterator[str]:
    e = card["evaluation"]
    if e is None:
        yield NOT_ANSWERED
        return
    yield "Each outcome was predicted before it was learned (prequential evaluation)."
    if line := e["line"]:
        yield (
            f"Its line predicted {figure(line['outcomes'])} outcomes, {text(e['line_metric'])} "
            f"{figure(line['score'])}, of the last 500 {figure(line['rolling'])}."
        )
    else:
        yield "Its line has predicted no outcome yet."
    served = e["served"]
    yield ""
    heads = ("by " + text(e["metric"]), "served, all", "served, last 500", "no change", "majority or mean")
    keys = ("served", "rolling", "no_change", "majority")
    yield from table(heads, [("the loop", *(figure(served[key]) for key in keys))])
    if e["quality"]:
        yield ""
        yield from _quality(e["quality"], e["baselines"] or {})


def _quality(quality: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"By metric, of this {text(quality['of'])} on {figure(quality['outcomes'])} outcomes, with 95 % intervals:"
    yield ""
    intervals = quality.get("interval") or {}
    rows = []
    for name, value in (quality["whole"] or {}).items():
        low_high = intervals.get(name)
        interval = f"{figure(low_high[0])} to {figure(low_high[1])}" if low_high else "-"
        beside = [figure((metrics or {}).get(name)) for metrics in baselines.values()]
        rows.append((text(name), figure(value), interval, figure((quality["rolling"] or {}).get(name)), *beside))
    yield from table(("metric", "all", "interval", "lately", *map(text, baselines)), rows)


def _groups(card: Card) -> Iterator[str]:
    groups = card["groups"]
    if groups is None:
        yield NOT_ANSWERED
    elif not groups:
        yield "The loop's file names no slices (`monitor.slices`)."
    else:
        names = sorted({name for one in groups for name in one["whole"] or ()})[:4]
        yield "Of what the loop served, by group:"
        yield ""
        rows = [
            (
                text(one["slice"]),
                text(one["name"]),
                figure(one["outcomes"]),
                *(figure((one["whole"] or {}).get(n)) for n in names),
            )
            for one in groups
        ]
        yield from table(("field", "group", "outcomes", *map(text, names)), rows)


def _fairness(card: Card) -> Iterator[str]:
    found = card["fairness"]
    if found is None:
        yield NOT_ANSWERED
    elif not found:
        why = "the loop's file names none (`monitor.fairness`), or labels are too few"
        yield f"No group measures of its line are known: {why}."
    for one in found or ():
        yield f"By {text(one['field'])}: the largest difference between two groups, with its 95 % interval."
        yield ""
        rows = [
            (text(name), figure(m.get("value")), f"{figure(m.get('low'))} to {figure(m.get('high'))}")
            for name, m in (one.get("measures") or {}).items()
        ]
        yield from table(("measure", "difference", "interval"), rows)
        if not one.get("enough", True):
            yield "\nThere are too few outcomes for a judgement."
        yield ""


def _importance(card: Card) -> Iterator[str]:
    found = card["importance"]
    if not found:
        yield "No importance of features was found for this version."
        return
    ranked = sorted(found.items(), key=lambda item: -abs(item[1]))
    yield from table(("feature", "importance"), [(text(name), figure(value)) for name, value in ranked])


def _decisions(card: Card) -> Iterator[str]:
    found = card["decisions"]
    if not found:
        yield "None yet."
        return
    rows = [
        (
            text(one["time"][:19]),
            text(one["decision"].replace("_", " ")),
            text(one["about"]),
            text(one["data"].get("reason") or _values(one["data"])),
            text(one["by"] or one["data"].get("by") or ""),
        )
        for one in found
    ]
    yield from table(("time", "decision", "about", "why", "by"), rows)


def _values(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in data.items() if isinstance(v, str | int | float))


def _limitations(card: Card) -> Iterator[str]:
    known = card["limitations"]
    told = [f"- Alert since {text((one['since'] or '')[:19])}: {text(one['what'])}" for one in known["alerts"]]
    told += [f"- {text(one['time'][:19])}: {text(one['what'])}" for one in known["drifts"]]
    told += [
        f"- The data of {text(one['name'])} differ from what it was trained on." for one in known["drifted_features"]
    ]
    if personal := known["personal_features"]:
        told.append(f"- {', '.join(map(text, personal))}: personal, not watched for drift.")
    yield from told or ["No alert is open, and no drift was found since it was registered."]
    yield ""
    yield "It is for cases like those that it has learned, and predicts from the inputs above."


SECTIONS = {
    "Model details": _details,
    "Intended use": _intended_use,
    "Training data": _training,
    "Evaluation": _evaluation,
    "Factors": _groups,
    "Fairness": _fairness,
    "Importance of features": _importance,
    "Decisions": _decisions,
    "Caveats and recommendations": _limitations,
}
