"""What the world offers: GPUs, models, rentable machines, links, published traces and the carbon of regions, with units and sources.

    >>> from sim import catalog
    >>> catalog.model("llama-3.1-8b").kv_bytes_per_token()
    131072
    >>> catalog.gpu("h100-sxm").memory_bandwidth
    3350000000000.0

Unknown names raise ``sim.errors.CatalogError`` with the nearest one. Tables are read when first asked for.
"""

from sim.catalog.architecture import Architecture
from sim.catalog.dtypes import DTYPE_BYTES, dtype_bytes
from sim.catalog.rows import Failure, Gpu, Instance, Link, Region, TraceRow
from sim.catalog.tables import KINDS, describe, failure, gpu, instance, link, model, names, region, rows, trace

__all__ = [
    "DTYPE_BYTES",
    "KINDS",
    "Architecture",
    "Failure",
    "Gpu",
    "Instance",
    "Link",
    "Region",
    "TraceRow",
    "describe",
    "dtype_bytes",
    "failure",
    "gpu",
    "instance",
    "link",
    "model",
    "names",
    "region",
    "rows",
    "trace",
]
