"""Training on images through the command line: a teacher, another size, a masked autoencoder's trunk, faults."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from tests.vision.pictures import write_folder
from zoo.cli import main
from zoo.core import Learned, StackConfig
from zoo.vision.images import Preprocess
from zoo.vision.patches import LinearPatches
from zoo.vision.pictures import Batch
from zoo.vision.task import Classification
from zoo.weights.load import load

QUIET = ["--trainer.enable_progress_bar", "false"]
STACK = {"dim": 16, "depth": 1, "heads": 2, "position": {"class_path": "Learned", "init_args": {"length": 10}}}


class Images:
    """A folder with images, settings for them, and runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        write_folder(folder / "images")
        self.config = folder / "base.yaml"
        plain = {
            "model": {
                "class_path": "Classification",
                "init_args": {
                    "stack": STACK,
                    "patches": {"class_path": "LinearPatches", "init_args": {"size": 4}},
                    "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.005}},
                },
            },
            "data": {
                "class_path": "ImageFolder",
                "init_args": {"path": str(folder / "images"), "image_size": 12, "held_out": 4, "batch": 7},
            },
            "trainer": {"accelerator": "cpu", "max_epochs": 2},
        }
        self.config.write_text(yaml.safe_dump(plain))

    def fit(self, run: str, *options: object, config: Path | None = None) -> int:
        given = ["--config", config or self.config, "--run", self.folder / run, *QUIET, *options]
        return main(["fit", *map(str, given)])

    def weights(self, run: str) -> dict[str, torch.Tensor]:
        path = self.folder / run / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


def test_colours_are_learned_and_the_test_says_which_are_taken_for_which(
    images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    assert images.fit("run", "--trainer.max_epochs", 12) == 0
    capsys.readouterr()
    assert main(["test", str(images.folder / "run"), *QUIET]) == 0
    assert "accuracy: 1.0" in capsys.readouterr().out
    found = json.loads((images.folder / "run" / "confusion.json").read_text())
    table = torch.tensor(found["rows are right, columns made"])
    assert table.sum() == table.diagonal().sum() == 4
    assert main(["predict", str(images.folder / "run"), *QUIET]) == 0
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(said) == 4
    for name, made, likely in said:
        assert Path(name).is_file()
        assert Path(name).parent.name == made
        assert 1 / 3 < float(likely) <= 1


def test_classes_are_matched_by_name(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    """With another first class every number would mean another name."""
    assert images.fit("run", "--trainer.max_steps", 1) == 0
    (images.folder / "images" / "class0").rename(images.folder / "images" / "later")
    capsys.readouterr()
    run = str(images.folder / "run")
    for given in (
        ["test", run],
        ["predict", run],
        ["fit", "--run", run, "--resume", "last", "--trainer.max_steps", "2"],
    ):
        assert main([*given, *QUIET]) == 2
        assert "knows other classes than this data, which lacks class0; adds later" in capsys.readouterr().err
    (images.folder / "images" / "later").rename(images.folder / "images" / "class0")
    assert main(["test", run, *QUIET]) == 0


def test_what_stops_before_its_data_is_read_leaves_no_folder(images: Images) -> None:
    """So that the same command may be typed again."""
    files = {path: path.read_bytes() for path in (images.folder / "images" / "class1").iterdir()}
    for path in files:
        path.write_bytes(b"none")
    assert images.fit("run", "--trainer.max_steps", 1) == 2
    assert not (images.folder / "run").exists()
    for path, content in files.items():
        path.write_bytes(content)
    assert images.fit("run", "--trainer.max_steps", 1) == 0


def test_a_run_that_goes_on_with_other_images_says_so(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    go_on = ["--resume", "last", "--trainer.max_epochs", 9]
    assert images.fit("run", "--trainer.max_steps", 1) == 0
    assert images.fit("run", *go_on, "--trainer.max_steps", 2) == 0
    assert "not what the run began with" not in capsys.readouterr().err
    (images.folder / "images" / "class0" / "0.png").unlink()
    assert images.fit("run", *go_on, "--trainer.max_steps", 3) == 0
    assert "run: the data is not what the run began with" in capsys.readouterr().err


def test_a_run_that_stopped_goes_on_bit_for_bit(images: Images) -> None:
    change = ["--data.augment.flip", "true", "--data.augment.shift", "2", "--data.augment.mix", "Mixup"]
    assert images.fit("whole", *change, "--trainer.max_steps", 7, "--trainer.max_epochs", -1) == 0
    assert images.fit("parts", *change, "--trainer.max_steps", 3, "--trainer.max_epochs", -1) == 0
    assert images.fit("parts", *change, "--resume", "last", "--trainer.max_steps", 7, "--trainer.max_epochs", -1) == 0
    whole, parts = images.weights("whole"), images.weights("parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_training_begins_with_published_weights(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    theirs = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=5))
    theirs.save_pretrained(images.folder / "published")
    gelu = ["--model.stack.ffn", "Plain", "--model.stack.ffn.activation", "gelu", "--model.stack.ffn.dim", "64"]
    still = ["--trainer.max_steps", 1, "--model.optimizer.lr", 1e-12]
    assert images.fit("tuned", *gelu, *still, "--init-from", images.folder / "published") == 0
    assert "published: stack, patches, prefix" in capsys.readouterr().err
    tuned = images.weights("tuned")
    stored = load_file(images.folder / "published" / "model.safetensors")
    expected = stored["vit.encoder.layer.0.output.dense.weight"]
    torch.testing.assert_close(tuned["network.stack.blocks.0.ffn.branch.down.weight"], expected, rtol=0, atol=1e-9)
    assert tuned["network.stack.position.table.weight"].shape == (10, 16)  # of 17 rows there
    deeper = ["--model.stack.depth", 2]
    assert images.fit("deeper", *gelu, *deeper, "--init-from", images.folder / "published") == 2
    assert "its stack is not this model's (it lacks 'network.stack.blocks.1" in capsys.readouterr().err


def test_what_is_left_unset_is_that_of_the_published_model(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    """Stack, patches and image size, and the same logits as theirs on the same pixels."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    theirs = ViTForImageClassification(ViTConfig(**sizes, image_size=20, patch_size=5, num_labels=5))
    theirs.save_pretrained(images.folder / "published")
    ViTImageProcessor(size={"height": 20, "width": 20}).save_pretrained(images.folder / "published")
    plain = yaml.safe_load(images.config.read_text())
    plain["model"]["init_args"] = {"optimizer": {"class_path": "AdamW", "init_args": {"lr": 1e-30}}}
    plain["data"]["init_args"].pop("image_size")
    (images.folder / "unset.yaml").write_text(yaml.safe_dump(plain))
    run = images.folder / "tuned"
    given = ["--config", images.folder / "unset.yaml", "--run", run, "--init-from", images.folder / "published"]
    assert main(["fit", *map(str, given), "--trainer.max_steps", "1", *QUIET]) == 0
    ours, pixels = load(run).model, torch.randn(2, 3, 20, 20)
    with torch.no_grad():
        states = theirs.eval().vit(pixels).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(pixels), ours.heads[0](states), rtol=1e-4, atol=1e-5)
    # pictures are prepared as the published model's are, and so what goes back is read the same way
    assert load(run).tokenizer == load(images.folder / "published").tokenizer
    back = images.folder / "back"
    given = ["export", str(run), str(back), "--to", "hf", "--like", str(images.folder / "published")]
    assert main(given) == 0
    picture = next((images.folder / "images").rglob("*.png"))
    capsys.readouterr()
    said = []
    for folder in (run, back):
        assert main(["classify", str(folder), str(picture), "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out)["classes"])
    assert said[0] == pytest.approx(said[1], abs=1e-5)
    assert images.fit("otherwise", *["--trainer.max_steps", 1]) == 0
    assert main([*given[:1], str(images.folder / "otherwise"), str(images.folder / "x"), *given[3:]]) == 2
    assert "prepares its pictures otherwise" in capsys.readouterr().err


def test_another_size_begins_with_the_weights_of_the_first(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    assert images.fit("small") == 0
    last = images.folder / "small" / "checkpoints" / "last.ckpt"
    larger = ["--data.image_size", 16, "--model.stack.position.length", 17]
    still = ["--trainer.max_steps", 1, "--model.optimizer.lr", 1e-12]
    assert images.fit("large", *larger, *still, "--init-from", last) == 0
    small, large = images.weights("small"), images.weights("large")
    table = "network.stack.position.table.weight"
    assert large[table].shape == (17, 16)
    for name, value in small.items():
        found, expected = (large[name][0], value[0]) if name == table else (large[name], value)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    capsys.readouterr()
    assert images.fit("small", *larger, "--resume", "last") == 2
    assert "begin a new run with --init-from to change it" in capsys.readouterr().err


def test_a_teacher_is_listened_to(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    assert images.fit("teacher") == 0
    stack = StackConfig(dim=16, depth=1, heads=2, position=Learned(11))
    task = Classification(stack, LinearPatches(4), 3, 12, 3, distillation=True, teacher=images.folder / "teacher")
    x = torch.randn(5, 3, 12, 12)
    batch = Batch(x, torch.eye(3)[[0, 1, 2, 0, 1]], torch.tensor([0, 1, 2, 0, 1]), torch.arange(5))
    scores = torch.randn(2, 5, 3)
    (_, own, _), (_, taught, _) = task.lessons(scores, batch)
    said = task.teacher[0](x)
    assert torch.equal(own, batch.targets)
    assert torch.equal(taught, F.one_hot(said.argmax(-1), 3).float())
    alone = F.cross_entropy(scores[0], (batch.targets + said.softmax(-1)) / 2, reduction="sum")  # of one head
    torch.testing.assert_close(task.judged(scores[:1], batch).loss, alone)
    task.temperature = 3.0
    soft = F.kl_div((scores[0] / 3).log_softmax(-1), (said / 3).softmax(-1), reduction="sum")  # Hinton et al.
    soft = 9 * (soft + torch.distributions.Categorical(logits=said / 3).entropy().sum())
    true = F.cross_entropy(scores[0], batch.targets, reduction="sum")
    torch.testing.assert_close(task.judged(scores[:1], batch).loss, (true + soft) / 2)
    task.temperature, task.label_smoothing = 1.0, 0.3  # which is of the true targets alone
    losses = (
        F.cross_entropy(scores[0], batch.targets, reduction="sum", label_smoothing=0.3),
        F.cross_entropy(scores[1], said.argmax(-1), reduction="sum"),
        F.cross_entropy(scores[0], said.softmax(-1), reduction="sum"),
    )
    torch.testing.assert_close(task.judged(scores, batch).loss, (losses[0] + losses[1]) / 2)
    torch.testing.assert_close(task.judged(scores[:1], batch).loss, (losses[0] + losses[2]) / 2)
    task.eval()
    smooth = [F.cross_entropy(s, batch.targets, reduction="sum", label_smoothing=0.3) for s in scores]
    torch.testing.assert_close(task.judged(scores, batch).loss, sum(smooth) / 2)
    assert not any("teacher" in name for name in task.state_dict())
    assert images.fit("student", "--model.teacher", images.folder / "teacher") == 0
    capsys.readouterr()
    for options, message in (
        (["--model.teacher", images.folder], "holds no model (no config.json)"),
        (
            ["--model.teacher", images.folder / "teacher", "--data.channels", 1],
            "teacher has channels 3, the student has 1",
        ),
        (["--model.teacher", images.folder / "teacher", "--model.temperature", 0], "temperature (0.0) must be above 0"),
    ):
        assert images.fit("none", *options) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_a_teacher_knows_the_same_classes_and_sees_its_own_numbers(
    images: Images, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images.fit("teacher", "--trainer.max_steps", 1) == 0
    run = images.folder / "teacher"
    fit = Preprocess.load(run / Preprocess.filename)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    heard = Classification.said

    def said(task: Classification, pixels: torch.Tensor) -> torch.Tensor:
        hook = task.teacher[0].register_forward_pre_hook(lambda _, given: seen.append((pixels, given[0])))
        out = heard(task, pixels)
        hook.remove()
        return out

    monkeypatch.setattr(Classification, "said", said)
    taught = ["--model.teacher", run, "--trainer.max_steps", 1]
    assert images.fit("same", *taught) == 0
    assert torch.equal(*seen.pop())
    theirs = replace(fit, mean=(0.9, 0.8, 0.7), std=(0.1, 0.2, 0.3))
    theirs.save(run)
    assert images.fit("others", *taught) == 0
    ours, given = seen.pop()
    torch.testing.assert_close(theirs.denormalise(given), fit.denormalise(ours), rtol=0, atol=1e-3)
    assert not torch.allclose(ours, given, atol=0.1)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"classes": config["classes"][::-1]}))
    capsys.readouterr()
    assert images.fit("none", *taught) == 2
    err = capsys.readouterr().err
    assert f"teacher: {run} knows other classes than this data, which has them in another order" in err
    assert err.count("\n") == 1
    assert not (images.folder / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.image_size", 13], "image_size (13) is not divisible by the patch (4): give 12 or 16"),
        (["--data.image_size", 16], "position.length (10) must be 17: 4 x 4 patches, 1 tokens before them"),
        (["--data.channels", 2], "channels (2) must be 1 (grey) or 3 (RGB)"),
        (["--data.path", "none"], "none: no such folder"),
        (["--data.augment.crop", 2], "crop (2.0) must be from 0.01 to 1"),
        (["--data.held_out", 30], "36 images are too few to hold out 30"),
        (["--model.image_size", 12], "model.image_size is the data's to say: pixels along a side of its images"),
        (["--model.pool", "Meen"], "model.pool: there is no 'Meen'; did you mean 'Mean'?"),
    ],
)
def test_faults_are_one_line(
    images: Images, capsys: pytest.CaptureFixture[str], options: list[object], message: str
) -> None:
    assert images.fit("run", *options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (images.folder / "run").exists()


def test_text_is_no_image(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    assert images.fit("run", "--data", "Numbers") == 2
    assert "needs data that knows" in capsys.readouterr().err
