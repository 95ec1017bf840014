"""The what-if widget in a real browser: headless Chromium drives JupyterLab, which this test serves.

Skipped where Chromium is not installed. ``TWINFER_SCREENSHOT=1`` writes docs/images/what-if.png (``dark``: of the dark theme, beside it).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOT = os.environ.get("TWINFER_SCREENSHOT", "")
PATIENCE = 90_000  # ms; two cores may be busy with other tests

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: the widget is not seen in a browser"
)

CELL = """\
import sim

scenario = sim.load("scenarios/chat_capacity.yaml").with_option("4-gpus")
w = sim.what_if(scenario{duration})
w
"""


def settings(folder: Path, dark: bool) -> None:
    """JupyterLab as it is out of the box, but for news from the network, and questions that wait for an answer."""
    chosen: dict[str, dict[str, Any]] = {
        "apputils-extension/themes": {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"autoStartDefaultKernel": True},
    }
    for name, values in chosen.items():
        file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), "utf-8")


def notebook(source: str) -> dict[str, Any]:
    code = {
        "cell_type": "code",
        "id": "what-if",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return {"cells": [code], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a notebook with a what-if in it."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "scenarios", tree / "scenarios")
    source = CELL.format(duration="" if SCREENSHOT else ", duration=20")
    (tree / "what_if.ipynb").write_text(json.dumps(notebook(source)), "utf-8")
    settings(tmp_path / "settings", SCREENSHOT == "dark")
    own = {
        "PYTHONPATH": str(ROOT),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser", "--allow-root",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={tree}",
    ]  # fmt: skip
    log = tmp_path / "jupyter.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, env=os.environ | own, cwd=tree, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE / 1e3
        while True:
            try:
                with urllib.request.urlopen(f"{address}/api", timeout=5):
                    break
            except OSError:
                assert server.poll() is None, log.read_text("utf-8")
                assert time.monotonic() < deadline, log.read_text("utf-8")
                time.sleep(0.2)
        yield f"{address}/doc/tree/what_if.ipynb"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # the server, which shuts its kernels down
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


READY = """() => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    const session = panel?.context?.sessionContext;
    return Boolean(session?.isReady && panel.context.isReady && session.session?.kernel?.connectionStatus === 'connected'
        && session.session.kernel.status === 'idle');
}"""
"""Whether the notebook is open, and its kernel listens."""

FITS = """[...document.querySelectorAll('.js-plotly-plot')].every(
    plot => plot.querySelector('.main-svg').getBoundingClientRect().right <= plot.parentElement.getBoundingClientRect().right + 1)"""
"""Whether every plot is as wide as its place."""


def card(page: Any, title: str) -> str:
    return str(page.locator(".tw-card").filter(has_text=title).inner_text())


def turn(page: Any, knob: str, key: str, times: int) -> None:
    """Move the slider of that name with the keyboard."""
    slider = page.locator(".widget-slider").filter(has_text=knob)
    slider.locator(".noUi-handle").focus()
    for _ in range(times):
        page.keyboard.press(key)


def drawn(page: Any, figure: int, trace: int) -> str:
    """The path that a curve of a plot has."""
    line = (
        page.locator(".js-plotly-plot").nth(figure).locator(".scatterlayer .trace").nth(trace).locator("path.js-line")
    )
    return str(line.get_attribute("d"))


def redrawn(page: Any, figure: int, trace: int, before: str) -> None:
    """Wait until the curve is another."""
    line = "document.querySelectorAll('.js-plotly-plot')[f].querySelectorAll('.scatterlayer .trace')[t].querySelector('.js-line')"
    page.wait_for_function(f"([f, t, d]) => {line}.getAttribute('d') !== d", arg=[figure, trace, before])


def test_turning_a_knob_in_a_browser_changes_figures_and_plots_and_nothing_leaves_this_machine(served: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        page.set_default_timeout(PATIENCE)
        foreign: list[str] = []
        faults: list[str] = []
        home = served.partition("/doc/")[0]
        inside = (home, home.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(inside) else foreign.append(request.url))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))

        page.goto(served)
        page.wait_for_function(READY)
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_selector(".tw-card, .jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']")
        assert page.locator(".tw-card").count() > 0, page.inner_text(".jp-Notebook")
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace path.js-line", state="attached")

        page.wait_for_function(FITS)

        assert "the baseline" in card(page, "TTFT p99")
        assert "Now every objective is met. $27.52/h." in page.inner_text(".tw-verdict")
        before, curve, fleet = card(page, "TTFT p99"), drawn(page, 0, 1), drawn(page, 1, 3)

        turn(page, "replicas", "ArrowLeft", 2)
        page.wait_for_function("document.querySelector('.tw-verdict').innerText.includes('$13.76/h')")
        redrawn(page, 0, 1, curve)
        redrawn(page, 1, 3, fleet)

        after = card(page, "TTFT p99")
        assert after != before
        assert f"baseline {value(before)}" in after
        assert re.search(r"▲ \+[0-9.]+", after)
        assert re.search(r"▼ −13\.8 \$/h", card(page, "Price"))
        assert "deployments.chat.replicas: 2" in page.inner_text(".tw pre")
        if SCREENSHOT:
            photograph(page)

        page.get_by_role("button", name="Pin").click()
        page.wait_for_function(
            "[...document.querySelectorAll('.tw-card')].every(c => c.innerText.includes('the baseline'))"
        )
        assert value(card(page, "TTFT p99")) == value(after)
        assert "Baseline: deployments.chat.replicas 2" in page.inner_text(".tw:has(pre)")

        page.get_by_role("button", name="Copy as YAML").click()
        page.get_by_role("button", name=re.compile("Copied|Select it below")).wait_for()

        # more sequences than tokens in a step: the engine would refuse to start
        turn(page, "max sequences", "ArrowLeft", 1)
        turn(page, "token budget", "ArrowLeft", 5)
        page.wait_for_selector(".tw-error")
        assert "256 tokens in a step cannot serve max_num_seqs 512" in page.inner_text(".tw-error")
        assert page.locator(".tw-card").count() == 4  # what was shown last stays
        browser.close()

    assert foreign == []
    assert faults == []


def value(text: str) -> str:
    """The figure on a card: ``172 ms`` in ``TTFT p99 ≤ 2 s / 172 ±29 ms / ...``."""
    found = re.search(r"\n([0-9.,]+)(?: ±[0-9.,<]+)?(?: (\S+))?\n", text)
    assert found is not None, text
    return f"{found[1]} {found[2] or ''}".strip()


def photograph(page: Any) -> None:
    page.wait_for_timeout(1000)
    output = page.locator(".jp-OutputArea-output").first
    name = "what-if-dark.png" if SCREENSHOT == "dark" else "what-if.png"
    output.screenshot(path=ROOT / "docs" / "images" / name)
