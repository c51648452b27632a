"""Two models that others have published GPU memory of, as torchvision and transformers build them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 30522
NUM_TOKENS = 512


class _Bottleneck(nn.Module):
    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        num_out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(num_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, num_out, 1, bias=False), nn.BatchNorm2d(num_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or num_in != num_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


def resnet50() -> nn.Module:
    """(N, 3, 224, 224) to (N, 1000): ResNet-50 v1.5, 25,557,032 parameters."""
    blocks: list[nn.Module] = []
    num_in = 64
    for num_blocks, width, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
        for place in range(num_blocks):
            blocks.append(_Bottleneck(num_in, width, stride if place == 0 else 1))
            num_in = 4 * width
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)),
    )


class _BertLayer(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_out, self.norm1 = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        num_samples, num_tokens, width = x.shape

        def heads(projected: Tensor) -> Tensor:
            parts = projected.view(num_samples, num_tokens, self.num_heads, width // self.num_heads)
            return parts.transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            heads(self.query(x)), heads(self.key(x)), heads(self.value(x)), dropout_p=0.1
        )
        mixed = mixed.transpose(1, 2).reshape(num_samples, num_tokens, width)
        x = self.norm1(functional.dropout(self.attention_out(mixed), 0.1) + x)
        inner = functional.gelu(self.inner(x))
        return self.norm2(functional.dropout(self.outer(inner), 0.1) + x)  # type: ignore[no-any-return]


class _Bert(nn.Module):
    def __init__(self, width: int = 768, num_layers: int = 12, num_heads: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.places, self.kinds = nn.Embedding(NUM_TOKENS, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.Sequential(*(_BertLayer(width, num_heads) for _ in range(num_layers)))
        self.transform, self.head_norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.decoder = nn.Linear(width, VOCABULARY)
        self.decoder.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.words(tokens) + self.kinds(torch.zeros_like(tokens))
        embedded += self.places(torch.arange(tokens.shape[1])[None])
        x = self.layers(functional.dropout(self.norm(embedded), 0.1))
        return self.decoder(self.head_norm(functional.gelu(self.transform(x))))  # type: ignore[no-any-return]


def bert() -> nn.Module:
    """(N, 512) token numbers to (N, 512, 30522): BERT base with the head that guesses masked words."""
    return _Bert()
