"""Sets of images: public formats, the user's own, what is wrong with them; batches that do not depend on workers."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.vision.pictures import write_cifar, write_folder, write_mnist
from zoo.errors import UserError
from zoo.vision.augment import Augment, Mixup, MixupOrCutMix, RandAugment
from zoo.vision.data import MNIST, Cifar10Jpeg, Digits, ImageFolder, ParquetImages, TorchvisionSet
from zoo.vision.files import hold_out, on_disk, read_idx
from zoo.vision.images import Preprocess
from zoo.vision.parquet import Mapped, read_parquet
from zoo.vision.pictures import Decoding, Pictures, apart, decode_all

FIT = Preprocess(128, 3, (0.5,) * 3, (0.5,) * 3)


def all_of(loader) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Image and target of every row."""
    found = {}
    for batch in loader:
        for row, image, target in zip(batch.index.tolist(), batch.images, batch.targets, strict=True):
            found[row] = (image, target)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folder")
    write_folder(path)
    return path


@pytest.mark.parametrize("memory", [1000, 0], ids=["small", "large"])
def test_batches_do_not_depend_on_workers_nor_on_what_stands_beside(folder: Path, memory: int) -> None:
    change = Augment(flip=True, shift=2, policy=RandAugment(), erase=0.5, mix=MixupOrCutMix())
    options = {"image_size": 12, "held_out": 4, "augment": change, "memory": memory}

    def epoch(number: int, batch: int, workers: int) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        loader = ImageFolder(folder, batch=batch, workers=workers, **options).train_dataloader()
        loader.batch_sampler.epoch = number
        return all_of(loader)

    first, again, other = epoch(3, 8, 0), epoch(3, 5, 2), epoch(4, 8, 0)
    assert first.keys() == again.keys() == set(range(28))
    for row, (image, target) in first.items():
        torch.testing.assert_close(again[row][0], image, rtol=0, atol=1e-4)
        torch.testing.assert_close(again[row][1], target)
        assert not torch.allclose(other[row][0], image)
    total = torch.stack([target for _, target in first.values()]).sum(-1)
    torch.testing.assert_close(total, torch.ones(28))


def test_large_and_small_sets_are_the_same_images(folder: Path) -> None:
    small, large = (ImageFolder(folder, image_size=12, held_out=4, memory=m) for m in (1000, 0))
    assert isinstance(large.held("train"), Decoding)
    assert not isinstance(small.held("train"), Decoding)
    ours, theirs = (all_of(data.val_dataloader()) for data in (small, large))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[row][0], theirs[row][0]) for row in ours)


@pytest.mark.parametrize("memory", [1000, 0], ids=["small", "large"])
def test_crops_are_of_the_whole_picture(tmp_path: Path, memory: int) -> None:
    """The rim that the middle lacks is trained on; what is validated on is as it was."""
    for name, colour in {"a": (255, 0, 0), "b": (0, 255, 0)}.items():
        (tmp_path / name).mkdir()
        for number in range(8):
            picture = Image.new("RGB", (120, 40))
            picture.paste(colour, (0, 0, 30, 40))  # a quarter of the width that the middle square does not reach
            picture.putpixel((60, 20), (number, 0, 0))
            picture.save(tmp_path / name / f"{number}.png")
    options = {"image_size": 16, "held_out": 2, "memory": memory}

    def brightest(augment: Augment) -> list[float]:
        data = ImageFolder(tmp_path, augment=augment, **options)
        shown = {split: all_of(getattr(data, f"{split}_dataloader")()) for split in ("train", "val")}
        assert all(image.shape == (3, 16, 16) for rows in shown.values() for image, _ in rows.values())
        pixels = {
            split: data.preprocess.denormalise(torch.stack([x for x, _ in rows.values()]))
            for split, rows in shown.items()
        }
        return [float(images.max()) for images in pixels.values()]

    train, val = brightest(Augment(crop=0.08))
    assert train > 250
    assert val < 20
    assert max(brightest(Augment(flip=True))) < 20


def test_large_and_small_sets_are_cropped_the_same(folder: Path) -> None:
    change = Augment(crop=0.3, flip=True, mix=MixupOrCutMix())
    small, large = (
        ImageFolder(folder, image_size=12, held_out=4, memory=memory, augment=change) for memory in (1000, 0)
    )
    assert small.held("train").images.shape[-1] == 22
    assert small.held("val").images.shape[-1] == 12
    ours, theirs = (all_of(data.train_dataloader()) for data in (small, large))
    assert ours.keys() == theirs.keys()
    for row, (image, target) in ours.items():
        torch.testing.assert_close(theirs[row][0], image)
        torch.testing.assert_close(theirs[row][1], target)


def test_a_part_of_a_set_keeps_what_is_known_of_its_pictures(folder: Path) -> None:
    data = ImageFolder(folder, image_size=12, held_out=4, labelled=0.5, augment=Augment(crop=0.3))
    part = data.held("train")
    assert len(part) == len(part.names) == len(part.aspects) < 28
    assert part.aspects.tolist() == pytest.approx([20 / 14] * len(part))


def test_a_part_of_the_training_images_has_as_many_of_each_class_and_the_rest_stays() -> None:
    whole, part = Digits(), Digits(labelled=0.1)
    assert torch.bincount(part.held("train").labels).tolist() == [11] * 10  # of 1,079
    for split in ("val", "test"):
        assert torch.equal(part.held(split).images, whole.held(split).images)


def test_digits_are_split_in_three_without_a_digit_in_two() -> None:
    data = Digits()
    held = {split: data.held(split) for split in ("train", "val", "test")}
    assert len(held["test"]) == 599  # a third of 1,797
    assert sum(len(part) for part in held.values()) == 1797
    rows = [part.images.flatten(1).double() @ torch.rand(64, dtype=torch.float64) for part in held.values()]
    assert len(set(torch.cat(rows).tolist())) > 1790  # a few digits of scikit-learn's are equal
    assert not set(rows[0].tolist()) & set(rows[1].tolist())
    assert (data.classes, data.image_size, data.channels, data.names[3]) == (10, 8, 1, "3")
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (64, 1, 8, 8)
    assert abs(float(batch.images.mean())) < 0.1
    assert float(batch.images.std()) == pytest.approx(1, abs=0.1)


def test_what_is_held_out_is_drawn_by_the_seed() -> None:
    parts = [apart(100, 30, seed) for seed in (1, 1, 2)]
    for rest, held in parts:
        assert sorted([*rest, *held]) == list(range(100))
        assert len(held) == 30
    assert parts[0][1].tolist() == parts[1][1].tolist() != parts[2][1].tolist()


def test_training_images_alone_are_changed_and_labels_are_the_larger_share() -> None:
    plain, changed = Digits(), Digits(augment=Augment(rotate=20, erase=1.0, mix=Mixup()))
    for split in ("val", "test"):
        for one, other in zip(plain._loader(split, shuffle=False), changed._loader(split, shuffle=False), strict=True):
            assert all(map(torch.equal, one, other))
    for batch in changed.train_dataloader():
        assert torch.equal(batch.labels, batch.targets.argmax(-1))
        own = changed.held("train").labels[batch.index]
        assert 0 < (batch.labels != own).float().mean() < 0.6  # of another digit by more than half


def test_mnist_and_cifar_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist", train=60, test=20)
    write_cifar(tmp_path / "cifar10_jpeg", train=60, test=20)
    monkeypatch.setattr("zoo.data.public.fetch", lambda name, files=None: tmp_path / name)
    data = MNIST(held_out=10)
    assert [len(data.held(split)) for split in ("train", "val", "test")] == [50, 10, 20]
    held = data.held("test")
    torch.testing.assert_close(held.images.float().mean((1, 2, 3)), held.labels * 20.0 + 9.5, rtol=0, atol=1.5)
    cifar = Cifar10Jpeg(held_out=10)
    assert [len(cifar.held(split)) for split in ("train", "val", "test")] == [50, 10, 20]
    assert cifar.names[3] == "cat"
    assert len(Cifar10Jpeg(held_out=10, labelled=0.2).held("train")) == 10  # one of each class
    assert set(Cifar10Jpeg(held_out=10, labelled=0.2).held("train").labels.tolist()) == set(range(10))
    assert Cifar10Jpeg(held_out=10, augment=Augment(crop=0.5)).held("train").images.shape[-1] == 32


def test_torchvisions_own_reader(tmp_path: Path) -> None:
    """FashionMNIST as torchvision leaves it, unpacked; what is not there and cannot be fetched is one line."""
    import gzip
    import shutil

    write_mnist(tmp_path / "made", train=40, test=20)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (tmp_path / "made").iterdir():
        with gzip.open(file) as source, (raw / file.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    data = TorchvisionSet("FashionMNIST", root=tmp_path, held_out=10)
    assert (data.image_size, data.channels, data.names[0]) == (28, 1, "T-shirt/top")
    assert [len(data.held(split)) for split in ("train", "val", "test")] == [30, 10, 20]
    with pytest.raises(UserError, match=r"ImageNet is not to be had from torchvision in .*"):
        TorchvisionSet("ImageNet", root=tmp_path / "none")


def test_a_folder_with_its_own_splits(tmp_path: Path) -> None:
    for split, each in {"train": 5, "valid": 2, "test": 3}.items():
        write_folder(tmp_path / split, each=each)
    data = ImageFolder(tmp_path, image_size=8)
    assert [len(data.held(split)) for split in ("train", "val", "test")] == [15, 6, 9]
    assert data.names == ("class0", "class1", "class2")
    write_folder(tmp_path / "test" / "extra", classes=1, each=1)
    (tmp_path / "test" / "extra" / "class0").rename(tmp_path / "test" / "zebra")
    (tmp_path / "test" / "extra").rmdir()
    with pytest.raises(UserError, match=r"test: class 'zebra' is not in .*train: nothing could be learned"):
        ImageFolder(tmp_path, image_size=8)


def test_a_new_file_takes_the_place_of_one_at_most_and_of_a_share_none(tmp_path: Path) -> None:
    write_folder(tmp_path)
    before, shares = (ImageFolder(tmp_path, image_size=8, held_out=held_out).files for held_out in (6, 0.2))
    Image.new("RGB", (9, 9)).save(tmp_path / "class0" / "new.png")
    after = ImageFolder(tmp_path, image_size=8, held_out=6).files
    for split in ("val", "test"):
        assert len(set(before[split]) - set(after[split])) <= 1
    for number in range(60):
        Image.new("RGB", (9, 9 + number)).save(tmp_path / "class0" / f"new{number}.png")
    more = ImageFolder(tmp_path, image_size=8, held_out=0.2).files
    for split, files in shares.items():
        assert set(files) <= set(more[split])
    assert sum(map(len, more.values())) == 36 + 61
    assert 9 <= len(more["val"]) <= 30
    assert 9 <= len(more["test"]) <= 30


def test_copies_stand_on_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, each=10)
    for file in sorted(tmp_path.rglob("*.png")):
        (file.parent / f"copy of {file.name}").write_bytes(file.read_bytes())
    for held_out in (8, 0.25):
        files = ImageFolder(tmp_path, image_size=8, held_out=held_out).files
        sides = [{path.read_bytes() for path, _ in files[split]} for split in ("train", "val", "test")]
        assert all(sides)
        assert sum(map(len, sides)) == 30
        assert sum(map(len, files.values())) == 60
        assert isinstance(held_out, float) or len(files["val"]) == len(files["test"]) == 8
    assert capsys.readouterr().err == ""
    (tmp_path / "own").mkdir()
    for split, each in {"train": 5, "val": 3}.items():
        write_folder(tmp_path / "own" / split, each=each)
    ImageFolder(tmp_path / "own", image_size=8, held_out=2)
    said = capsys.readouterr().err
    assert "own/val: " in said
    assert "images are copies of ones in" in said
    assert said.count("\n") == 1


def test_files_are_alike_to_the_last_byte(tmp_path: Path) -> None:
    from zoo.vision.files import copies

    end = b"e" * 5000
    contents = {"a": b"1" + end, "b": b"2" + end, "c": b"1" + end, "d": end, "e": b"", "f": b"", "g": b"x"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "h").symlink_to(tmp_path / "nowhere")
    found = copies(sorted(tmp_path.iterdir()))
    assert [[file.name for file in group] for group in found] == [["a", "c"], ["e", "f"]]


def test_what_is_decoded_is_written_as_it_comes_beside_what_others_write(tmp_path: Path) -> None:
    """Neither twice in memory, nor under a name that another process has."""
    import io
    import tracemalloc

    out = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(out, "PNG")
    content = out.getvalue()
    pictures = Pictures([0] * 300, lambda row: b"none" if row in (3, 70) else content, str, "")
    (tmp_path / "set.part").write_bytes(b"another's")
    # imports what it needs: for what is no image, all of Pillow's formats
    decode_all(Pictures([0, 0], lambda row: b"none" if row else content, str, ""), FIT, tmp_path / "set.npy", "first")
    tracemalloc.start()
    bad, aspects = decode_all(pictures, FIT, tmp_path / "set.npy", "decoding")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    images = np.load(tmp_path / "set.npy")
    assert peak < images.nbytes / 2
    assert images.shape == (298, 3, 128, 128)
    assert set(bad) == {3, 70}
    assert len(aspects) == 298
    assert (images == images[:1]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.npy", "set.part"]
    assert (tmp_path / "set.part").read_bytes() == b"another's"
    with pytest.raises(UserError, match="none of 1 images"):
        decode_all(Pictures([0], lambda row: b"", str, ""), FIT, tmp_path / "x.npy", "none")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("memory", [1000, 0], ids=["small", "large"])
def test_a_bad_file_among_many_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    doing: list[str] = []
    monkeypatch.setattr("zoo.vision.pictures.bar", lambda items, name, *_, **more: doing.append(name) or items)
    write_folder(tmp_path)
    bad = tmp_path / "class1" / "3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    (tmp_path / "class2" / "5.png").write_bytes(b"")
    (tmp_path / "class2" / "notes.txt").write_text("no image, and not asked for")
    data = ImageFolder(tmp_path, image_size=8, held_out=3, batch=6, memory=memory, augment=Augment(mix=MixupOrCutMix()))
    seen = [row for split in ("train", "val", "test") for row in all_of(getattr(data, f"{split}_dataloader")())]
    assert len(seen) == 34
    said = capsys.readouterr().err
    assert str(bad) in said
    assert f"{tmp_path / 'class2' / '5.png'}: the file is empty" in said
    assert "left out" in said
    assert "Traceback" not in said
    if memory:
        assert said.count("cannot be read and are left out") >= 1
        assert "decoding train" in doing
        again = ImageFolder(tmp_path, image_size=8, held_out=3, memory=memory)
        again.held("train")
        said = capsys.readouterr().err
        assert len(doing) == len(set(doing))  # from the data folder
        assert str(bad) in said or "5.png" in said  # and the fault is said again


def test_a_large_set_never_has_an_empty_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing of a batch can be read, a link to nowhere among it, another image stands for it."""
    write_folder(tmp_path, each=4)
    (tmp_path / "class0" / "bad.png").write_bytes(b"none")
    (tmp_path / "class1" / "link.png").symlink_to(tmp_path / "nowhere.png")
    data = ImageFolder(tmp_path, image_size=8, held_out=1, batch=1, memory=0)
    batches = list(data.train_dataloader())
    assert all(len(batch.images) == 1 for batch in batches)
    seen = {name for split in ("train", "val", "test") for name in map(str, [p for p, _ in data.files[split]])}
    assert str(tmp_path / "class1" / "link.png") in seen
    assert capsys.readouterr().err.count("left out (") in (1, 2)
    small = ImageFolder(tmp_path, image_size=8, held_out=1)
    assert sum(len(small.held(split)) for split in ("train", "val", "test")) == 12


def test_a_partner_that_cannot_be_read_teaches_no_others_class(tmp_path: Path) -> None:
    """A batch of one image, whose partner is lost: what stands for the partner is not mixed in under its name."""
    write_folder(tmp_path, each=4)
    for file in (tmp_path / "class1").iterdir():
        file.write_bytes(b"none")
    mix = Augment(mix=MixupOrCutMix())
    data = ImageFolder(tmp_path, image_size=8, held_out=1, batch=1, memory=0, augment=mix)
    targets = torch.cat([batch.targets for batch in data.train_dataloader()])
    assert targets[:, 0].sum() > 0
    assert targets[:, 1].sum() == 0


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, each=6)
    for file in (tmp_path / "class1").iterdir():
        file.write_bytes(b"none")
    with pytest.raises(UserError, match="class 'class1': none of its images can be read"):
        ImageFolder(tmp_path, image_size=8, held_out=2).held("train")


def test_files_of_other_endings_are_counted_and_hidden_ones_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path, each=6)
    picture = (tmp_path / "class0" / "0.png").read_bytes()
    for name in ("a.JFIF", "b.HEIC", "c.heic", "notes.txt", "._0.png", "__MACOSX/0.png"):
        (tmp_path / "class0" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "class0" / name).write_bytes(picture)
    (tmp_path / "__MACOSX").mkdir()
    data = ImageFolder(tmp_path, image_size=8, held_out=2)
    assert data.names == ("class0", "class1", "class2")
    assert sum(map(len, data.files.values())) == 19
    assert "3 files do not end as images do and are left out (2 .heic, 1 .txt)" in capsys.readouterr().err


def test_what_is_cut_away_belongs_to_what_is_decoded(tmp_path: Path) -> None:
    """A model that sees the middle of a picture does not find it decoded whole."""
    write_folder(tmp_path / "images")
    (tmp_path / "model").mkdir()
    Preprocess(8, 3, (0.5,) * 3, (0.5,) * 3, shorter=12).save(tmp_path / "model")
    whole, cut = (
        ImageFolder(tmp_path / "images", image_size=8, held_out=4, preprocess=like).held("train")
        for like in (None, tmp_path / "model")
    )
    assert not torch.equal(whole.images, cut.images)


def test_what_is_decoded_is_found_by_whatever_name_its_folder_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in another spelling is the same; another folder, whose files look alike from outside, is not."""
    write_folder(tmp_path / "images")
    made: list[Path] = []

    def decoded(source: Pictures, fit: Preprocess, path: Path, doing: str) -> object:
        made.append(path)
        return decode_all(source, fit, path, doing)

    monkeypatch.setattr("zoo.vision.data.decode_all", decoded)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    places = (tmp_path / "images", Path("images"), Path("../") / tmp_path.name / "images", tmp_path / "link")
    first, *others = (ImageFolder(place, image_size=8, held_out=4).held("train") for place in places)
    assert len(made) == 1
    assert all(torch.equal(first.images, other.images) for other in others)
    shutil.copytree(tmp_path / "images", tmp_path / "copy")  # with its times of change
    ImageFolder(tmp_path / "copy", image_size=8, held_out=4).held("train")
    assert len(set(made)) == 2
    digests = {on_disk([(place / "class0" / "0.png", 0)]).digest for place in (*places, tmp_path / "copy")}
    assert len(digests) == 1


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "class0").rename(tmp_path / "train")
    assert ImageFolder(tmp_path, held_out=4).names == ("class1", "class2", "train")


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path) -> None:
    write_folder(tmp_path / "good")
    (tmp_path / "good" / "empty").mkdir()
    with pytest.raises(UserError, match=r"good/empty: no image here \(\.avif"):
        ImageFolder(tmp_path / "good")
    with pytest.raises(UserError, match=r"none: no such folder"):
        ImageFolder(tmp_path / "none")
    write_folder(tmp_path / "one", classes=1)
    with pytest.raises(UserError, match="each of two classes or more, found 1"):
        ImageFolder(tmp_path / "one")
    deep = [(tmp_path / f"class{i}" / "inside" / "0.png", i) for i in range(2)]
    with pytest.raises(UserError, match=r"class[01]: all images of this class would be held out"):
        hold_out(deep, 1, 1, tmp_path)
    write_folder(tmp_path / "few", each=2)
    with pytest.raises(UserError, match=r"6 images are too few to hold out 5 \(held_out\)"):
        ImageFolder(tmp_path / "few", held_out=5)
    write_folder(tmp_path / "bad", each=4)
    for file in (tmp_path / "bad").rglob("*.png"):
        file.write_bytes(str(file).encode())  # no copies
    with pytest.raises(UserError, match=r"none of \d images can be read: .*png: not an image"):
        ImageFolder(tmp_path / "bad", held_out=2).held("train")


def test_large_parquet_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows, from a file that is made once and opened by each process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    for part, count in (("a", 700), ("b", 30)):
        write_cifar(tmp_path / part, train=count, test=20)
    folder = tmp_path / "train"
    folder.mkdir()
    for part in "ab":
        shutil.copy(tmp_path / part / "train-00000-of-00001.parquet", folder / f"{part}.parquet")
    held = read_parquet(folder)
    monkeypatch.setattr("zoo.vision.parquet.IN_MEMORY", 0)
    mapped = read_parquet(folder)
    assert isinstance(mapped.contents, Mapped)
    assert len(mapped) == len(held) == 730
    assert mapped.labels == held.labels
    assert [mapped.read(row) for row in range(730)] == [held.read(row) for row in range(730)]
    sent = pickle.dumps(mapped.some(np.array([3, 729])))
    assert len(sent) < 5_000  # not the images
    assert pickle.loads(sent).read(1) == held.read(729)
    assert mapped.pictures().digest == held.pictures().digest  # of the content, wherever it lies
    (file,) = (tmp_path / "data" / "parquet").glob("*.arrow")
    before = file.stat()
    assert read_parquet(folder).read(700) == held.read(700)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    file.write_bytes(file.read_bytes()[:100])
    assert read_parquet(folder).read(700) == held.read(700)  # a copy that is none is made again
    shutil.copy(tmp_path / "b" / "test-00000-of-00001.parquet", folder / "b.parquet")
    assert len(read_parquet(folder)) == 720
    assert len([*(tmp_path / "data" / "parquet").glob("*.arrow")]) == 2  # other files, another copy
    alike = [tmp_path / name / "0.parquet" for name in "cd"]
    for path, content in zip(alike, (b"one", b"two"), strict=True):
        path.parent.mkdir()
        pq.write_table(pa.table({"image": [{"bytes": content}], "label": [0]}), path, compression="none")
        os.utime(path, (1, 1))
    assert alike[0].stat().st_size == alike[1].stat().st_size
    assert [read_parquet(path).read(0) for path in alike] == [b"one", b"two"]  # of equal name, size and time


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("zoo.vision.parquet.IN_MEMORY", 0)
    write_cifar(tmp_path / "good", train=3000, test=20)
    path = tmp_path / "good" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(
        whole[:200] + bytes(len(whole) // 2) + whole[200 + len(whole) // 2 :]
    )  # of its images, not its end
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet: not a Parquet file that can be read"):
        read_parquet(path)
    assert {file.suffix for file in (tmp_path / "data" / "parquet").iterdir()} <= {".lock"}


@pytest.mark.parametrize("held", [0, 10**9], ids=["mapped", "held"])
def test_every_parquet_file_has_the_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("zoo.vision.parquet.IN_MEMORY", held)
    image = {"bytes": b"x", "path": "x"}
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.table({"image": [image], "label": [0]}), folder / "0.parquet")
    pq.write_table(pa.table({"label": [1], "more": ["a"], "image": [image]}), folder / "1.parquet")  # in any order
    assert read_parquet(folder).labels == [0, 1]
    for columns in ({"label": [1]}, {"image": [b"x"], "label": [1]}, {"image": [image], "label": [0.5]}):
        pq.write_table(pa.table(columns), folder / "1.parquet")
        with pytest.raises(UserError, match=r"1\.parquet: expected a column of"):
            read_parquet(folder)
    pq.write_table(pa.table({"picture": [image], "label": [1]}), folder / "1.parquet")
    with pytest.raises(UserError, match=r"1\.parquet: images and classes are in .*picture.*, in .*0\.parquet in"):
        read_parquet(folder)


def test_what_is_wrong_with_a_parquet_file_is_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_cifar(tmp_path / "good", train=30, test=20)
    train, test = (tmp_path / "good" / f"{name}-00000-of-00001.parquet" for name in ("train", "test"))
    with pytest.raises(UserError, match=r"none.parquet: no such Parquet file"):
        ParquetImages(tmp_path / "none.parquet", test, held_out=5)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(train.read_bytes()[:500])
    with pytest.raises(UserError, match=r"cut\.parquet: not a Parquet file"):
        ParquetImages(cut, test, held_out=5)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), other)
    with pytest.raises(UserError, match=r"other.parquet: expected a column of \{bytes, path\}"):
        ParquetImages(other, test, held_out=5)
    rows = [{"bytes": b"broken", "path": "a"}, *pq.read_table(test)["img"].to_pylist()]
    pq.write_table(pa.table({"img": rows, "label": [11, *range(10), *range(10)]}), other)
    with pytest.raises(UserError, match=r"other.parquet: class 11 is not in .*train"):
        ParquetImages(train, other, held_out=5)
    pq.write_table(pa.table({"img": rows, "label": [1, *range(10), *range(10)]}), other)
    data = ParquetImages(train, other, held_out=5)
    assert len(data.held("test")) == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file of bytes"),
        (b"\x1f\x8b\x08", "not gzip, or cut short"),
        ("gzip:hello", "not an IDX file of bytes"),
        ("gzip:\0\0\x08\x03\0\0", "an IDX file cut short"),
        ("gzip:\0\0\x08\x01\0\0\0\x05abc", "an IDX file cut short"),
    ],
)
def test_idx_files_that_are_none(tmp_path: Path, content: bytes | str, message: str) -> None:
    import gzip

    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(content[5:].encode("latin1")) if isinstance(content, str) else content)
    with pytest.raises(UserError, match=f"labels.gz: {message}"):
        read_idx(path)


def test_what_a_run_keeps_of_its_data(folder: Path, tmp_path: Path) -> None:
    data = ImageFolder(folder, image_size=8, held_out=3)
    data.save(tmp_path)
    assert (tmp_path / "preprocess.json").is_file()
    plain = data.manifest()
    assert plain["images"] == {"train": 30, "val": 3, "test": 3}
    assert plain["sha256"] == ImageFolder(folder, image_size=8, held_out=3).manifest()["sha256"]
    assert data.describe() == {"classes": ["class0", "class1", "class2"]}


def test_ranks_see_different_images(folder: Path) -> None:
    from zoo.data.batches import EpochSampler

    parts = [EpochSampler([1] * 20, 5, seed=1, rank=rank, world=2) for rank in range(2)]
    rows = [{row for batch in part for _, row in batch} for part in parts]
    assert not rows[0] & rows[1]
    assert np.array_equal(sorted(rows[0] | rows[1]), range(20))
