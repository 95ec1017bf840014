"""Shapes of models that do not generate: BERT-like encoders, vision transformers, residual networks; by name or from a config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sim.errors import ProfileError

__all__ = ["SHAPES", "EncoderShape", "ResnetShape", "Resolved", "VitShape", "recognised"]


@dataclass(frozen=True)
class EncoderShape:
    """A BERT-like encoder that ends with a pooled vector, or with a score for each of ``labels`` (rerankers have one)."""

    name: str
    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int
    positions: int
    types: int
    labels: int = 0
    source: str = ""


@dataclass(frozen=True)
class VitShape:
    """A vision transformer over square images in square patches."""

    name: str
    layers: int
    hidden: int
    heads: int
    ffn: int
    patch: int
    image: int = 224
    classes: int = 1000
    source: str = ""


@dataclass(frozen=True)
class ResnetShape:
    """Bottleneck blocks in four stages, each twice as wide as the one before."""

    name: str
    blocks: tuple[int, ...]
    width: int = 64
    classes: int = 1000
    source: str = ""


Resolved = EncoderShape | VitShape | ResnetShape

_HUB: Final = "config.json on the HuggingFace hub: "
_PAPER: Final = "He et al., arXiv 1512.03385, table 1"

SHAPES: Final[dict[str, Resolved]] = {
    shape.name: shape
    for shape in (
        EncoderShape("minilm-l6", 6, 384, 12, 1536, 30522, 512, 2, 0, _HUB + "sentence-transformers/all-MiniLM-L6-v2"),
        EncoderShape("bert-base", 12, 768, 12, 3072, 30522, 512, 2, 0, _HUB + "google-bert/bert-base-uncased"),
        EncoderShape("bert-large", 24, 1024, 16, 4096, 30522, 512, 2, 0, _HUB + "google-bert/bert-large-uncased"),
        EncoderShape("bge-m3", 24, 1024, 16, 4096, 250002, 8194, 1, 0, _HUB + "BAAI/bge-m3"),
        EncoderShape("bge-reranker-v2-m3", 24, 1024, 16, 4096, 250002, 8194, 1, 1, _HUB + "BAAI/bge-reranker-v2-m3"),
        VitShape("vit-b-16", 12, 768, 12, 3072, 16, source=_HUB + "google/vit-base-patch16-224"),
        VitShape("vit-l-16", 24, 1024, 16, 4096, 16, source=_HUB + "google/vit-large-patch16-224"),
        VitShape(
            "vit-l-14", 24, 1024, 16, 4096, 14, source="Dosovitskiy et al., arXiv 2010.11929, table 1, patches of 14"
        ),
        ResnetShape("resnet-50", (3, 4, 6, 3), source=_PAPER),
        ResnetShape("resnet-101", (3, 4, 23, 3), source=_PAPER),
        ResnetShape("resnet-152", (3, 8, 36, 3), source=_PAPER),
    )
}
"""Known shapes by name."""

_ENCODERS: Final = ("bert", "roberta", "xlm-roberta")


def recognised(model: str) -> Resolved | None:
    """The shape of that name, or in that config.json (or the folder with one); None if it is of no such family, and may be a decoder.

    :raises ProfileError: a config of such a family that lacks something or cannot be measured.
    """
    if model in SHAPES:
        return SHAPES[model]
    path = Path(model).expanduser()
    file = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # the catalog of decoders says what is wrong with it
    if not isinstance(content, Mapping):
        return None
    kind = content.get("model_type")
    config = _Config(file, content)
    name = file.resolve().parent.name if file.name == "config.json" else file.stem
    if kind in _ENCODERS:
        return config.encoder(name)
    if kind == "vit":
        return config.vit(name)
    if kind == "resnet":
        return config.resnet(name)
    return None


@dataclass(frozen=True)
class _Config:
    """A config.json of transformers; what it may leave out has the default of transformers' own class."""

    file: Path
    content: Mapping[str, Any]

    def encoder(self, name: str) -> EncoderShape:
        scored = any(str(one).endswith("ForSequenceClassification") for one in self.content.get("architectures") or ())
        return EncoderShape(
            name,
            self._number("num_hidden_layers"),
            self._number("hidden_size"),
            self._divisor("num_attention_heads", "hidden_size"),
            self._number("intermediate_size"),
            self._number("vocab_size"),
            self._number("max_position_embeddings"),
            self._number("type_vocab_size", 2),
            self._labels() if scored else 0,
            self.file.name,
        )

    def vit(self, name: str) -> VitShape:
        return VitShape(
            name,
            self._number("num_hidden_layers"),
            self._number("hidden_size"),
            self._divisor("num_attention_heads", "hidden_size"),
            self._number("intermediate_size"),
            self._number("patch_size", 16),
            self._number("image_size", 224),
            self._labels(),
            self.file.name,
        )

    def resnet(self, name: str) -> ResnetShape:
        depths, width = self.content.get("depths", [3, 4, 6, 3]), self._number("embedding_size", 64)
        widths = self.content.get("hidden_sizes", [256, 512, 1024, 2048])
        if self.content.get("layer_type", "bottleneck") != "bottleneck" or widths != [4 * width << i for i in range(4)]:
            raise ProfileError(
                f"{self.file}: only bottleneck networks whose stages double their width are measured, not {widths}"
            )
        if not isinstance(depths, list) or len(depths) != 4 or not all(isinstance(n, int) and n > 0 for n in depths):
            raise ProfileError(f"{self.file}: depths: must be four whole numbers, not {depths!r}")
        return ResnetShape(name, tuple(depths), width, self._labels(), self.file.name)

    def _number(self, key: str, default: int | None = None) -> int:
        value = self.content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise ProfileError(f"{self.file}: {key}: must be a whole number of at least 1, not {value!r}")
        return value

    def _divisor(self, key: str, of: str) -> int:
        value = self._number(key)
        if self._number(of) % value:
            raise ProfileError(f"{self.file}: {key}: {value} does not divide {of} {self._number(of)}")
        return value

    def _labels(self) -> int:
        names = self.content.get("id2label")
        return len(names) if isinstance(names, Mapping) and names else self._number("num_labels", 2)
