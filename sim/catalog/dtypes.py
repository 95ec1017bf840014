"""Number formats: how many bytes one value takes.

``fp8`` and narrower are formats of weights (and fp8 of the KV cache); norms, embeddings and the LM head stay in 16 bits
in every checkpoint that uses them, which ``Architecture.weight_bytes`` accounts for.
"""

from __future__ import annotations

from sim.errors import CatalogError, did_you_mean

__all__ = ["DTYPE_BYTES", "dtype_bytes"]

DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
    "fp4": 0.5,
    # The two block formats carry their scales: OCP MX has 8 bits a 32 values, NVFP4 has 8 bits a 16 values.
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
}
"""Bytes a value, by format. The names are those a scenario may use."""


def dtype_bytes(dtype: str) -> float:
    """Bytes one value of ``dtype`` takes; CatalogError for a name that is not a format."""
    try:
        return DTYPE_BYTES[dtype]
    except KeyError:
        raise CatalogError(
            f"dtype {dtype!r} is not known{did_you_mean(dtype, DTYPE_BYTES)}; one of: {', '.join(DTYPE_BYTES)}"
        ) from None
