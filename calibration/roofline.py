"""The efficiencies of the roofline, fitted to measured kernels: ``python -m calibration.roofline DATA`` writes them anew.

DATA is a folder with ``kernels/{a100,h100,h200}_sxm``, the kernel tables of aiconfigurator (ai-dynamo/aiconfigurator 095f58a5,
Apache-2.0). The RTX PRO 6000's kernels are taken from its shipped profile (casys-kaist/LLMServingSim 5daddb21, MIT).

Robust least squares on the logarithm of times, every GPU with the same weight in each kind of kernel; then the same with each GPU, each
architecture and each model left out, and the errors of what was left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from calibration import kernelrows
from calibration.leftout import PARTS, STEPS, Ratios, ratios
from sim import catalog, profiles
from sim.perf import efficiency as times
from sim.perf.efficiency import Efficiency, Rates
from sim.perf.monotone import Array
from sim.perf.roofline import FITTED, Fit, LeftOut
from sim.profiles.doubt import Doubt

__all__ = ["FOLDS", "Kind", "fit", "kinds", "left_out", "make"]

LOSS: Final = 0.1  # in the logarithm: kernels further off than 10 % count by their distance, not its square
FOLDS: Final = {
    "a100-sxm": ("a100-sxm",),
    "h100-sxm": ("h100-sxm",),
    "h200-sxm": ("h200-sxm",),
    "rtx-pro-6000": ("rtx-pro-6000",),
    "h100-sxm and h200-sxm": ("h100-sxm", "h200-sxm"),
}
"""GPUs left out together, by the name of the fit without them; the last is a whole architecture."""
MODELS: Final = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b")

# Where the search begins: microseconds, and shares that are met often
BEGIN: Final = Efficiency(
    gemm_start=4.0, gemm_memory=0.8, gemm_compute=0.8, gemm_tile=0.1, gemm_bend=3.0,
    gemm8_start=4.0, gemm8_memory=0.8, gemm8_compute=0.8,
    experts_start=20.0, experts_memory=0.8, experts_compute=0.5,
    prefill_start=10.0, prefill_compute=0.6, prefill_path=0.5,
    decode_start=10.0, decode_memory=0.8, decode_head=2.0,
    reduce_start=5.0, reduce_once=0.5, reduce_second=3.0, reduce_twice=0.7, ring_start=20.0, ring_share=0.7,
    gather_start=4.0, gather_step=1.0, gather_share=0.6,
)  # fmt: skip
PLAIN: Final = ("start", "step", "second", "head", "tile")  # not a share of a peak


@dataclass(frozen=True)
class Kind:
    """Measured kernels of one kind: ``rows`` with ``gpu`` and ``seconds`` besides the arguments of ``time``, and the numbers that are
    fitted to them."""

    name: str
    fields: tuple[str, ...]
    rows: pd.DataFrame
    time: Callable[[Efficiency, Rates, pd.DataFrame], Array]

    def seconds(self, e: Efficiency) -> Array:
        """Predicted seconds of the rows."""
        return self.time(e, _rates(self.rows["gpu"]), self.rows)

    def kept(self, rows: pd.Series) -> Kind:
        """The same with those rows alone."""
        return replace(self, rows=self.rows[rows])


def kinds(data: Path) -> list[Kind]:
    """All kernels there are, in the order in which they are fitted: later kinds use numbers of earlier ones."""
    gemm = kernelrows.gemm(data)
    return [
        Kind(
            "gemm",
            ("gemm_start", "gemm_memory", "gemm_compute", "gemm_tile", "gemm_bend"),
            gemm[gemm["dtype"] == "bf16"],
            lambda e, rates, rows: times.gemm(e, rates, *_columns(rows, "m", "n", "k")),
        ),
        Kind(
            "gemm8",
            ("gemm8_start", "gemm8_memory", "gemm8_compute"),
            gemm[gemm["dtype"] == "fp8"],
            lambda e, rates, rows: times.gemm(e, rates, *_columns(rows, "m", "n", "k"), narrow=True),
        ),
        Kind(
            "experts",
            ("experts_start", "experts_memory", "experts_compute"),
            kernelrows.experts(data),
            lambda e, rates, rows: times.experts(
                e, rates, *_columns(rows, "tokens", "hidden", "width", "chosen", "count")
            ),
        ),
        Kind(
            "decode",
            ("decode_start", "decode_memory", "decode_head"),
            kernelrows.decode(data),
            lambda e, rates, rows: times.decode(
                e, rates, *_columns(rows, "sequences", "context", "heads", "kv_heads", "head_dim")
            ),
        ),
        Kind(
            "prefill",
            ("prefill_start", "prefill_compute", "prefill_path"),
            kernelrows.prefill(data),
            lambda e, rates, rows: times.prefill(
                e, rates, *_columns(rows, "chunk", "past", "heads", "kv_heads", "head_dim")
            ),
        ),
        Kind(
            "all_reduce",
            tuple(name for name in asdict(BEGIN) if name.startswith(("reduce", "ring"))),
            kernelrows.collective(data, "all_reduce"),
            lambda e, rates, rows: times.all_reduce(e, rates, *_columns(rows, "size", "gpus")),
        ),
        Kind(
            "all_gather",
            tuple(name for name in asdict(BEGIN) if name.startswith("gather")),
            kernelrows.collective(data, "all_gather"),
            lambda e, rates, rows: times.all_gather(e, rates, *_columns(rows, "size", "gpus")),
        ),
    ]


def _columns(rows: pd.DataFrame, *names: str) -> list[Array]:
    return [rows[name].to_numpy(float) for name in names]


def _rates(gpus: pd.Series) -> Rates:
    """Peaks by row."""
    found = {name: Rates.of(catalog.gpu(name)) for name in gpus.unique()}
    names = Rates.__dataclass_fields__
    return Rates(
        **{field: gpus.map({name: getattr(of, field) for name, of in found.items()}).to_numpy(float) for field in names}
    )


def fit(found: Iterable[Kind], otherwise: Efficiency = BEGIN) -> Efficiency:
    """Fitted to the rows of each kind; where a kind has none, what ``otherwise`` says."""
    e = otherwise
    for kind in found:
        if len(kind.rows):
            e = _fit(kind, e)
    return e


def _fit(kind: Kind, begin: Efficiency) -> Efficiency:
    from scipy.optimize import least_squares

    measured = kind.rows["seconds"].to_numpy(float)
    rates = _rates(kind.rows["gpu"])
    weight = (1.0 / kind.rows["gpu"].map(kind.rows["gpu"].value_counts())).to_numpy(float)
    upper = [np.inf if name.endswith(PLAIN) or name == "gemm_bend" else 0.0 for name in kind.fields]
    lower = [0.0 if name == "gemm_bend" else -np.inf for name in kind.fields]

    def at(logs: Array) -> Efficiency:
        return replace(begin, **{name: float(np.exp(value)) for name, value in zip(kind.fields, logs, strict=True)})

    def residuals(logs: Array) -> Array:
        return np.asarray(np.log(kind.time(at(logs), rates, kind.rows) / measured))

    def loss(squared: Array) -> Array:
        """Of squared residuals over LOSS²: √(1 + z) twice, less 2, as scipy's soft_l1, with every GPU's weight."""
        root = np.sqrt(1.0 + squared)
        return np.asarray(np.stack([2.0 * (root - 1.0), 1.0 / root, -0.5 / root**3]) * weight)

    first = np.log([getattr(begin, name) for name in kind.fields])
    first = np.clip(first, np.asarray(lower) + 1e-3, np.asarray(upper) - 1e-3)
    solved = least_squares(
        residuals, first, bounds=(lower, upper), loss=loss, f_scale=LOSS, xtol=1e-10, ftol=1e-12, gtol=1e-12
    )
    return at(solved.x)


def _without_model(kind: Kind, model: str) -> Kind:
    return kind.kept(~kernelrows.of_model(kind.name, kind.rows, catalog.model(model)))


def make(data: Path) -> Fit:
    """The whole of ``roofline.json``. :raises ProfileError: tables that are missing or malformed."""
    found = kinds(data)
    whole = fit(found)
    without: dict[str, Efficiency] = {}
    errors: list[LeftOut] = []
    for what, gpus in FOLDS.items():
        out = [kind.rows["gpu"].isin(gpus) for kind in found]
        fold = [kind.kept(~rows) for kind, rows in zip(found, out, strict=True)]
        without[what] = fit(fold, whole)
        for kind, rows, rest in zip(found, out, fold, strict=True):
            if rows.any() and len(rest.rows):
                left = kind.kept(rows)
                errors.append(
                    _error(
                        f"{kind.name} kernels", what, left.seconds(without[what]) / left.rows["seconds"].to_numpy(float)
                    )
                )
    for model in MODELS:
        without[model] = fit([_without_model(kind, model) for kind in found], whole)
    by_shape = list(_mixtures(next(kind for kind in found if kind.name == "experts"), whole))
    errors.append(_error("experts kernels", "each mixture", np.concatenate(by_shape)))
    steps = {what: {name: ratios(name, e) for name in left_out(what)} for what, e in without.items()}
    errors.extend(_errors(steps))
    return Fit(
        source="kernels of ai-dynamo/aiconfigurator 095f58a5 and casys-kaist/LLMServingSim 5daddb21",
        licence="Apache-2.0, MIT",
        command="python -m calibration.roofline DATA",
        rows=_counts(found),
        efficiency=_rounded(whole),
        without={what: _rounded(e) for what, e in without.items()},
        errors=tuple(errors),
        doubt=_doubt([steps[what] for what in FOLDS]),
        experts=round(float(np.mean([np.mean(np.log(one)) ** 2 for one in by_shape])), 5),
    )


def _mixtures(kind: Kind, whole: Efficiency) -> Iterator[Array]:
    """Predicted over measured of each mixture, its shape left out of the fit."""
    shapes = kind.rows.groupby(["hidden", "chosen", "count"]).ngroup()
    for shape in sorted(shapes.unique()):
        left = kind.kept(shapes == shape)
        yield left.seconds(_fit(kind.kept(shapes != shape), whole)) / left.rows["seconds"].to_numpy(float)


def left_out(what: str) -> list[str]:
    """The shipped profiles of the GPUs or the model that the fit called ``what`` went without."""
    gpus = FOLDS.get(what, ())
    measured = [name for name in profiles.names() if profiles.load(name).step is not None]
    return [name for name in measured if (name.split("/")[0] in gpus if gpus else name.split("/")[1] == what)]


def _errors(steps: Mapping[str, Mapping[str, Ratios]]) -> Iterator[LeftOut]:
    """Of each part and of whole steps, by what was left out; then all single GPUs and all models together."""
    pools = {what: [what] for what in steps}
    pools["each GPU"] = [what for what, gpus in FOLDS.items() if len(gpus) == 1]
    pools["each model"] = list(MODELS)
    for what, members in pools.items():
        for part in (*PARTS, *STEPS):
            values = [value for member in members for found in steps[member].values() for value in found[part]]
            if values:
                yield _error(part, what, np.asarray(values))


def _error(part: str, what: str, ratio: Array) -> LeftOut:
    errors = ratio - 1.0
    sizes = np.abs(errors)
    return LeftOut(
        part=part,
        what=what,
        method="left out of the fit, then predicted",
        points=len(errors),
        median=round(float(np.median(sizes)), 4),
        p90=round(float(np.quantile(sizes, 0.9)), 4),
        p95=round(float(np.quantile(sizes, 0.95)), 4),
        bias=round(float(np.mean(errors)), 4),
    )


def _doubt(by_gpu: Sequence[Mapping[str, Ratios]]) -> Doubt:
    """The second moment around 1 of the factors by which the parts of a GPU left out are wrong, every GPU with the same weight."""
    moments = []
    for found in by_gpu:
        logs = np.array([[-np.mean(np.log(one[part])) for part in PARTS] for one in found.values()])
        moments.append(logs.T @ logs / len(logs))
    covariance = np.mean(moments, axis=0)
    return Doubt(
        parts=PARTS,
        covariance=tuple(tuple(round(float(value), 5) for value in row) for row in covariance),
        method="mean errors of the parts on GPUs left out of the roofline's fit",
    )


def _counts(found: Iterable[Kind]) -> dict[str, int]:
    counts = pd.concat([kind.rows["gpu"] for kind in found]).value_counts()
    return {name: int(counts[name]) for name in sorted(counts.index)}


def _rounded(e: Efficiency) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in asdict(e).items()}


def dumps(made: Fit) -> str:
    """As it is written: a line an entry."""
    data: dict[str, Any] = made.model_dump(mode="json", exclude_none=True)

    def lines(value: Any, indent: str) -> Iterator[str]:
        if isinstance(value, dict | list) and any(isinstance(item, dict | list) for item in _items(value)):
            ends = "{}" if isinstance(value, dict) else "[]"
            yield ends[0] + "\n"
            entries = list(value.items()) if isinstance(value, dict) else [(None, item) for item in value]
            for index, (key, item) in enumerate(entries):
                yield f"{indent} " + (f"{json.dumps(key)}: " if key is not None else "")
                yield from lines(item, indent + " ")
                yield ",\n" if index + 1 < len(entries) else "\n"
            yield indent + ends[1]
        else:
            yield json.dumps(value, ensure_ascii=False)

    return "".join(lines(data, "")) + "\n"


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def main(arguments: list[str]) -> int:
    """Fit, and write ``sim/profiles/roofline.json``."""
    from sim.errors import TwinferError

    if len(arguments) != 1:
        sys.stderr.write("usage: python -m calibration.roofline DATA\n")
        return 2
    try:
        made = make(Path(arguments[0]))
    except TwinferError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    FITTED.write_text(dumps(made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
