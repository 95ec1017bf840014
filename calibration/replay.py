"""The requests of a recorded run through the simulator: what a profile predicts for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from calibration.runs import RequestLog
from sim.errors import ConfigError, Problem, ProfileError, did_you_mean

if TYPE_CHECKING:
    from sim import Profile, Result

__all__ = ["ITL_FIGURES", "replay"]

ITL_FIGURES: Final = ("mean", "p50", "p90", "p95", "p99")
_NAME: Final = "run"  # of the deployment and the workload; messages name fields below it


def replay(
    profile: Profile, run: RequestLog, *, engine: Mapping[str, Any], architecture: str | Path | None = None
) -> RequestLog:
    """What ``profile`` predicts for the requests of ``run`` on one replica, in the same order.

    Requests are sent as they were: at ``run.sent``, or where ``run.concurrency`` is set by so many users, each its next one, in
    order, when its last is answered; then ``sent`` of what is returned is the simulated time. A request without prompt or
    output tokens is not simulated, one that does not fit the engine is rejected: NaN in ``ttft`` and ``e2e``.

    ``engine`` are engine settings by their scenario names (``max_num_seqs``, ``kv_blocks``, ``async_scheduling``, ...); None
    stands for the default. ``architecture`` is a catalog name or a config.json, by default the profile's model.

    ``about`` holds ``itl``, the figures :data:`ITL_FIGURES` of all inter-token latencies in seconds (single ones are not kept),
    ``engine``, the settings as they were in the end, and ``warnings``, sentences.

    :raises ProfileError: no request can be simulated, or the profile is of a model that does not generate.
    :raises ConfigError: a setting that cannot be right.
    """
    import sim
    from sim.config import load_text

    measured = profile.steps.decode.contexts[-1]
    rows = np.flatnonzero((run.prompt > 0) & (run.output > 0))
    if not len(rows):
        raise ProfileError(f"{run.source or 'the run'}: has no request with prompt and output tokens")
    rows = rows[np.argsort(run.sent[rows], kind="stable")]
    with TemporaryDirectory(prefix="twinfer-replay-") as folder:
        text = json.dumps(_scenario(profile, run, rows, Path(folder), engine, _placed(architecture or profile.model)))
        try:
            result = sim.simulate(load_text(text, file=str(Path(folder) / "replay.yaml")), jobs=1)
        except ConfigError as error:
            raise ConfigError([_plain(problem) for problem in error.problems]) from None
    longer = int(np.count_nonzero(run.prompt[rows] + run.output[rows] > measured))
    warnings = [re.sub(rf"^(deployments\.)?{_NAME}: ", "", warning) for warning in result.warnings]
    if longer:
        warnings.append(f"{longer} requests grow longer than the {measured:,} tokens of context that were measured")
    return _log(profile, run, rows, result, warnings)


def _scenario(
    profile: Profile, run: RequestLog, rows: Any, folder: Path, engine: Mapping[str, Any], architecture: str
) -> dict[str, Any]:
    from sim import catalog
    from sim.profiles import save

    file, requests = folder / "profile.json", folder / "requests.csv"
    save(profile, file)
    table = zip(run.sent[rows] - run.sent[rows[0]], run.prompt[rows], run.output[rows], strict=True)
    lines = [f"{float(sent)!r},{prompt},{output}\n" for sent, prompt, output in table]
    requests.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(lines), encoding="utf-8")
    workload: dict[str, Any] = {"name": _NAME, "model": "model", "arrivals": {"trace": str(requests)}}
    if run.concurrency is not None:
        workload |= {"arrivals": {"closed_loop": run.concurrency}, "lengths": {"trace": str(requests)}}
    known = profile.gpu in catalog.names("gpus")
    if not known and profile.hardware is None:
        raise ProfileError(
            f"{profile.name}: gpu {profile.gpu!r} is not in the catalog{did_you_mean(profile.gpu, catalog.names('gpus'))}, "
            "and the profile has no hardware part that says what it is"
        )
    return {
        "run": {"requests": len(rows), "replications": 1, "warmup": 0},
        "models": {"model": {"architecture": architecture, "dtype": profile.dtype}},
        "cluster": {
            "pools": [
                {
                    "name": "pool",
                    "gpu": profile.gpu if known else str(file),
                    "gpus_per_node": profile.tensor_parallel,
                    "price": 0,
                }
            ]
        },
        "workloads": [workload],
        "deployments": [
            {
                "name": _NAME,
                "model": "model",
                "pool": "pool",
                "profile": str(file),
                "tensor_parallel": profile.tensor_parallel,
                "engine": {name: value for name, value in engine.items() if value is not None},
            }
        ],
    }


def _placed(architecture: str | Path) -> str:
    """A file by its whole path: the scenario lies elsewhere."""
    from sim import catalog

    path = Path(architecture).expanduser()
    return (
        str(path.resolve()) if str(architecture) not in catalog.names("models") and path.exists() else str(architecture)
    )


def _plain(problem: Problem) -> Problem:
    """The problem without the file nobody wrote: what is left of its path are the architecture, the gpu and engine settings."""
    path = problem.path
    for prefix in (f"deployments.{_NAME}.", "models.model.", "cluster.pools.pool."):
        path = path.removeprefix(prefix)
    return Problem(problem.message, path=path)


def _log(profile: Profile, run: RequestLog, rows: Any, result: Result, warnings: list[str]) -> RequestLog:
    table = result.table("requests")
    columns = {}
    for name in ("arrival_s", "ttft_s", "e2e_s"):
        columns[name] = np.full(len(run), np.nan)
        columns[name][rows[table.column("request").to_numpy()]] = table.column(name).to_numpy(zero_copy_only=False)
    return RequestLog(
        sent=run.sent if run.concurrency is None else columns["arrival_s"],
        prompt=run.prompt,
        output=run.output,
        ttft=columns["ttft_s"],
        e2e=columns["e2e_s"],
        concurrency=run.concurrency,
        source=f"simulated with {profile.name}",
        about={
            "itl": {name: result.summary[f"itl_{name}"].value for name in ITL_FIGURES},
            "engine": result.manifest["deployments"][_NAME]["engine"],
            "warnings": warnings,
        },
    )
