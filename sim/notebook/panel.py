"""The widget: knobs beside what comes out, in ipywidgets. Made by ``sim.what_if``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sim.errors import TwinferError
from sim.notebook.latest import Latest
from sim.notebook.plots import LATENCIES, Plots
from sim.notebook.state import WhatIf
from sim.notebook.words import STYLE, banner, cards, length, listed
from sim.report.markup import tag

if TYPE_CHECKING:
    from sim.config import Scenario
    from sim.notebook.knobs import Knob
    from sim.observe.result import Comparison

__all__ = ["Panel", "Shown", "what_if"]

_KNOBS_WIDTH = "330px"
_COPY = """
export default { render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-button widget-button lm-Widget jupyter-widgets";
  button.textContent = "Copy as YAML";
  button.title = "Copy the changes, as an option of the scenario, to the clipboard";
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(model.get("text")); button.textContent = "Copied"; }
    catch { button.textContent = "Select it below"; }
    setTimeout(() => { button.textContent = "Copy as YAML"; }, 1500);
  };
  el.appendChild(button);
  // a plot is as wide as the window let it be when it was drawn, which may have been before it had a place
  const fit = () => window.dispatchEvent(new Event("resize"));
  let width = 0;
  const changed = ([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 2) return;
    width = entry.contentRect.width;
    setTimeout(fit, 200);
  };
  const watch = () => {
    const panel = el.closest(".tw-panel");
    if (!panel) return void setTimeout(watch, 100);
    new ResizeObserver(changed).observe(panel);
    for (const wait of [500, 2000, 5000]) setTimeout(fit, wait);
  };
  watch();
} };
"""


def what_if(
    scenario: Scenario, *, knobs: Mapping[str, Any] | None = None, duration: float | None = None, replications: int = 3
) -> Shown:
    """A widget to turn the knobs of ``scenario`` by hand: load, replicas, engine, router, autoscaler, whatever it has.

    Every change is simulated at once, in ``replications`` short runs on the requests the pinned baseline saw, and shown beside it with
    the paired difference. ``knobs`` adds paths, or replaces the values of a knob: ``{"deployments.chat.engine.block_size": [16, 32]}``
    or a range like ``"1..8"``. ``duration`` is the simulated time of a run, in seconds; default: as much as half a second computes.
    What it returns can be read and driven from Python as well, see :class:`sim.notebook.state.WhatIf`.

    TwinferError without ipywidgets, or if the scenario cannot be run.
    """
    from sim.config import Scenario
    from sim.errors import ConfigError, Problem

    if not isinstance(scenario, Scenario):
        raise ConfigError([Problem(f"{scenario!r:.80} is not a scenario: sim.load(path) gives one", path="scenario")])
    return Shown(scenario, knobs=knobs, duration=duration, replications=replications)


class Shown(WhatIf):
    """A what-if with its widget, ``panel``."""

    def __init__(self, scenario: Scenario, **given: Any) -> None:
        try:
            import ipywidgets  # noqa: F401
        except ImportError:
            raise TwinferError("sim.what_if needs ipywidgets: pip install 'twinfer[notebooks]'") from None
        super().__init__(scenario, **given)
        self.panel = Panel(self)

    def set(self, changes: Mapping[str, Any]) -> None:
        """As :meth:`WhatIf.set`; what was asked by a knob and is not there yet is dropped."""
        self.panel.forget()
        super().set(changes)

    def pin(self) -> None:
        """As :meth:`WhatIf.pin`."""
        self.panel.forget()
        super().pin()

    def _repr_mimebundle_(self, **given: Any) -> Any:
        return self.panel.widget._repr_mimebundle_(**given)


class Panel:
    """The widgets of a what-if. ``widget`` holds them all; ``wait`` waits until what was asked for is shown."""

    def __init__(self, state: WhatIf) -> None:
        import ipywidgets as ui

        self.state = state
        self._silent = False
        # what is being run, or could not be: not the changes of the state, and where the knobs are
        self._asked: dict[str, Any] | None = None
        self._latest: Latest[dict[str, Any], Comparison | TwinferError] = Latest(_answering(state), self._hand_over)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.knobs: dict[str, Any] = {}
        self.verdict, self.cards, self.fault, self.changes = ui.HTML(), ui.HTML(), ui.HTML(), ui.HTML()
        self.busy = ui.HTML()
        self.latency = ui.ToggleButtons(
            options=[(title, key) for key, (title, _) in LATENCIES.items()],
            style={"button_width": "64px"},
            tooltips=[meaning for _, meaning in LATENCIES.values()],
        )
        self.latency.observe(lambda _: self.show(), "value")
        self.pin = _button(ui, "Pin", "What is now becomes the baseline", state.pin, "primary")
        self.reset = _button(
            ui, "Back to baseline", "Undo the changes since the last pin", lambda: self.ask(dict(state.pinned))
        )
        self.copy = _copier()
        self.plots: Plots | None = None
        try:
            self.plots = Plots()
        except TwinferError as error:
            self._no_plots = str(error)
        self.widget = self._laid_out(ui)
        self.widget.add_class("tw-panel")
        state.watch(self.show)
        self.show()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being simulated; False if it took longer than ``timeout`` seconds."""
        return self._latest.wait(timeout)

    def forget(self) -> None:
        """Nothing of what was asked is to be shown any more; nothing is being simulated when this returns."""
        self._latest.drop()
        self._latest.wait()
        self._asked = None

    def show(self) -> None:
        """Bring every widget to what the state says."""
        state = self.state
        self.busy.value = self._footnote()
        self.fault.value = (
            tag("div", tag("div", state.error, class_="tw-error", role="alert"), class_="tw") if state.error else ""
        )
        if state.error:
            return  # what was shown last stays, and the knobs where the user put them
        self._silent = True
        for knob in state.knobs:
            place = knob.position(state.changes)
            self.knobs[knob.path].index = knob.start if place is None else place
        self._silent = False
        self.verdict.value, self.cards.value = STYLE + banner(state), cards(state)
        if self.copy is not None:
            self.copy.text = state.yaml()
        baseline = tag("div", "Baseline: ", tag("code", listed(state.pinned)), class_="tw-muted")
        self.changes.value = tag("div", tag("pre", state.yaml()), baseline, class_="tw")
        if self.plots is not None:
            self.plots.draw(state.baseline, state.result, self.latency.value)

    # --- what the user does

    def _turned(self, knob: Knob, position: int) -> None:
        if not self._silent:
            self.ask(knob.turned(self.state.changes if self._asked is None else self._asked, position))

    def ask(self, changes: dict[str, Any]) -> None:
        """Run these changes in the background, in place of what was asked before."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._asked = changes
        self.busy.value = tag("div", "simulating …", class_="tw tw-muted")
        self._latest.ask(changes)

    def _hand_over(self, changes: dict[str, Any], answer: Comparison | TwinferError) -> None:
        """From the thread to the kernel's loop, where widgets are touched; outside of a kernel there is none."""
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._take, changes, answer)
        else:
            self._take(changes, answer)

    def _take(self, changes: dict[str, Any], answer: Comparison | TwinferError) -> None:
        if self._asked == changes:  # else the user went on meanwhile
            if not isinstance(answer, TwinferError):
                self._asked = None
            self.state.answered(changes, answer)

    # --- how it looks

    def _footnote(self) -> str:
        trial = self.state.trial
        own = trial.scenario.run.duration
        part = "" if trial.whole or own is None else f" of {length(own)}"
        text = f"{trial.replications} runs of the first {length(trial.duration)}{part}, the same requests in both."
        more = "" if trial.whole else " A whole run may say otherwise: paste the YAML into the scenario and compare."
        return tag("div", text, more, class_="tw tw-muted")

    def _laid_out(self, ui: Any) -> Any:
        left: list[Any] = []
        group = ""
        for knob in self.state.knobs:
            if knob.group != group:
                group = knob.group
                left.append(ui.HTML(tag("div", tag("div", group, class_="tw-group"), class_="tw")))
            self.knobs[knob.path] = _control(ui, knob, self._turned)
            left.append(self.knobs[knob.path])
        names = self.state.options
        if names:
            left.insert(0, self._options(ui, names))
        buttons = [self.pin, self.reset, *([] if self.copy is None else [self.copy])]
        left += [ui.HBox(buttons, layout={"margin": "10px 0 0 0", "flex_flow": "row wrap"}), self.changes]
        drawn: list[Any]
        if self.plots is None:
            drawn = [ui.HTML(tag("div", self._no_plots, class_="tw tw-muted"))]
        else:
            half = {"flex": "1 1 360px", "min_width": "300px", "overflow": "hidden"}
            boxes = [ui.VBox([figure], layout=half) for figure in (self.plots.latency, self.plots.fleet)]
            self.latency.layout.margin = "8px 0 0 0"
            drawn = [self.latency, ui.Box(boxes, layout={"display": "flex", "flex_flow": "row wrap", "width": "100%"})]
        right = [self.fault, self.verdict, self.cards, *drawn, self.busy]
        return ui.Box(
            [
                ui.VBox(left, layout={"flex": f"0 0 {_KNOBS_WIDTH}", "width": _KNOBS_WIDTH}),
                ui.VBox(right, layout={"flex": "1 1 480px", "min_width": "320px"}),
            ],
            layout={"display": "flex", "flex_flow": "row wrap", "width": "100%", "grid_gap": "16px"},
        )

    def _options(self, ui: Any, names: list[str]) -> Any:
        chosen = ui.Dropdown(
            options=["", *names], description="option", style={"description_width": "110px"}, layout={"width": "320px"}
        )

        def take(change: Any) -> None:
            if change["new"]:
                self.ask(dict(self.state.scenario.options[change["new"]]))
                chosen.value = ""

        chosen.observe(take, "value")
        self.option = chosen
        return chosen


def _answering(state: WhatIf) -> Callable[[dict[str, Any], Callable[[], bool]], Comparison | TwinferError]:
    def answer(changes: dict[str, Any], stale: Callable[[], bool]) -> Comparison | TwinferError:
        try:
            return state.compare(changes, stale)
        except TwinferError as error:
            return error

    return answer


def _control(ui: Any, knob: Knob, turned: Callable[[Knob, int], None]) -> Any:
    kind = ui.SelectionSlider if knob.ordered else ui.Dropdown
    control = kind(
        options=[(shown, place) for place, shown in enumerate(_distinct(knob.shown))],
        value=knob.start,
        description=knob.label,
        tooltip=knob.path,
        style={"description_width": "110px"},
        layout={"width": "320px"},
    )
    control.observe(lambda change: turned(knob, change["new"]), "value")
    return control


def _distinct(names: tuple[str, ...]) -> list[str]:
    """The names, with a number behind those that were there before: a choice is told by its name."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _button(ui: Any, name: str, tooltip: str, clicked: Callable[[], None], style: str = "") -> Any:
    button = ui.Button(description=name, tooltip=tooltip, button_style=style, layout={"width": "auto"})
    button.on_click(lambda _: clicked())
    return button


def _copier() -> Any:
    """A button whose ``text`` goes to the clipboard; None without anywidget, where the text can be selected all the same."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None

    class CopyButton(anywidget.AnyWidget):
        _esm = _COPY
        text = traitlets.Unicode("").tag(sync=True)

    return CopyButton()
