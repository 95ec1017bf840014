"""How much of a model is put on the device to be measured: so many distinct layers and so large a cache that what is read in a step comes
from memory where the whole model's would, and does not come from a cache of the processor."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from calibration.probes.decoder import Decoder, Rank
from sim.errors import ProfileError

if TYPE_CHECKING:
    from calibration.device import Device

__all__ = ["Limits", "Room", "cache_bytes", "furnished"]

SPARE: Final = 0.9  # of the free memory may be taken at most,
WEIGHTS: Final = 0.5  # this share by weights if they need not be more,
CACHE: Final = 0.4  # and this share of what they leave by the KV cache
UTILIZATION: Final = 0.9  # of the device's memory, an engine's default


@dataclass(frozen=True)
class Limits:
    """The largest batch that is measured: sequences, scheduled tokens, and tokens of one sequence."""

    sequences: int
    tokens: int
    context: int


@dataclass(frozen=True)
class Room:
    """``dense`` layers and ``mixtures`` (with experts) that are made, all different; ``slots`` of the KV cache of one layer; ``decodes``
    tokens of decodes that are measured at most, as many as would fit beside the whole model; ``token_bytes`` of a token in the cache of one
    layer; ``enough`` bytes to go through before any are read again; ``model_bytes`` of all weights."""

    dense: int
    mixtures: int
    slots: int
    decodes: int
    token_bytes: int
    enough: int
    model_bytes: int


def cache_bytes(device: Device) -> int:
    """Bytes of the last cache before memory; 0 where the system does not say."""
    if device.kind == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(torch.device(device.torch)).L2_cache_size)
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        sizes.append(int(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1))
    return max(sizes)


def furnished(rank: Rank, size: int, device: Device, limits: Limits) -> Room:
    """What to make of ``rank`` with ``size`` bytes a number.

    :raises ProfileError: too little memory for one layer of each kind with embedding and LM head, or for the smallest cache.
    """
    shape = rank.shape
    enough = 2 * cache_bytes(device)
    ends = _bytes(Decoder(rank, 0, 0), size)
    one = _bytes(Decoder(rank, 1, 0), size) - ends
    mixture = _bytes(Decoder(rank, 0, 1), size) - ends if shape.is_moe else 0
    plain_layers = shape.layers - shape.moe_layers
    wanted = max(1, ceil(enough / (shape.attention_parameters() // rank.of * size)))
    dense, mixtures = min(plain_layers, wanted), min(shape.moe_layers, wanted)
    free = device.free_bytes()
    least = ends + min(dense, 1) * one + min(mixtures, 1) * mixture
    if least > SPARE * free:
        raise ProfileError(
            f"{shape.name}: one layer with embedding and LM head takes {_gib(least)} on {device.title}, of which {_gib(free)} is free"
        )
    while ends + dense * one + mixtures * mixture > max(WEIGHTS * free, least):
        if dense > 1 and (mixtures < 2 or dense * one > mixtures * mixture):
            dense -= 1
        else:
            mixtures -= 1
    model_bytes = ends + plain_layers * one + shape.moe_layers * mixture
    token_bytes = 2 * rank.kv_heads * shape.head_dim * size
    left = free - ends - dense * one - mixtures * mixture
    slots, decodes = _slots(rank, device, limits, left, token_bytes, model_bytes, enough)
    return Room(dense, mixtures, slots, decodes, token_bytes, enough, model_bytes)


def _slots(
    rank: Rank, device: Device, limits: Limits, left: float, token_bytes: int, model_bytes: int, enough: int
) -> tuple[int, int]:
    layers = rank.shape.layers
    prompt = limits.context + limits.tokens
    fitting = (UTILIZATION * device.memory_bytes - model_bytes) / (layers * token_bytes)
    decodes = max(min(limits.sequences * (limits.context + 1), int(fitting)), limits.context + 1)
    wanted = min(max(decodes + prompt, ceil(enough / token_bytes)), layers * (decodes + prompt))
    most, least = int(CACHE * left / token_bytes), limits.context + 1 + prompt
    if most < least:
        raise ProfileError(
            f"{rank.shape.name}: the cache of one layer for {least} tokens takes {_gib(least * token_bytes)} on {device.title}, "
            f"of which {_gib(CACHE * left)} can be had; lower --max-context or --max-tokens"
        )
    slots = min(wanted, most)
    return slots, min(decodes, slots - prompt)


def _bytes(decoder: Decoder, size: int) -> int:
    return size * sum(int(parameter.numel()) for parameter in decoder.parameters())


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
