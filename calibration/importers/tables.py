"""Reading measured tables: every fault named by file and column, in one line."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from sim.errors import ProfileError

__all__ = ["find", "read", "read_yaml", "rounded"]

MEASURED: Final = frozenset(("latency", "time_us", "t_mean_us", "t_skew_us", "kv_mean"))  # all other numbers are counts


def find(folder: Path, *names: str) -> Path | None:
    """The first of ``names`` that is a file of ``folder``."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read(path: Path, numeric: Sequence[str], text: Sequence[str] = (), positive: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV (gz or not) or parquet file with those columns, numbers checked; ``positive`` ones must be above 0.

    :raises ProfileError: unreadable file, missing column, or a value that is not a finite non-negative number.
    """
    try:
        table = (
            parquet.read_table(path).to_pandas(ignore_metadata=True) if path.suffix == ".parquet" else pd.read_csv(path)
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ProfileError(f"{path}: cannot be read: {reason}") from None
    missing = [column for column in [*numeric, *text] if column not in table.columns]
    if missing:
        found = ", ".join(str(column) for column in table.columns)
        raise ProfileError(f"{path}: no column {', '.join(missing)} (has: {found})")
    if table.empty:
        raise ProfileError(f"{path}: no rows")
    for column in numeric:
        values = pd.to_numeric(table[column], errors="coerce").astype(float)
        wrong = ~(np.isfinite(values) & (values >= 0.0))
        if column in positive:
            wrong |= values <= 0.0
        if column not in MEASURED:
            wrong |= values % 1.0 != 0.0
        if wrong.any():
            row = int(np.flatnonzero(wrong.to_numpy())[0])
            bound = ("positive" if column in positive else "non-negative") + ("" if column in MEASURED else " whole")
            shown = table[column].iloc[row]
            raise ProfileError(f"{path}: column {column}, row {row + 1}: {shown!s} is not a {bound} number")
        table[column] = values
    return table


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file. :raises ProfileError: unreadable, or not a mapping."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(data, Mapping):
        raise ProfileError(f"{path}: expected a mapping at the top")
    return data


def rounded(value: float, digits: int = 5) -> float:
    """``value`` to that many significant digits: what the measurements carry, and what keeps profiles small."""
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
