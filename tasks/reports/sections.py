"""The sections of a report's page, each from its figures; one that has none is left out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tasks.reports import charts
from tasks.reports.contents import Hub, Report, Retrieval, Shown
from tasks.reports.licences import TOLD, use_of
from tasks.reports.markup import (
    Figures,
    figure,
    fine,
    hundred,
    listing,
    percent,
    points,
    section,
    table,
    whole,
)
from tasks.reports.thumbs import data_uri
from tasks.reports.words import RATES, SEVERAL, SHOWN, arrow, ends, noun, remarks

_SLICES = 16  # in the table
_NAMES = {
    "hit_rate@1": "right at once", "hit_rate@5": "among the first 5", "hit_rate@10": "among the first 10",
    "median_rank": "median rank",
}  # fmt: skip


class Sections:
    """All sections of one report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.metrics = Figures("data-metric", report.metrics)
        self.further = Figures("data-report", report.further)
        self.directions: list[str] = list(report.metrics["directions"])
        self.base = self.directions[:2]

    def headline(self) -> str:
        """What the space can do, in a sentence."""
        return f"<h1>{self._sentence(self.base[0], 'hit_rate@1')}, {self._among(self.base[0])}.</h1>"

    def said(self) -> str:
        """The other way round, and what chance would do."""
        first, other = self.base[0], self.base[-1]
        chance = [
            self.metrics.tell("directions", first, "chance", f"hit_rate@{k}", "value", text=hundred) for k in (1, 10)
        ]
        gallery = self.metrics.tell("directions", first, "gallery", text=whole)
        text = (
            f"Chance would be {chance[0]} and {chance[1]}: each is looked for among {gallery} held-out "
            f"{noun(ends(first)[1])} that the space has not seen. "
        )
        if other != first:
            text += f"The other way round: {self._sentence(other, 'hit_rate@1', 'of')}, {self._among(other)}."
        return f'<p class="said">{text}</p>'

    def _sentence(self, direction: str, metric: str, start: str = "Of") -> str:
        query, gallery = ends(direction)
        found = self.metrics.tell("directions", direction, metric, "value", text=hundred)
        several = self.report.metrics["directions"][direction]["relevant"] > 1
        whose = f"one of their {noun(gallery)}" if several else f"their {noun(gallery, many=False)}"
        return f"{start} 100 {noun(query)}, {found} find {whose} at once"

    def _among(self, direction: str) -> str:
        return f"{self.metrics.tell('directions', direction, 'hit_rate@10', 'value', text=hundred)} among the first ten"

    def summary(self) -> str:
        """The figures to read first, and what to know before one believes them."""
        two = len(self.base) == 2
        wanted = [(name, "hit_rate@1") for name in self.base] if two else [(self.base[0], name) for name in RATES[::2]]
        tiles = [self._tile(f"{arrow(name)}, {_NAMES[metric]}", name, metric) for name, metric in wanted]
        tiles += [self._rsum(), self._index()]
        near = self.report.further.get("duplicates")
        leaks = None if near is None else sum(n["leaks"] for name, n in near["counts"].items() if name != "text")
        shown = "".join(
            f'<li class="{one.level}"><b>{one.level}</b><span>{escape(one.text)}</span></li>'
            for one in remarks(self.report.metrics, self.report.encoders, leaks)
        )
        gate = f'<p class="lead gate">{escape(self.report.gate)}</p>' if self.report.gate else ""
        return section(
            "summary",
            "At a glance",
            "Held-out groups alone, with intervals from resampling these groups.",
            f'<div class="tiles">{"".join(tiles)}</div><ul class="remarks">{shown}</ul>{gate}',
        )

    def _tile(self, title: str, direction: str, metric: str) -> str:
        at = ("directions", direction, metric)
        interval = self.metrics.interval(*at, "interval", text=percent)
        chance = self.metrics.tell("directions", direction, "chance", metric, "value", text=percent)
        change = self._change(*at, "value", scale=100)
        return (
            f'<div class="tile"><h3>{escape(title)}</h3><p class="big">{self.metrics.tell(*at, "value", text=percent)}'
            f"</p><p>{interval}, chance {chance} {change}</p></div>"
        )

    def _rsum(self) -> str:
        change = self._change("rsum")
        interval = self.metrics.interval("rsum_interval", text=points)
        return (
            '<div class="tile"><h3>rsum, six hit rates summed (0 to 600)</h3>'
            f'<p class="big">{self.metrics.tell("rsum")}</p><p>{interval} {change}</p></div>'
        )

    def _index(self) -> str:
        return (
            '<div class="tile"><h3>true neighbours that the index finds</h3>'
            f'<p class="big">{self.metrics.tell("ann", "recall", text=percent)}</p>'
            f"<p>{escape(self.report.metrics['ann']['kind'])} over "
            f"{self.metrics.tell('ann', 'rows', text=whole)} items</p></div>"
        )

    def _change(self, *path: str, scale: float = 1) -> str:
        """How much a figure differs from that of the space before; nothing where that is not known."""
        if self.report.before is None:
            return ""
        now, then = self.metrics.value(*path), Figures("", self.report.before).value(*path)
        if now is None or then is None:
            return ""
        change = now - then
        better = -change if "median_rank" in path else change
        kind = "up" if better > 0 else "down" if better < 0 else "even"
        text = f"{scale * change:+.1f}" if scale != 1 or abs(now) > 1 else f"{change:+.3f}"
        where = escape("/".join(path))
        return f'<span class="change {kind}"><data value="{change!r}" data-change="{where}">{text}</data></span>'

    def quality(self) -> str:
        """Every direction: its metrics in a table, and its curve."""
        parts = []
        for name in self.directions:
            curve = charts.hit_rates(name, self.report.metrics["directions"][name])
            told = (
                "The share of queries with a right answer among the first k; dashed and grey, what chance would find."
            )
            drawn = figure(curve, told) if curve else ""
            parts.append(f'<div class="grid uneven">{self._table(name)}{drawn}</div>')
        lead = (
            "Each query looks for its known partners among all held-out items. Ties count against us. "
            "“By cosine” is without the hubness correction; “shuffled” is the mean of refits on shuffled pairs, "
            "which must fall to chance."
        )
        if self.report.before is not None:
            lead += f" Changes are against space {escape(str(self.report.before['space']))}."
        return section("quality", "How well it finds", lead, *parts)

    def _table(self, direction: str) -> str:
        report = self.report.metrics["directions"][direction]
        rows = []
        for name in SHOWN:
            if name not in report or (name in SEVERAL and report["relevant"] == 1):
                continue
            at = ("directions", direction)
            text = points if name == "median_rank" else percent if name in RATES else fine
            row = [
                escape(_NAMES.get(name, name)),
                self.metrics.tell(*at, name, "value", text=text),
                self.metrics.interval(*at, name, "interval", text=text),
                self.metrics.tell(*at, "raw", name, text=text),
                self.metrics.tell(*at, "chance", name, "value", text=text) if name in report["chance"] else "",
                self.metrics.tell(*at, "control", name, text=text) if name in report["control"] else "",
            ]
            if self.report.before is not None:
                row.insert(3, self._change(*at, name, "value", scale=100 if name in RATES else 1))
            rows.append(row)
        heads = ["", "value", f"{self.report.metrics['confidence']:.0%} interval", "by cosine", "chance", "shuffled"]
        if self.report.before is not None:
            heads.insert(3, "change")
        queries = f"{report['queries']:,} queries among {report['gallery']:,}"
        several = "" if report["relevant"] == 1 else f", {report['relevant']:.1f} right answers each"
        return table(f"{arrow(direction)}: {queries}{several}", heads, rows)

    def slices(self) -> str:
        """Where the space is weak."""
        rows = self.report.metrics["slices"]
        plot = charts.slices(rows)
        if not plot:
            return ""
        cells = [
            [
                f"{escape(one['attribute'])}: {escape(one['value'])} <small>{escape(_way(one['direction']))}</small>",
                self.metrics.tell("slices", place, "groups", text=whole),
                *(self.metrics.tell("slices", place, name, "value", text=percent) for name in RATES[::2]),
                self.metrics.tell("slices", place, "gap", "value", text="{:+.1f}".format),
                escape(one["verdict"]),
            ]
            for place, one in enumerate(rows[:_SLICES])
        ]
        heads = ["slice", "groups", "at once", "first 10", "gap", "verdict"]
        told = (
            "How far the queries of a slice lie from all others, in points of the mean hit rate, with intervals. "
            "Squares are surely weaker (Holm's correction over all slices)."
        )
        judged = sum(one["gap"] is not None for one in rows)
        more = f" The table shows {len(cells)} of {len(rows):,}." if len(rows) > len(cells) else ""
        listed = table("Slices, the weakest first", heads, cells)
        return section(
            "slices",
            "Where it is weak",
            f"Queries by what is known of them: {judged:,} slices have groups enough to be judged.{more}",
            f'<div class="grid uneven">{listed}{figure(plot, told)}</div>',
        )

    def meaning(self) -> str:
        """What a score means."""
        parts = []
        for name in self.base:
            report = self.report.metrics["directions"][name]
            plot, at = charts.reliability(name, report), ("directions", name, "calibration")
            if not plot:
                reason = escape(str(report["calibration"].get("reason", "")))
                parts.append(f'<div class="card"><p>{arrow(name)}: scores are not calibrated: {reason}</p></div>')
                continue
            after = self.metrics.tell(*at, "first", "after", "ece", "value", text=percent)
            before = self.metrics.tell(*at, "first", "before", "ece", "value", text=percent)
            open_ = self.metrics.tell(*at, "ambiguity", "share", "value", text=percent)
            told = (
                f"{escape(arrow(name))}. Told probabilities are off by {after} on average; the bare cosine, read as "
                f"one, by {before}. {open_} of the queries are ambiguous."
            )
            parts.append(figure(plot, told))
        return section(
            "meaning",
            "What a score means",
            "A search gives each hit the probability that it is right, fitted on other queries than these. On the "
            "dashed line 30% of the hits that are told 30% are right.",
            f'<div class="grid">{"".join(parts)}</div>',
        )

    def shape(self) -> str:
        """Hubs, the gap between the modalities, and the map."""
        parts = []
        for name in self.base:
            plot = charts.hubness(name, self.report.metrics["directions"][name])
            raw, kept = (
                self.metrics.tell("directions", name, "hubness", key, text="{:.2f}".format)
                for key in ("raw_skew_N10", "corrected_skew_N10")
            )
            told = f"{escape(arrow(name))}: skew {raw} by cosine, {kept} corrected (0: all are found as often)."
            parts.append(figure(plot, told) if plot else "")
        near = charts.cosines(self.report.further)
        if near:
            told = "How near known pairs lie to each other, and how near any two items of both modalities."
            parts += [figure(near, told), self._gap()]
        grid = f'<div class="grid">{"".join(parts)}</div>' if any(parts) else ""
        drawn = charts.embedding_map(self.report.places)
        told = (
            "t-SNE by cosine: what lies together is alike; distances across the map mean little. Point at an item to "
            "read it."
        )
        whole_map = f"<h3>Map of the space</h3>{figure(drawn, told)}" if drawn else ""
        return section(
            "shape",
            "The shape of the space",
            "A good space has few hubs, items that every query finds; little gap between its modalities; and one place "
            "for one meaning.",
            grid + whole_map,
        )

    def _gap(self) -> str:
        paired, random, auc = (
            self.further.tell("cosines", name, text=text)
            for name, text in (("paired_mean", fine), ("random_mean", fine), ("auc", percent))
        )
        facts = (
            ("a known pair is nearer than a random one in", auc),
            ("mean cosine of known pairs", paired),
            ("of random pairs", random),
            ("gap between the means of both modalities, 0 to 2", self.metrics.tell("modality_gap", text=fine)),
        )
        inside = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
        return _card("Pairs and gap", f'<dl class="facts large">{inside}</dl>')

    def growth(self) -> str:
        """What more pairs would bring, where it was measured."""
        curve = self.report.further.get("curve")
        if not curve:
            return ""
        told = curve["outlook"]
        if told["cannot_tell"] is not None:
            said = f"What {told['more']:,} more pairs would bring cannot be told: {escape(told['cannot_tell'])}."
        else:
            gain = self.further.tell("curve", "outlook", "gain", text="{:+.1f}".format)
            span = self.further.interval("curve", "outlook", "gain_interval", text="{:+.1f}".format)
            said = f"{told['more']:,} more pairs beside {told['now']:,} would bring about {gain} rsum ({span})."
        cells = [
            [
                self.further.tell("curve", "points", place, "pairs", text=whole),
                self.further.tell("curve", "points", place, "rsum"),
                self.further.interval("curve", "points", place, "interval"),
                self.further.tell("curve", "points", place, "hit_rate@1", text=percent),
                self.further.tell("curve", "points", place, "hit_rate@10", text=percent),
            ]
            for place in range(len(curve["points"]))
        ]
        listed = table("Fitted on fewer pairs", ["pairs", "rsum", "interval", "at once", "first 10"], cells, words=0)
        return section(
            "growth",
            "Would more pairs help?",
            "Heads fitted on random subsets of the training pairs, measured on held-out groups of the training split; "
            "these galleries are their own, so the figures are not those above.",
            f'<div class="grid">{figure(charts.learning(curve), said)}{listed}</div>',
        )

    def speed(self) -> str:
        """How fast and how truly the index answers."""
        ann = self.report.further.get("ann")
        if not ann:
            return ""
        exact = self.further.tell("ann", "exact_milliseconds", text="{:.2f}".format)
        rows = self.further.tell("ann", "rows", text=whole)
        plot = charts.neighbours(ann)
        kind = escape(str(self.report.metrics["ann"]["kind"]))
        said = f"Index {kind} over {self.metrics.tell('ann', 'rows', text=whole)} items. "
        said += f"Exact search takes {exact} ms a query, in batches of {ann['batch']:,}, over {rows} items."
        if ann["sampled"]:
            said += " The curve is that of an IVF_FLAT index on a sample of this size: what it would bring."
        elif not plot:
            said += " It finds every neighbour: an index pays beyond some ten thousand items."
        body = f'<div class="card"><p>{said}</p></div>'
        if plot:
            cells = [
                [
                    escape(charts.setting(one)),
                    self.further.tell("ann", "points", place, "recall", text=fine),
                    self.further.tell("ann", "points", place, "milliseconds", text="{:.2f}".format),
                ]
                for place, one in enumerate(ann["points"])
            ]
            listed = table("Settings of the index", ["setting", "recall@10", "ms a query"], cells)
            body = f'<div class="grid">{figure(plot, said)}{listed}</div>'
        return section("speed", "How fast it answers", "Without the encoder, on this machine.", body)

    def examples(self) -> str:
        """The best and the worst retrievals, and what is found too often."""
        parts = []
        for title, key, many in (
            ("Found with ease", "best", self.report.best),
            ("Missed by far", "worst", self.report.worst),
        ):
            if many:
                shown = "".join(self._asked(key, place, one) for place, one in enumerate(many))
                parts.append(f'<h3>{title}</h3><div class="card">{shown}</div>')
        if self.report.hubs:
            shown = "".join(self._hub(place, one) for place, one in enumerate(self.report.hubs))
            parts.append(f'<h3>Found too often</h3><div class="card"><ul class="hubs">{shown}</ul></div>')
        count = self.further.tell("sample", "queries", text=whole)
        return section(
            "examples",
            "Best and worst",
            f"Of {count} held-out queries: those that lead by the widest margin, and those whose partner ranks lowest. "
            "What is marked “right” is the known partner; others may fit as well.",
            *parts,
        )

    def _asked(self, key: str, place: int, one: Retrieval) -> str:
        rank = self.further.tell(key, place, "rank", text=whole)
        query = _thing(one.query) if one.query.modality != "text" else f"<q>{escape(one.query.words)}</q>"
        shown = [
            f'<li class="right">{_thing(found.item)}<b>✓ right</b></li>'
            if found.right
            else f"<li>{_thing(found.item)}</li>"
            for found in one.found
        ]
        if not any(found.right for found in one.found):
            shown.append(f'<li class="wanted">{_thing(one.wanted)}<b>wanted: rank {rank}</b></li>')
        kind = " lines" if ends(one.direction)[1] == "text" else ""
        return (
            f'<div class="asked"><div class="query"><small>{escape(arrow(one.direction))}, right at rank {rank}</small>'
            f'{query}</div><ul class="found{kind}">{"".join(shown)}</ul></div>'
        )

    def _hub(self, place: int, one: Hub) -> str:
        raw, kept = (self.further.tell("hubs", place, key, text=whole) for key in ("raw", "corrected"))
        return (
            f'<li class="hub"><small>{escape(arrow(one.direction))}</small>{_thing(one.item)}'
            f"<p>in {raw} top ten lists by cosine, {kept} corrected</p></li>"
        )

    def data(self) -> str:
        """What it was made of and measured on, and what is wrong with it."""
        items = self.report.further.get("items", ())
        splits = list(dict.fromkeys(one["split"] for one in items))
        kinds = list(dict.fromkeys((one["collection"], one["modality"]) for one in items))
        places = {(one["collection"], one["modality"], one["split"]): place for place, one in enumerate(items)}
        rows = [
            [escape(collection), escape(noun(modality))]
            + [
                self.further.tell("items", places[collection, modality, split], "count", text=whole)
                if (collection, modality, split) in places
                else ""
                for split in splits
            ]
            for collection, modality in kinds
        ]
        listed = table("Items by split", ["collection", "", *splits], rows, words=2) if rows else ""
        faults = self.report.quarantine
        broken = "".join(
            f"<li>{escape(what)}: {escape(code)} ({escape(message)})</li>" for what, code, message in faults
        )
        count = sum(n for codes in self.report.metrics["quarantined"].values() for n in codes.values())
        more = f"<p>{count:,} in all; the first {len(faults)}:</p>" if count > len(faults) else ""
        media, texts = (self.metrics.tell("leaks", name, text=whole) for name in ("media", "texts"))
        both = f"<p>{media} media, {texts} texts.</p>{listing(self.report.leaks)}"
        clean = _card("On both sides of a split", both)
        unread = _card("In quarantine", more + (f"<ul>{broken}</ul>" if broken else "<p>Everything could be read.</p>"))
        cards = f'<div class="stack">{clean}{unread}</div>{_card("Near-duplicates", self._near())}'
        drawn = "drawn here, by group and seed" if self.report.metrics["split_drawn"] else "as the data declares them"
        return section(
            "data",
            "The data behind it",
            f"Splits are {drawn}; no split cuts a group.",
            f'{listed}<div class="grid after">{cards}</div>',
        )

    def _near(self) -> str:
        near = self.report.further.get("duplicates")
        if near is None:
            return "<p>Not looked for yet.</p>"
        counts = "; ".join(
            f"{noun(name)} {self.further.tell('duplicates', 'counts', name, 'pairs', text=whole)} pairs, "
            f"{self.further.tell('duplicates', 'counts', name, 'leaks', text=whole)} across the split"
            for name in near["counts"]
        )
        at = self.further.tell("duplicates", "threshold", text="{:.2f}".format)
        return f"<p>From a cosine of {at} on: {counts}.</p>{listing(self.report.duplicates)}"

    def origin(self) -> str:
        """Encoders with licences and what they have seen, the machine, and the commands."""
        rows = []
        for one in self.report.encoders:
            use = use_of(one.licence)
            told = f'{escape(one.licence or "not stated")}, <span class="use {use}">{TOLD[use]}</span>'
            seen = escape(one.seen or "not stated")
            rows.append([escape(one.modality), escape(one.name), f"{one.dim:,}", told, seen])
        encoders = table(
            "Encoders, their licences, and what they have seen",
            ["", "encoder", "width", "licence", "in training"],
            rows,
            words=5,
        )
        facts = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in self.report.environment.items()
        )
        commands = "".join(f"<pre><code>{escape(one)}</code></pre>" for one in self.report.commands)
        seed = self.metrics.tell("seed", text=whole)
        draws = self.metrics.tell("draws", text=whole)
        return section(
            "origin",
            "Where it comes from",
            "A benchmark that an encoder has seen in training flatters it: read the last column before you compare.",
            encoders,
            f'<div class="grid after">{_card("Measured with", f"<dl class=facts>{facts}</dl>")}'
            + _card("Again, from nothing", f"{commands}<p>Seed {seed}, {draws} resamples.</p>")
            + "</div>",
        )


def _card(title: str, inside: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{inside}</div>'


def _thing(one: Shown) -> str:
    """An item: its picture if it has one, and its words."""
    words = f"<q>{escape(one.words)}</q>" if one.words else ""
    picture = ""
    if one.picture is not None:
        picture = f'<img loading="lazy" alt="{escape(one.words or one.file)}" src="{data_uri(one.picture)}">'
    elif one.modality != "text":
        words = f"<i>{escape(noun(one.modality, many=False))} {escape(one.file)}</i>{words}"
    return f'<div class="thing">{picture}<div>{words}</div></div>'


def _way(direction: str) -> str:
    """The direction of a slice, or that it is both."""
    return arrow(direction) if "_to_" in direction else direction


def contents(names: Sequence[str]) -> str:
    """Links to sections."""
    return "".join(f'<li><a href="#{name}">{name.capitalize()}</a></li>' for name in names)
