# mypy: allow-subclassing-any
"""Residual convolutional networks with random weights (He et al., arXiv 1512.03385), the stride in the 3×3
convolution, as torchvision has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from calibration.probes.shapes import ResnetShape

__all__ = ["Resnet"]


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up to four times the width, and the way around them."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.down = _convolution(inputs, width, 1)
        self.middle = _convolution(width, width, 3, stride)
        self.up = _convolution(width, 4 * width, 1)
        self.around = _convolution(inputs, 4 * width, 1, stride) if stride > 1 or inputs != 4 * width else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[batch, inputs, h, w]`` to ``[batch, 4 × width, h / stride, w / stride]``."""
        inner = F.relu(self.middle(F.relu(self.down(x))))
        return F.relu(self.up(inner) + self.around(x))


class Resnet(nn.Module):
    """Images ``[batch, 3, height, width]`` to scores ``[batch, classes]``."""

    def __init__(self, shape: ResnetShape) -> None:
        super().__init__()
        self.stem = _convolution(3, shape.width, 7, 2)
        stages: list[nn.Module] = []
        inputs, width = shape.width, shape.width
        for stage, count in enumerate(shape.blocks):
            for block in range(count):
                stages.append(Bottleneck(inputs, width, 2 if stage and not block else 1))
                inputs = 4 * width
            width *= 2
        self.stages = nn.Sequential(*stages)
        self.scores = nn.Linear(inputs, shape.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = F.max_pool2d(F.relu(self.stem(images)), 3, 2, 1)
        return self.scores(self.stages(x).mean(dim=(2, 3)))
