from __future__ import annotations

import gc
import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchbox.worker.data import (
    EndlessShuffle,
    ImageFolder,
    MicroBatches,
    generate_images,
    image_root,
    make_batches,
    num_buffered_steps,
)
from benchbox.worker.ranks import Place, Ranks
from tests.worker.tasks import CPU, IMAGES, SMALL_CNN, first_error, make_case, make_task

LOADER = {"data": "loader", "num_loader_workers": 0}
GENERATED = {"data": "folder", "num_generated_images": 8, "num_loader_workers": 0}
EVERY_SOURCE: dict[str, dict[str, Any]] = {
    "device": {"data": "device"},
    "host": {"data": "host"},
    "loader": LOADER,
    "folder": GENERATED,
    "digits": {"data": "digits"},
}


def batches_of(folder: Path, *bases: dict[str, Any], **changes: Any) -> Iterator[MicroBatches]:
    return make_batches(make_task(folder, make_case(*bases, **changes)), CPU)


def take(batches: Iterator[MicroBatches], number: int) -> list[MicroBatches]:
    return list(itertools.islice(batches, number))


def same(first: list[MicroBatches], second: list[MicroBatches]) -> bool:
    return all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for micro, micro_other in zip(one, other, strict=True)
        for a, b in zip(micro, micro_other, strict=True)
    )


def save_image(path: Path, value: int = 128, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


# --- every source ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_ranks_together_see_what_one_device_sees(tmp_path: Path, source: str) -> None:
    bases = SMALL_CNN, EVERY_SOURCE[source], {"per_device_batch_size": 2}
    whole = take(batches_of(tmp_path, *bases, gradient_accumulation_steps=6), 2)
    case = make_case(*bases, strategy="ddp", world_size=3, gradient_accumulation_steps=2)
    for rank in range(3):
        ranks = Ranks(Place(rank=rank, local_rank=rank, world_size=3), None)
        shares = take(make_batches(make_task(tmp_path, case), CPU, ranks), 2)
        for share, step in zip(shares, whole, strict=True):
            torch.testing.assert_close(share, step[rank::3], rtol=0, atol=0)


@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_a_step_is_a_group_of_micro_batches_of_the_models_shape(tmp_path: Path, source: str) -> None:
    batches = batches_of(
        tmp_path, SMALL_CNN, EVERY_SOURCE[source], per_device_batch_size=6, gradient_accumulation_steps=3
    )
    for step in take(batches, 3):
        assert len(step) == 3
        for inputs, targets in step:
            assert inputs.shape == (6, 1, 28, 28)
            assert inputs.dtype == torch.float32
            assert targets.shape == (6,)
            assert targets.dtype == torch.int64
            assert int(targets.min()) >= 0
            assert int(targets.max()) < 10


@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_samples_follow_from_the_seed(tmp_path: Path, source: str) -> None:
    first, again, other = (
        take(batches_of(tmp_path, SMALL_CNN, EVERY_SOURCE[source], seed=seed), 2) for seed in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_samples_do_not_depend_on_how_they_are_trained_on(tmp_path: Path, source: str) -> None:
    plain = take(batches_of(tmp_path, SMALL_CNN, EVERY_SOURCE[source]), 2)
    other = batches_of(
        tmp_path,
        SMALL_CNN,
        EVERY_SOURCE[source],
        precision="bf16",
        gradient_checkpointing=True,
        memory_format="channels_last",
    )
    assert same(plain, take(other, 2))


@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_no_source_ever_ends(tmp_path: Path, source: str) -> None:
    """Every source has fewer than 2,000 samples, and no batch is cut short where they end."""
    batches = batches_of(tmp_path, EVERY_SOURCE[source], SMALL_CNN, per_device_batch_size=50)
    num_steps = 4 if source == "folder" else 45
    assert all(len(inputs) == 50 for ((inputs, _),) in take(batches, num_steps))


@pytest.mark.parametrize("source", ["loader", "folder", "digits"])
def test_accumulation_takes_the_same_samples_in_smaller_pieces(tmp_path: Path, source: str) -> None:
    whole = take(batches_of(tmp_path, SMALL_CNN, EVERY_SOURCE[source], per_device_batch_size=6), 1)
    pieces = take(
        batches_of(
            tmp_path, SMALL_CNN, EVERY_SOURCE[source], per_device_batch_size=2, gradient_accumulation_steps=3
        ),
        1,
    )
    assert torch.equal(whole[0][0][0], torch.cat([inputs for inputs, _ in pieces[0]]))
    assert torch.equal(whole[0][0][1], torch.cat([targets for _, targets in pieces[0]]))


def test_a_synthetic_step_is_allocated_once(tmp_path: Path) -> None:
    batches = batches_of(tmp_path)
    assert next(batches) is next(batches)


def test_synthetic_micro_batches_differ(tmp_path: Path) -> None:
    (first, second) = next(batches_of(tmp_path, gradient_accumulation_steps=2))
    assert not torch.equal(first[0], second[0])


def test_synthetic_images_lie_in_the_cases_memory_format_from_the_start(tmp_path: Path) -> None:
    ((inputs, _),) = next(batches_of(tmp_path, IMAGES, memory_format="channels_last"))
    assert inputs.is_contiguous(memory_format=torch.channels_last)


# --- loader ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_has_as_many_processes_as_the_case_says(tmp_path: Path, num_workers: int) -> None:
    gc.collect()
    before = set(multiprocessing.active_children())
    batches = batches_of(tmp_path, data="loader", num_loader_workers=num_workers)
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == num_workers
    del batches
    gc.collect()
    assert set(multiprocessing.active_children()) <= before


def test_samples_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    alone, helped = (
        take(batches_of(tmp_path, data="loader", num_loader_workers=number), 5) for number in (0, 2)
    )
    assert same(alone, helped)


def test_a_shuffle_hands_out_every_sample_once_before_any_again() -> None:
    order = list(itertools.islice(EndlessShuffle(7, seed=3), 21))
    epochs = [order[:7], order[7:14], order[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


# --- digits ------------------------------------------------------------------------------------------------


def test_digits_are_grey_levels_of_all_ten_classes(tmp_path: Path) -> None:
    ((inputs, targets),) = next(batches_of(tmp_path, SMALL_CNN, data="digits", per_device_batch_size=1797))
    assert float(inputs.min()) == 0.0
    assert 0.9 < float(inputs.max()) <= 1.0
    assert torch.bincount(targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_resized_to_the_models_input(tmp_path: Path) -> None:
    ((inputs, _),) = next(
        batches_of(tmp_path, IMAGES, input_shape=(1, 20, 12), num_classes=10, data="digits")
    )
    assert inputs.shape == (4, 1, 20, 12)


# --- folder ------------------------------------------------------------------------------------------------


def test_class_folders_are_numbered_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("pear", "apple", "fig"):
        save_image(tmp_path / name / "1.png")
    save_image(tmp_path / "apple" / "0.jpg")
    samples = ImageFolder(tmp_path, (3, 8, 8), 3)
    found = [(path.relative_to(tmp_path).as_posix(), label) for path, label in samples.files]
    assert found == [("apple/0.jpg", 0), ("apple/1.png", 0), ("fig/1.png", 1), ("pear/1.png", 2)]


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.bmp", "a.webp"])
def test_images_of_these_kinds_are_taken(tmp_path: Path, name: str) -> None:
    save_image(tmp_path / "class" / name)
    assert len(ImageFolder(tmp_path, (3, 8, 8), 1)) == 1


def test_what_is_no_image_file_is_left_out(tmp_path: Path) -> None:
    save_image(tmp_path / "class" / "a.png")
    (tmp_path / "class" / "notes.txt").write_text("no image")
    (tmp_path / "class" / "folder.png").mkdir()
    (tmp_path / "readme.png").write_text("beside the class folders")
    assert len(ImageFolder(tmp_path, (3, 8, 8), 1)) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_resized_and_scaled(tmp_path: Path, channels: int) -> None:
    save_image(tmp_path / "class" / "a.png", value=255, size=(20, 30))
    save_image(tmp_path / "class" / "b.png", value=51, size=(7, 5))
    samples = ImageFolder(tmp_path, (channels, 8, 6), 1)
    assert [samples[i][0].shape for i in range(2)] == [(channels, 8, 6)] * 2
    torch.testing.assert_close(samples[0][0], torch.ones(channels, 8, 6))
    torch.testing.assert_close(samples[1][0], torch.full((channels, 8, 6), 0.2))


def test_rows_and_columns_keep_their_places(tmp_path: Path) -> None:
    pixels = np.zeros((8, 6, 3), np.uint8)
    pixels[2, 4] = (255, 0, 51)
    (tmp_path / "class").mkdir()
    Image.fromarray(pixels).save(tmp_path / "class" / "a.png")
    image, _ = ImageFolder(tmp_path, (3, 8, 6), 1)[0]
    torch.testing.assert_close(image[:, 2, 4], torch.tensor([1.0, 0.0, 0.2]))
    assert float(image.sum()) == pytest.approx(1.2)


def test_images_of_other_modes_are_converted(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    Image.new("RGBA", (9, 9), (255, 255, 255, 0)).save(tmp_path / "class" / "a.png")
    Image.new("P", (9, 9)).save(tmp_path / "class" / "b.png")
    Image.new("I;16", (9, 9)).save(tmp_path / "class" / "c.png")
    samples = ImageFolder(tmp_path, (3, 8, 8), 1)
    assert all(samples[place][0].shape == (3, 8, 8) for place in range(3))


BAD_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bytes(30)
# 60,000 by 60,000 pixels in a few bytes
BOMB = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
BOMB += (60_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)


@pytest.mark.parametrize(
    "content", [b"", b"no image", BAD_PNG, BOMB], ids=["empty", "text", "broken", "bomb"]
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path, content: bytes, num_workers: int) -> None:
    bad = tmp_path / "images" / "class" / "bad.png"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(content)
    batches = batches_of(tmp_path, IMAGES, data="folder", data_dir="images", num_loader_workers=num_workers)
    error = first_error(batches)
    assert isinstance(error, OSError)
    assert f"{bad}: cannot be decoded: " in str(error)


def test_more_class_folders_than_classes_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        save_image(tmp_path / name / "1.png")
    with pytest.raises(ValueError, match=r"3 class folders, but the model has 2 classes"):
        ImageFolder(tmp_path, (3, 8, 8), 2)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no class folders with images \(\.jpg, "):
        ImageFolder(tmp_path, (3, 8, 8), 2)


def test_a_relative_data_dir_starts_at_the_suites_folder(tmp_path: Path) -> None:
    task = make_task(tmp_path, make_case(IMAGES, data="folder", data_dir="images", num_loader_workers=0))
    assert image_root(task) == tmp_path / "images"
    task = make_task(tmp_path, make_case(IMAGES, data="folder", data_dir="/images", num_loader_workers=0))
    assert image_root(task) == Path("/images")


# --- generated images --------------------------------------------------------------------------------------


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_generated_images_follow_from_the_seed(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        generate_images(tmp_path / name, 6, 4, seed)
    assert contents(tmp_path / "first") == contents(tmp_path / "again")
    assert contents(tmp_path / "first") != contents(tmp_path / "other")


def test_generated_images_are_photos_in_class_folders(tmp_path: Path) -> None:
    generate_images(tmp_path / "images", 6, 4, 0)
    files = sorted((tmp_path / "images").rglob("*.jpg"))
    assert [path.parent.name for path in files] == [
        "class-0",
        "class-0",
        "class-1",
        "class-1",
        "class-2",
        "class-3",
    ]
    with Image.open(files[0]) as image:
        assert image.size == (320, 240)
        assert image.format == "JPEG"
    assert list(tmp_path.iterdir()) == [tmp_path / "images"]  # written aside, and nothing left there


def test_images_are_generated_once_for_all_attempts(tmp_path: Path) -> None:
    task = make_task(tmp_path, make_case(IMAGES, GENERATED))
    root = image_root(task)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert image_root(make_task(tmp_path, make_case(IMAGES, GENERATED, precision="bf16"))) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("other", [{"seed": 1}, {"num_generated_images": 9}, {"num_classes": 2}])
def test_cases_with_other_images_do_not_share_a_folder(tmp_path: Path, other: dict[str, int]) -> None:
    first = image_root(make_task(tmp_path, make_case(IMAGES, GENERATED)))
    assert image_root(make_task(tmp_path, make_case(IMAGES, GENERATED, other))) != first


def test_a_model_of_two_classes_gets_images_of_two_classes(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, IMAGES, GENERATED, num_classes=2, per_device_batch_size=8)
    ((_, targets),) = next(batches)
    assert sorted(targets.tolist()) == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("num_workers", "accumulation", "num_steps"), [(None, 1, 0), (0, 1, 0), (2, 1, 4), (4, 1, 8), (2, 4, 1)]
)
def test_a_loader_holds_two_batches_a_process_ready(
    num_workers: int | None, accumulation: int, num_steps: int
) -> None:
    data = "device" if num_workers is None else "loader"
    case = make_case(data=data, num_loader_workers=num_workers, gradient_accumulation_steps=accumulation)
    assert num_buffered_steps(case) == num_steps
