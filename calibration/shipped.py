"""The shipped profiles and the commands that made them: ``python -m calibration.shipped DATA`` makes them anew.

DATA is a folder with the tables as published: ``vllm-0.19_rtxpro6000_llama-3.1-8b`` (casys-kaist/LLMServingSim 5daddb21, MIT)
and ``kernels/{a100,h100,h200}_sxm`` (ai-dynamo/aiconfigurator 095f58a5, Apache-2.0).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = ["MEASURED", "RECIPES", "Recipe", "make"]


@dataclass(frozen=True)
class Recipe:
    """One shipped profile: the importer, its folder below DATA, and its arguments."""

    kind: Literal["layers", "kernels"]
    folder: str
    model: str
    gpu: str
    tensor_parallel: int

    @property
    def name(self) -> str:
        """The profile's name in the library."""
        return f"{self.gpu}/{self.model}/tp{self.tensor_parallel}"

    def arguments(self, data: Path, out: Path) -> list[str]:
        """Of ``twinfer calibrate``."""
        source = ["import", self.kind, str(data / self.folder), "--model", self.model, "--gpu", self.gpu]
        return [*source, "--tp", str(self.tensor_parallel), "-o", str(out)]


RECIPES: Final = (
    Recipe("layers", "vllm-0.19_rtxpro6000_llama-3.1-8b", "llama-3.1-8b", "rtx-pro-6000", 1),
    *(
        Recipe("kernels", f"kernels/{gpu.replace('-', '_')}", model, gpu, tensor_parallel)
        for gpu in ("a100-sxm", "h100-sxm", "h200-sxm")
        for model, degrees in (("llama-3.1-8b", (1,)), ("llama-3.1-70b", (4, 8)), ("qwen3-32b", (1, 2, 4)))
        for tensor_parallel in degrees
    ),
)

MEASURED: Final = ("cpu/bert-base/tp1", "cpu/llama-40m/tp1", "cpu/resnet-50/tp1", "cpu/vit-b-16/tp1")
"""Profiles measured on hardware by ourselves: ``provenance.command`` of each says how. They cannot be made anew from tables."""


def make(recipe: Recipe, data: Path, library: Path) -> Path:
    """Run the recipe's command; the file it wrote. :raises SystemExit: the command failed, and has said why."""
    from calibration.cli import app

    out = library / f"{recipe.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    app(recipe.arguments(data, out), standalone_mode=True, prog_name="twinfer calibrate")
    return out


def main(arguments: list[str]) -> int:
    """Make every shipped profile from the tables below the folder given."""
    from sim.profiles.library import SHIPPED

    if len(arguments) != 1:
        sys.stderr.write("usage: python -m calibration.shipped DATA\n")
        return 2
    for recipe in RECIPES:
        try:
            make(recipe, Path(arguments[0]), SHIPPED)
        except SystemExit as end:
            if end.code:
                return int(end.code) if isinstance(end.code, int) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
