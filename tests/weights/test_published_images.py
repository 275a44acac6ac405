"""Pictures for published image models, beside what transformers and timm make of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.weights.test_folders import named
from zoo import cli
from zoo.check.references import library


def picture() -> Image.Image:
    """Smooth, so that libraries may differ in rounding alone."""
    x, y = np.meshgrid(np.linspace(0, 3, 90), np.linspace(0, 2, 61))
    planes = [127 + 120 * np.sin(x * a + y * b) for a, b in ((1, 2), (2, 0.5), (0.3, 3))]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def test_as_timm_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timm = library("timm")
    model = named("timm/vit").model()
    named("timm/vit").save(model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["label_names"] = ["ant", "bee", "cat", "dog", "eel"]
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    theirs = timm.data.create_transform(**timm.data.resolve_data_config({"input_size": (3, 32, 32)}, model=model))(
        picture()
    )
    loaded = zoo.load(tmp_path / "m")
    ours = loaded.tokenizer.encode([picture()])[0]
    assert ours.shape == (3, 32, 32)
    assert float((ours - theirs).abs().max()) < 0.06  # of a range of 2: a picture cut first or resized first
    assert loaded.config["classes"] == ["ant", "bee", "cat", "dog", "eel"]
    with torch.no_grad():
        best = int(model(theirs.unsqueeze(0)).argmax())
    picture().save(tmp_path / "a.png")
    capsys.readouterr()
    assert cli.main(["classify", str(tmp_path / "m"), str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.startswith(f"{loaded.config['classes'][best]} ")
    assert cli.main(["import", str(tmp_path / "m"), str(tmp_path / "o"), "--image-size", "48"]) == 0
    assert zoo.load(tmp_path / "o").tokenizer.size == 48
    assert zoo.load(tmp_path / "o").config["classes"] == loaded.config["classes"]


def test_as_transformers_has_them(tmp_path: Path) -> None:
    hf = library("transformers")
    named("vit/five classes, eps 1e-3").save(named("vit/five classes, eps 1e-3").model(), tmp_path / "m")
    assert zoo.load(tmp_path / "m").tokenizer is None
    processor = hf.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2] * 3)
    processor.save_pretrained(tmp_path / "m")
    theirs = torch.as_tensor(processor(picture(), return_tensors="np")["pixel_values"][0])
    loaded = zoo.load(tmp_path / "m")
    ours = loaded.tokenizer.encode([picture()])[0]
    assert float((ours - theirs).abs().max()) < 0.06
    assert loaded.config["classes"] == [f"LABEL_{i}" for i in range(5)]
    assert cli.main(["import", str(tmp_path / "m"), str(tmp_path / "o"), "--image-size", "48"]) == 0
    assert cli.main(["export", str(tmp_path / "o"), str(tmp_path / "h"), "--to", "hf"]) == 0
    larger = hf.ViTImageProcessor.from_pretrained(tmp_path / "h")
    made = torch.as_tensor(larger(picture(), return_tensors="np")["pixel_values"][0])
    assert made.shape == (3, 48, 48)  # the picture that the exported network wants
    assert float((zoo.load(tmp_path / "o").tokenizer.encode([picture()])[0] - made).abs().max()) < 0.06
    processor.save_pretrained(tmp_path / "m")
    said = json.loads((tmp_path / "m" / "preprocessor_config.json").read_text())
    for change in ({"do_center_crop": True}, {"size": {"shortest_edge": 40}}, {"size": {"height": 40, "width": 32}}):
        (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(said | change))
        assert zoo.load(tmp_path / "m").tokenizer is None  # what is cut out is not said, or is no square


FORMS = {
    "deit": {"size": {"height": 37, "width": 37}, "crop_size": {"height": 32, "width": 32}},
    "deit as first published": {"size": 36, "crop_size": 32, "feature_extractor_type": "DeiTFeatureExtractor"},
    "shortest edge": {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}},
    "shortest edge, one number": {"size": {"shortest_edge": 32}, "crop_size": 32},
}


@pytest.mark.parametrize("size", [(88, 61), (50, 72), (33, 33), (20, 100)])  # of which halves are rounded the same way
@pytest.mark.parametrize("form", FORMS)
def test_the_middle_is_cut_out_as_transformers_does(tmp_path: Path, form: str, size: tuple[int, int]) -> None:
    """Their processors read what zoo reads, and what zoo writes for another size."""
    from transformers.models.deit.image_processing_deit import DeiTImageProcessor
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil

    named("vit/five classes, eps 1e-3").save(named("vit/five classes, eps 1e-3").model(), tmp_path / "m")
    common = {"do_resize": True, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2] * 3}
    said = FORMS[form] | common | {"do_center_crop": True, "resample": 3}
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(said))
    image = picture().resize(size)
    assert cli.main(["import", str(tmp_path / "m"), str(tmp_path / "o"), "--image-size", "48"]) == 0
    assert cli.main(["export", str(tmp_path / "o"), str(tmp_path / "h"), "--to", "hf"]) == 0
    for ours, theirs, side in (("m", "m", 32), ("o", "h", 48), ("h", "h", 48)):
        made = zoo.load(tmp_path / ours).tokenizer.encode([image])[0]
        for kind in (DeiTImageProcessor, DeiTImageProcessorPil):
            expected = kind.from_pretrained(tmp_path / theirs)(image, return_tensors="np")["pixel_values"][0]
            expected = torch.as_tensor(expected)
            assert made.shape == expected.shape == (3, side, side)
            assert float((made - expected).abs().max()) < 0.06


def test_squashed_and_cut_as_timm_does(tmp_path: Path) -> None:
    timm = library("timm")
    model = named("timm/vit").model()
    named("timm/vit").save(model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_mode": "squash", "crop_pct": 0.8}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    cfg = {"input_size": (3, 32, 32), "crop_mode": "squash", "crop_pct": 0.8}
    theirs = timm.data.create_transform(**timm.data.resolve_data_config(cfg, model=model))(picture())
    ours = zoo.load(tmp_path / "m").tokenizer.encode([picture()])[0]
    assert float((ours - theirs).abs().max()) < 0.06


def test_settings_of_images_that_are_none(tmp_path: Path) -> None:
    named("vit/three heads").save(named("vit/three heads").model(), tmp_path / "m")
    for content in ("{", "{}", '{"image_mean": 1, "image_std": [1]}'):
        (tmp_path / "m" / "preprocessor_config.json").write_text(content)
        with pytest.raises(ValueError, match=r"preprocessor_config\.json: not settings of images"):
            zoo.load(tmp_path / "m")


def test_settings_of_timms_images_that_are_none(tmp_path: Path) -> None:
    named("timm/vit").save(named("timm/vit").model(), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 0
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: not settings of images"):
        zoo.load(tmp_path / "m")
