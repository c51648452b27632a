"""Where samples come from. Every source yields, for ever, the micro-batches of one optimizer step.

A micro-batch is ``(inputs, targets)``: float32 of shape (per_device_batch_size, *input_shape) and int64 of
shape (per_device_batch_size,). All sources are seeded: the same case sees the same samples in the same
order, whatever its precision.

Micro-batches form one global stream, and of W ranks number r takes the numbers r, r + W, r + 2 W and so on.
So in each optimizer step of A micro-batches all ranks together see what a single device sees with A·W.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from benchbox.schema import Case, WorkerTask
from benchbox.worker.ranks import ALONE, Ranks

MicroBatches = tuple[tuple[Tensor, Tensor], ...]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_PREFETCH_FACTOR = 2  # batches that each loader process prepares ahead
_NUM_POOLED_SAMPLES = 64  # synthetic samples that a loader draws from
_MAX_GENERATED_CLASSES = 4


def make_batches(task: WorkerTask, device: torch.device, ranks: Ranks = ALONE) -> Iterator[MicroBatches]:
    """This rank's share of the case's samples.

    Raises:
        FileNotFoundError: ``data_dir`` has no class folders with images.
        ValueError: the samples do not fit the model's input.
    """
    case, rank, world_size = task.case, ranks.place.rank, ranks.world_size
    match case.data:
        case "device":
            return itertools.repeat(_synthetic_step(case, device, rank, world_size))
        case "host":
            on_host = _synthetic_step(case, torch.device("cpu"), rank, world_size)
            if device.type == "cuda":
                on_host = tuple((x.pin_memory(), y.pin_memory()) for x, y in on_host)
            return itertools.repeat(on_host)
        case "digits":
            return _grouped(_digits(case, device, rank, world_size), case.gradient_accumulation_steps)
        case "loader":
            loader = _loader(case, PooledSamples(case), device, rank, world_size)
            return _grouped(loader, case.gradient_accumulation_steps)
        case "folder":
            if ranks.place.local_rank == 0:
                image_root(task)  # generates them once for all ranks of a machine
            ranks.wait()
            samples = ImageFolder(image_root(task), case.input_shape, case.num_classes)
            loader = _loader(case, samples, device, rank, world_size)
            return _grouped(loader, case.gradient_accumulation_steps)


def num_buffered_steps(case: Case) -> int:
    """Steps whose samples a loader may hold ready; only what lasts longer tells how fast it delivers."""
    if not case.num_loader_workers:
        return 0
    return math.ceil(case.num_loader_workers * _PREFETCH_FACTOR / case.gradient_accumulation_steps)


def image_root(task: WorkerTask) -> Path:
    """The folder of class folders; generated images are made on first use."""
    case = task.case
    if case.data_dir is not None:
        return Path(task.data_root, case.data_dir)
    assert case.num_generated_images is not None
    num_classes = min(_MAX_GENERATED_CLASSES, case.num_classes)
    root = Path(task.run_dir, f"generated-images-{case.num_generated_images}-{num_classes}-{case.seed}")
    if not root.is_dir():
        generate_images(root, case.num_generated_images, num_classes, case.seed)
    return root


def generate_images(root: Path, num_images: int, num_classes: int, seed: int) -> None:
    """Write ``num_images`` JPEGs of 320×240 into class folders: a tint for each class, with noise on top.

    Written aside and renamed, so that a folder that exists is whole.
    """
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    aside = root.with_name(f"{root.name}.{os.getpid()}")
    for number in range(num_images):
        label = number % num_classes
        tint = np.array([label * 60 + 30, 200 - label * 40, 90 + label * 20])
        coarse = random.integers(-60, 60, size=(15, 20, 3)).repeat(16, axis=0).repeat(16, axis=1)
        fine = random.integers(-10, 10, size=(240, 320, 3))
        pixels = np.clip(tint + coarse + fine, 0, 255).astype(np.uint8)
        folder = aside / f"class-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)
    aside.rename(root)


def _synthetic_step(case: Case, device: torch.device, rank: int, world_size: int) -> MicroBatches:
    generator = torch.Generator().manual_seed(case.seed)
    batches = []
    for number in range(case.gradient_accumulation_steps * world_size):
        inputs = torch.randn(case.per_device_batch_size, *case.input_shape, generator=generator)
        targets = torch.randint(case.num_classes, (case.per_device_batch_size,), generator=generator)
        if number % world_size != rank:
            continue
        if case.memory_format == "channels_last" and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        batches.append((inputs.to(device), targets.to(device)))
    return tuple(batches)


class PooledSamples(Dataset[tuple[Tensor, int]]):
    """A few synthetic samples, handed out again and again: the loader's own cost, without decoding."""

    def __init__(self, case: Case) -> None:
        generator = torch.Generator().manual_seed(case.seed)
        self._inputs = torch.randn(_NUM_POOLED_SAMPLES, *case.input_shape, generator=generator)
        targets = torch.randint(case.num_classes, (_NUM_POOLED_SAMPLES,), generator=generator)
        self._targets: list[int] = targets.tolist()

    def __len__(self) -> int:
        return _NUM_POOLED_SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._inputs[index], self._targets[index]


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """One folder a class; images are decoded, resized and scaled to 0..1 when asked for."""

    def __init__(self, root: Path, input_shape: tuple[int, ...], num_classes: int) -> None:
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        self.files = [
            (Path(entry.path), label)
            for label, name in enumerate(classes)
            for entry in sorted(os.scandir(root / name), key=lambda e: e.name)
            if entry.is_file() and entry.name.lower().endswith(IMAGE_SUFFIXES)
        ]
        if not self.files:
            raise FileNotFoundError(f"{root}: no class folders with images ({', '.join(IMAGE_SUFFIXES)})")
        if len(classes) > num_classes:
            raise ValueError(f"{root}: {len(classes)} class folders, but the model has {num_classes} classes")
        self._channels, self._height, self._width = input_shape

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import numpy as np
        from PIL import Image

        path, label = self.files[index]
        try:
            with Image.open(path) as image:
                mode = "L" if self._channels == 1 else "RGB"
                small = image.convert(mode).resize((self._width, self._height), Image.Resampling.BILINEAR)
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise OSError(f"{path}: cannot be decoded: {error}") from error
        pixels = torch.from_numpy(np.array(small, dtype=np.uint8)).reshape(self._height, self._width, -1)
        return pixels.permute(2, 0, 1).to(torch.float32).div_(255.0), label


class EndlessShuffle(Sampler[int]):
    """Seeded permutations one after another, so that no epoch ends inside a measured window.

    They are cut into blocks of ``block_size``; of W ranks number r gets the blocks r, r + W, r + 2 W, ….
    """

    def __init__(
        self, num_samples: int, seed: int, block_size: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        self._num_samples = num_samples
        self._seed = seed
        self._block_size = block_size
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[int]:
        everything = self._everything()
        for number in itertools.count():
            block = list(itertools.islice(everything, self._block_size))
            if number % self._world_size == self._rank:
                yield from block

    def _everything(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield from torch.randperm(self._num_samples, generator=generator).tolist()


def _loader(
    case: Case, samples: Dataset[tuple[Tensor, int]], device: torch.device, rank: int, world_size: int
) -> Iterator[list[Tensor]]:
    assert case.num_loader_workers is not None
    order = EndlessShuffle(
        len(samples),  # type: ignore[arg-type]
        case.seed,
        case.per_device_batch_size,
        rank,
        world_size,
    )
    return iter(
        DataLoader(
            samples,
            batch_size=case.per_device_batch_size,
            sampler=order,
            num_workers=case.num_loader_workers,
            prefetch_factor=_PREFETCH_FACTOR if case.num_loader_workers else None,
            pin_memory=device.type == "cuda",
        )
    )


def _digits(case: Case, device: torch.device, rank: int, world_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """scikit-learn's 1,797 handwritten digits of 8×8, resized to the model's input, shuffled for ever."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).to(torch.float32).div_(16.0).unsqueeze(1)
    images = torch.nn.functional.interpolate(images, size=case.input_shape[1:], mode="bilinear")
    targets = torch.from_numpy(digits.target).to(torch.int64)
    size = case.per_device_batch_size
    order = iter(EndlessShuffle(len(targets), case.seed, size, rank, world_size))
    pinned = device.type == "cuda"
    while True:
        chosen = torch.tensor(list(itertools.islice(order, size)))
        batch = images[chosen], targets[chosen]
        yield (batch[0].pin_memory(), batch[1].pin_memory()) if pinned else batch


def _grouped(
    batches: Iterator[tuple[Tensor, Tensor]] | Iterator[list[Tensor]], size: int
) -> Iterator[MicroBatches]:
    while True:
        group = tuple((inputs, targets) for inputs, targets in itertools.islice(batches, size))
        if not group:
            return
        yield group
