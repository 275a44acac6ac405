"""The tour: its table, its page, and what is said when it is asked for what is not."""

import base64
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from zoo.cli import main
from zoo.tour import Example, Picture, Stop
from zoo.tour.beside import as_file, beside, settings
from zoo.tour.draw import curve, heat
from zoo.tour.page import page

STOP = Stop(
    domain="text",
    tokens="words & signs",
    task="a task <b>",
    model="a model",
    parameters=1234567,
    metric="% exact",
    score=97.5,
    best=100.0,
    seconds=12.3,
    steps=3,
    stacks={"encoder": {"dim": 8, "causal": False}, "decoder": {"dim": 8, "causal": True, "theta": 0.5}},
    emblem=heat(["r"], ["c", "d"], [[0.0, 0.25]]),
    examples=(Example(given="<script>", made="a", right="a"), Example(given="x", made="y", right="z")),
    pictures=(Picture(svg=heat(["r"], ["c"], [[0.5]]), caption="where it looks"),),
    losses=(3.0, 2.0, 1.0),
)


class Page(HTMLParser):
    """Tags in balance, and every address that the page would ask."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asks += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "line", "polyline", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("line", "polyline", "rect"):
            return
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nobody() -> None:
    html = page([STOP, STOP], "a machine")
    reader = Page()
    reader.feed(html)
    assert reader.open == []
    assert reader.asks == []
    assert "url(" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a task &lt;b&gt;" in html
    assert "1,234,567" in html
    assert html.count("class=wrong") == 2  # one wrong example a stop


def test_only_settings_that_differ_stand_in_columns() -> None:
    other = dataclasses.replace(STOP, domain="vision", stacks={"encoder": {"dim": 16, "causal": False}})
    stacks, differ, shared = settings([STOP, other])
    assert stacks == ["text encoder", "text decoder", "vision"]
    assert differ == {"dim": (8, 8, 16), "causal": (False, True, False), "theta": ("-", 0.5, "-")}
    assert shared == {}
    assert settings([STOP])[2] == {"dim": 8}
    html = page([STOP, other], "a machine")
    assert "One block, 3 stacks" in html
    assert "<tr><td>causal</td><td>no</td><td>yes</td><td>no</td></tr>" in html


def test_the_domains_stand_side_by_side_in_a_file_of_its_own() -> None:
    drawing = as_file(beside([STOP, STOP]))
    root = ElementTree.fromstring(drawing)  # well formed: a browser shows nothing of an SVG that is not
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("text") == 2
    assert texts.count("tokens: words & signs") == 2
    assert "<title>" not in drawing
    assert drawing.count('fill-opacity="0.250"') == 2
    assert 'fill-opacity="0.000"' not in drawing
    width = float(root.attrib["width"])
    for part in root.iter("{http://www.w3.org/2000/svg}svg"):
        assert float(part.attrib.get("x", 0)) + float(part.attrib["width"]) <= width


@pytest.mark.parametrize("name", ["index.html", "beside.svg"])
def test_another_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["tour", "text", "--seconds", "5", "--out", str(tmp_path)]) == 2
    assert f"{name} exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_curve_goes_from_the_first_value_to_the_last() -> None:
    points = re.search(r'points="([^"]*)"', curve([4.0, 2.0, 0.0]))[1].split()
    ys = [float(p.split(",")[1]) for p in points]
    assert ys == sorted(ys)
    assert curve([]) == ""


def test_a_tour_of_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight seconds teach something: the loss falls far, the page and the table say the same."""
    assert main(["tour", "text", "--seconds", "8", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    html = (tmp_path / "index.html").read_text()
    row = next(line for line in out.splitlines() if "Spanish" in line)
    assert re.search(r"\d+\.\d", row)
    assert "100.0" in row
    assert "loss" in err  # the progress bar
    first, last = re.search(r"<text x=\"45\" y=\"20\" text-anchor=\"end\">([\d.]+)", html)[1], html
    assert float(first) > 2
    assert str(tmp_path / "index.html") in out + err
    assert "two hundred thirty-one thousand" in last or 'class="heat"' in last


def test_the_stop_for_music_can_be_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A few seconds bring the loss below an even guess; the page plays what was written and says the best loss."""
    assert main(["tour", "music", "--seconds", "6", "--out", str(tmp_path)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "harmony" in line)
    score, best = map(float, re.search(r"([\d.]+) nats per token +([\d.]+)", row).groups())  # type: ignore[union-attr]
    assert 0.15 < best < 0.3 < score < 3.8  # 49 tokens: an even guess has 3.9
    html = (tmp_path / "index.html").read_text()
    (sound,) = re.findall(r"data:audio/wav;base64,([\w+/=]+)", html)
    assert base64.b64decode(sound).startswith(b"RIFF")
    assert html.count('class="heat"') > 20  # the piano roll


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["txet"], "unknown domain 'txet'; did you mean 'text'?"),
        (["--seconds", "1"], "--seconds must be at least 5, got 1"),
        (["--second", "9"], "unknown option --second; did you mean '--seconds'?"),
    ],
)
def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main(["tour", *options]) == 2
    assert message in capsys.readouterr().err
