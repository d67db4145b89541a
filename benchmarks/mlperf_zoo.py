"""The networks of MLPerf Inference that no library of `model_zoo` writes out, from their reference implementations.

Source of all: github.com/mlcommons/inference (v1.0 to v2.1), and what each docstring names beside it. Post-processing
(box decoding, non-maximum suppression, search) is not part of them: submissions run it on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

SSD_EXTRA = ((256, 256, 512, 2, 1), (512, 256, 512, 2, 1), (512, 128, 256, 2, 1), (256, 128, 256, 2, 0),
             (256, 128, 256, 1, 0))  # fmt: skip
SSD_BOXES = (4, 6, 6, 6, 4, 4)


class SsdResNet34(nn.Module):
    """ssd-resnet34 at 1200x1200: conv4 keeps the stride of conv3, and the heads step by three (15,130 boxes)."""

    def __init__(self, classes: int = 81) -> None:
        super().__init__()
        import torchvision

        whole = torchvision.models.resnet34(weights=None)
        whole.layer3[0].conv1.stride = (1, 1)
        whole.layer3[0].downsample[0].stride = (1, 1)
        self.body = nn.Sequential(
            whole.conv1, whole.bn1, whole.relu, whole.maxpool, whole.layer1, whole.layer2, whole.layer3
        )
        self.extra = nn.ModuleList(_narrow_then_step(*row) for row in SSD_EXTRA)
        channels = (256, *(row[2] for row in SSD_EXTRA))
        self.places = _heads(channels, SSD_BOXES, 4, 3, 3)
        self.classes = _heads(channels, SSD_BOXES, classes, 3, 3)

    def forward(self, image: torch.Tensor) -> Any:
        return _boxes(self.body(image), self.extra, self.places, self.classes)


def _narrow_then_step(channels: int, narrow: int, out: int, stride: int, padding: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, out, 3, stride, padding), nn.ReLU()
    )


def _heads(channels: Sequence[int], boxes: Sequence[int], each: int, kernel: int, stride: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Conv2d(c, n * each, kernel, stride, kernel // 2) for c, n in zip(channels, boxes, strict=True)
    )


def _boxes(x: torch.Tensor, extra: Any, places: Any, classes: Any) -> Any:
    maps = [x]
    for block in extra:
        maps.append(block(maps[-1]))
    return [head(x).flatten(1) for heads in (places, classes) for head, x in zip(heads, maps, strict=True)]


MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
MOBILENET_EXTRA = ((1024, 256, 512, 2, 1), (512, 128, 256, 2, 1), (256, 128, 256, 2, 1), (256, 64, 128, 2, 1))


class SsdMobileNet(nn.Module):
    """ssd-mobilenet at 300x300: MobileNet v1, boxes from its 11th and 13th block and four more (1,917 boxes)."""

    def __init__(self, classes: int = 91) -> None:
        super().__init__()
        widths = (32, *(width for width, _ in MOBILENET))
        blocks = [_separable(a, b, stride) for (a, b), (_, stride) in zip(pairwise(widths), MOBILENET, strict=True)]
        self.body = nn.Sequential(_conv_norm(3, 32, 3, 2), *blocks[:11])
        self.extra = nn.ModuleList([nn.Sequential(*blocks[11:]), *(_narrow_then_step(*row) for row in MOBILENET_EXTRA)])
        channels = (512, 1024, *(row[2] for row in MOBILENET_EXTRA))
        self.places = _heads(channels, (3, 6, 6, 6, 6, 6), 4, 1, 1)
        self.classes = _heads(channels, (3, 6, 6, 6, 6, 6), classes, 1, 1)

    def forward(self, image: torch.Tensor) -> Any:
        return _boxes(self.body(image), self.extra, self.places, self.classes)


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def _separable(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(_conv_norm(inputs, inputs, 3, stride, inputs), _conv_norm(inputs, outputs, 1))


class RetinaNet(nn.Module):
    """retinanet of v2.1 on: ResNeXt-50 32x4d with a feature pyramid, 264 classes of OpenImages, 800x800."""

    def __init__(self, classes: int = 264) -> None:
        super().__init__()
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        from torchvision.models.detection.retinanet import RetinaNetHead
        from torchvision.ops.feature_pyramid_network import LastLevelP6P7

        self.body = resnet_fpn_backbone(
            backbone_name="resnext50_32x4d", weights=None, returned_layers=[2, 3, 4],
            extra_blocks=LastLevelP6P7(256, 256), norm_layer=nn.BatchNorm2d,
        )  # fmt: skip
        head = RetinaNetHead(256, 9, classes)
        self.places = nn.Sequential(head.regression_head.conv, head.regression_head.bbox_reg)
        self.classes = nn.Sequential(head.classification_head.conv, head.classification_head.cls_logits)

    def forward(self, image: torch.Tensor) -> Any:
        maps = list(self.body(image).values())
        return [head(x).flatten(1) for head in (self.places, self.classes) for x in maps]


class RnnTransducer(nn.Module):
    """rnnt: five LSTM layers of 1024, two frames joined into one after the second; a prediction network of two of 320.

    `audio` [batch, 100, 480]: pairs of frames of 30 ms (three of 10 ms), so 6 s. `text` [batch, 90]: letters found. The
    joint is asked once a pair and once a letter. torch's exporter fixes the lengths of LSTMs.
    """

    def __init__(self, letters: int = 29) -> None:
        super().__init__()
        self.before = nn.LSTM(240, 1024, 2, batch_first=True)
        self.after = nn.LSTM(2048, 1024, 3, batch_first=True)
        self.embedding = nn.Embedding(letters, 320)
        self.prediction = nn.LSTM(320, 320, 2, batch_first=True)
        self.of_audio, self.of_text, self.joint = nn.Linear(1024, 512), nn.Linear(320, 512), nn.Linear(512, letters)

    def forward(self, audio: torch.Tensor, text: torch.Tensor) -> Any:
        heard = self.before(audio.unflatten(2, (2, 240)).flatten(1, 2))[0]
        heard = self.after(heard.unflatten(1, (-1, 2)).flatten(2))[0]
        said = self.prediction(self.embedding(text))[0]
        return [self.joint(torch.relu(x)) for x in (self.of_audio(heard), self.of_text(said))]


class Dlrm(nn.Module):
    """dlrm on Criteo Terabyte: 26 tables of 128 wide rows (187.8 million, at most 40 million a table), dot products.

    Source beside the reference: Naumov et al. 2019, arXiv:1906.00091. `batch` counts pairs of user and item.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.Embedding(187_767_399, 128)
        self.bottom = _perceptron(13, 512, 256, 128)
        self.top = _perceptron(479, 1024, 1024, 512, 256, 1)

    def forward(self, dense: torch.Tensor, rows: torch.Tensor) -> Any:
        x = self.bottom(dense)
        features = torch.cat([x[:, None], self.tables(rows)], 1)
        products = (features @ features.transpose(1, 2)).flatten(1)[:, :351]  # those of distinct features
        return self.top(torch.cat([x, products], 1))


def _perceptron(*widths: int) -> nn.Module:
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(*layers)


class UNet3d(nn.Module):
    """A 3D U-Net of two 3x3x3 convolutions a level, instance norms, and transposed convolutions upward.

    3d-unet of v1.0 and v1.1: nnU-Net (Isensee et al. 2018, arXiv:1809.10486) on a BraTS 2019 scan, 4 x 224x224x160.
    From v2.0 on: that of MLPerf Training on KiTS19, windows of 128x128x128 that overlap by half.
    """

    def __init__(self, inputs: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        steps = pairwise((inputs, *widths))
        self.down = nn.ModuleList(_twice(a, b, 1 if a == inputs else 2) for a, b in steps)
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in pairs)
        self.join = nn.ModuleList(_twice(2 * a, a, 1) for a, _ in pairs)
        self.classes = nn.Conv3d(widths[0], classes, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        levels = [volume]
        for step in self.down:
            levels.append(step(levels[-1]))
        x = levels.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), levels.pop()], 1))
        found: torch.Tensor = self.classes(x)
        return found


def _twice(inputs: int, outputs: int, stride: int) -> nn.Module:
    steps = [
        nn.Sequential(nn.Conv3d(a, outputs, 3, s, 1, bias=False), nn.InstanceNorm3d(outputs, affine=True), nn.ReLU())
        for a, s in ((inputs, stride), (outputs, 1))
    ]
    return nn.Sequential(*steps)
