"""A what-if in words: the verdict, the changes as an option, and the cards of the widget as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.observe.words import in_seconds
from sim.report.format import metric, unit_for
from sim.report.markup import Markup, tag

if TYPE_CHECKING:
    from sim.notebook.state import Headline, WhatIf

__all__ = ["STYLE", "as_option", "banner", "cards", "length", "listed", "verdict"]

_MORE_IS_BETTER = ("goodput_rps", "slo_attainment", "throughput_rps", "output_tokens_per_s")

# JupyterLab and Voila say what is light and dark; where neither is, the page's own colour, half faded, is both
STYLE = Markup("""<style>
.tw { --tw-good: #15803d; --tw-bad: #b3261e; --tw-open: #92600a; --tw-soft: color-mix(in srgb, currentColor 18%, transparent);
  color: var(--jp-ui-font-color1, inherit); font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); }
[data-jp-theme-light="false"] .tw { --tw-good: #5fd38d; --tw-bad: #ff8a80; --tw-open: #f0c04c; }
.tw-verdict { border: 1px solid var(--tw-soft); border-left: 5px solid var(--tw-open); border-radius: 6px; padding: 8px 12px;
  font-size: 14px; }
.tw-verdict.meets { border-left-color: var(--tw-good); } .tw-verdict.misses { border-left-color: var(--tw-bad); }
.tw-cards { display: grid; gap: 8px; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); }
.tw-card { border: 1px solid var(--tw-soft); border-radius: 6px; padding: 8px 10px; font-variant-numeric: tabular-nums; min-width: 0; }
.tw-card b { display: block; font-size: 20px; line-height: 1.3; font-weight: 600; } .tw-card b small { font-size: 12px; font-weight: 400; }
.tw-muted { opacity: .75; } .tw-better { color: var(--tw-good); font-weight: 600; } .tw-worse { color: var(--tw-bad); font-weight: 600; }
.tw-error { color: var(--tw-bad); border: 1px solid; border-radius: 6px; padding: 6px 10px; overflow-wrap: anywhere; }
.tw-group { font-weight: 600; margin-top: 6px; }
.tw code, .tw pre { font-size: 12px; overflow-wrap: anywhere; white-space: pre-wrap; }
.tw pre { border: 1px solid var(--tw-soft); border-radius: 6px; padding: 6px 8px; margin: 4px 0; }
</style>""")


def length(seconds: float) -> str:
    """``45 s``, ``2 min``, ``1.5 h``."""
    if seconds < 60.0:
        return f"{seconds:g} s"
    return f"{seconds / 60.0:.3g} min" if seconds < 3600.0 else f"{seconds / 3600.0:.3g} h"


def as_option(name: str, changes: Mapping[str, Any]) -> str:
    """``changes`` as an option of a scenario file."""
    if not changes:
        return f"options:\n  {_flow(name)}: {{}}\n"
    lines = [f"    {_flow(path)}: {_flow(value)}\n" for path, value in changes.items()]
    return f"options:\n  {_flow(name)}:\n{''.join(lines)}"


def _flow(value: Any) -> str:
    """On one line, as YAML."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")


def listed(changes: Mapping[str, Any]) -> str:
    """``deployments.chat.replicas 4, ...``; the scenario itself if nothing is changed."""
    return ", ".join(f"{path} {_flow(value)}" for path, value in changes.items()) or "the scenario as it is"


def verdict(what_if: WhatIf) -> str:
    """Sentences: the objectives now; the price beside the baseline's, and whether the baseline does."""
    from sim.notebook.state import BASELINE, NOW

    decided = what_if.comparison.verdict
    words = [_standing(decided, NOW, "Now", bool(what_if.result.objectives)), _price(what_if)]
    if what_if.changes != what_if.pinned and what_if.result.objectives:
        words.append(_standing(decided, BASELINE, "The baseline", True))
    return " ".join(word for word in words if word)


def _standing(decided: Any, which: str, who: str, objectives: bool) -> str:
    if not objectives:
        return "The scenario sets no objectives."
    if decided.status[which] == "meets":
        return f"{who} meets every objective." if who != "Now" else "Now every objective is met."
    if decided.misses[which]:
        return (
            f"{who} misses {'; '.join(decided.misses[which])}."
            if who != "Now"
            else f"Now missed: {'; '.join(decided.misses[which])}."
        )
    # how many more replications would do is for a full run to say: these are short on purpose
    open_ones = "; ".join(words.partition(" (")[0] for words in decided.undecided[which])
    return f"{who}, undecided: {open_ones}."


def _price(what_if: WhatIf) -> str:
    price = what_if.headline("usd_per_hour")
    if math.isnan(price.now.value):
        return ""
    text = f"${price.now.value:,.2f}/h"
    gap = price.difference.difference
    if what_if.changes == what_if.pinned:
        return f"{text}."
    if round(gap, 2) == 0.0:
        return f"{text}, as the baseline."
    sure = "" if price.certain else ", which may be chance"
    return f"{text}, ${abs(gap):,.2f}/h {'more' if gap > 0.0 else 'less'} than the baseline{sure}."


def banner(what_if: WhatIf) -> Markup:
    """The verdict in a box, of its colour."""
    from sim.notebook.state import NOW

    status = what_if.comparison.verdict.status[NOW] if what_if.result.objectives else ""
    return tag("div", tag("div", verdict(what_if), class_=f"tw-verdict {status}"), class_="tw")


def cards(what_if: WhatIf) -> Markup:
    """A card a headline figure: now, the baseline, the paired difference with its interval."""
    same = what_if.changes == what_if.pinned
    return tag("div", tag("div", *(_card(one, same) for one in what_if.headlines), class_="tw-cards"), class_="tw")


def _card(headline: Headline, same: bool) -> Markup:
    now, before = headline.now, headline.baseline
    unit = unit_for(headline.metric, [now.value, before.value])
    name = "" if unit.suffix else unit.name
    title = metric(headline.metric).title
    title = title if headline.workload is None else f"{headline.workload}: {title}"
    goal = "" if headline.target is None else f" ≤ {_target(headline.metric, headline.target)}"
    shown = [
        tag("div", tag("span", title), tag("span", goal, class_="tw-muted")),
        tag(
            "b",
            unit.value(now.value),
            " ",
            tag("small", f"{unit.half_width(now.half_width, now.value)} {name}".strip()),
        ),
    ]
    if same:
        shown.append(tag("div", "the baseline", class_="tw-muted"))
    else:
        shown.append(tag("div", f"baseline {unit.value(before.value)} {name}".rstrip(), class_="tw-muted"))
        shown.append(_change(headline, unit, name))
    return tag("div", *shown, class_="tw-card")


def _target(name: str, target: float) -> str:
    if metric(name).unit != "time":
        return f"{target:,.6g}"
    factor, unit = in_seconds(target)
    return f"{target * factor:.6g} {unit}"


def _change(headline: Headline, unit: Any, name: str) -> Markup:
    gap, reach = headline.difference.difference, headline.difference.half_width
    if math.isnan(gap):
        return tag("div", "no difference can be told")
    if gap == 0.0 and reach == 0.0:
        return tag("div", "no difference")
    sign = "+" if gap > 0.0 else "−"
    kind = ""
    if headline.certain:
        kind = "tw-better" if (gap > 0.0) == (headline.metric in _MORE_IS_BETTER) else "tw-worse"
    chance = math.isfinite(reach) and reach > 1e-9 * abs(gap)  # and not what is left of rounding
    interval = f" {unit.half_width(reach, gap)}" if chance else ""
    arrow = "▲" if gap > 0.0 else "▼"
    text = f"{arrow} {sign}{unit.value(abs(gap))}{interval} {'' if unit.suffix else name}".rstrip()
    return tag(
        "div",
        tag("span", text, class_=kind or None),
        "" if headline.certain else tag("span", " may be chance", class_="tw-muted"),
    )
