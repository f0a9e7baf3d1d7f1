"""The report page: complete, self-contained, and built from what git tracks."""

import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from assay.report.page import page_content, revision, write_report
from assay.report.page_graph import draw
from assay.report.page_metrics import number_text, read_metrics
from assay.report.page_pipeline import read_lines

ROOT = Path(__file__).parents[2]
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
LINE = """
stages:
  code:
    cmd: python -m code
    outs: [code]
  fetch:
    cmd: python -m fetch
    deps: [code/fetch.json]
    desc: Gets it
    outs: [data/raw]
  train:
    foreach: [a, b]
    do:
      cmd: python -m train
      deps: ["data/raw/${item}.csv", code/train.json]
      outs: ["models/${item}"]
  judge:
    cmd: python -m judge
    deps: [data/raw, models/a, models/b, code/judge.json]
    metrics:
      - metrics/counts.json: {cache: false}
    plots:
      - plots/own: {cache: false}
"""


@pytest.fixture(scope="module")
def tracked(copy_project):
    """What git tracks of the project, to read."""
    return copy_project()


@pytest.fixture(scope="module")
def whole(tracked):
    """The page of it, without timings."""
    return page_of(tracked)


@pytest.fixture
def small(tmp_path):
    (tmp_path / "dvc.yaml").write_text(LINE)
    return tmp_path


def page_of(root, *, timings=()):
    for stage, record in timings:
        (root / "timings").mkdir(exist_ok=True)
        (root / f"timings/{stage}.json").write_text(json.dumps(record))
    return write_report(root / "report.html", root=root).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every opening tag with its attributes; ``open`` must be empty at the end."""

    VOID = frozenset(("meta", "link", "img", "input", "wbr", "rect", "path"))

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere(whole):
    tags = Tags(whole)
    assert tags.open == []
    addresses = [value for _, attributes in tags.found for name, value in attributes.items() if name in ("src", "href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(ids)
    assert "url(" not in whole
    assert "@import" not in whole


def test_every_image_stands_in_it_once_with_its_words(whole):
    images = [attributes for tag, attributes in Tags(whole).found if tag == "img"]
    assert len(images) == len(list((ROOT / "plots").rglob("*.png"))) > 20
    assert "Other plots" not in whole
    assert all(image["alt"] and int(image["width"]) > 100 and int(image["height"]) > 100 for image in images)


def test_every_stage_metric_hash_and_parameter_stands_in_it(whole):
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    drawn = [attributes["data-stage"] for _, attributes in Tags(whole).found if "data-stage" in attributes]
    assert sorted(drawn) == sorted(stages.keys() - {"code"})
    for entry in YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"].values():
        assert all(out["md5"] in whole for out in entry["outs"])
    text = unescape(re.sub("<[^>]*>", "", whole))
    assert all(line in text for line in (ROOT / "params.yaml").read_text().splitlines())
    assert re.search(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]\s+balanced accuracy of cascade", text)


@pytest.mark.parametrize("path", sorted((ROOT / "metrics").glob("*.json")), ids=lambda path: path.stem)
def test_no_key_of_a_metrics_file_is_left_out(path):
    metrics = json.loads(path.read_text())
    file = read_metrics(ROOT, f"metrics/{path.name}")
    shown = {key for key, _ in file.single}
    for table in filter(None, (file.main, file.full, *file.others)):
        for name, column in product((row[0].key for _, rows in table.groups for row in rows), table.columns[1:]):
            shown |= {f"{name}.{column}", f"{column}.{name}"}
    ends = {key for key in metrics if re.search("_(low|high)$", key) and re.sub("_(low|high)$", "", key) in metrics}
    assert metrics.keys() - ends <= shown


def test_a_system_shows_its_interval_n_and_groups(tracked):
    main = read_metrics(tracked, "metrics/stage1.json").main
    rows = {row[0].key: row for _, group in main.groups for row in group}
    assert [title for title, _ in main.groups] == ["Systems", "Baselines", "Slices"]
    assert {"test", "unseen", "metadata", "pixel_statistics", "majority"} <= rows.keys()
    cells = dict(zip(main.columns[1:], rows["test"][1:], strict=True))
    assert cells["n"].text.replace(",", "").isdigit()
    assert re.fullmatch(r"0\.\d{3}", cells["auc"].text)
    assert re.fullmatch(r"\[0\.\d{3}, 0\.\d{3}\]", cells["auc"].interval)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (1540.0, "1,540"), (113456789.0, "113.5 M"), (-0.037, "−0.037"), (None, "–"), ("single", "single"),
     (227.4, "227.4"), (True, "yes"), (0, "0")],
)  # fmt: skip
def test_metrics_are_written_for_people(value, text):
    assert number_text(value) == text


def test_the_lines_of_the_pipeline_are_those_of_dvc_yaml(tracked):
    lines = read_lines(tracked)
    assert [line.name for line in lines] == ["images", "counts", "text", "vlm"]
    experts = next(stage for stage in lines[0].stages if stage.name == "train_expert")
    assert len(experts.instances) == 12
    assert "train_expert@maxvit-fold_3" in experts.instances
    assert "models/experts/maxvit/fold_3" in experts.outs
    # Its variants stand in params.yaml.
    assert "train_text@own" in next(stage for stage in lines[2].stages if stage.name == "train_text").instances


def test_arrows_and_boxes_of_the_drawing(small):
    (line,) = read_lines(small)
    assert line.name == "counts"
    # fetch feeds judge as well, which follows from fetch -> train -> judge.
    assert line.arrows == ((0, 1), (1, 2))
    boxes = draw([line]).bands[0].boxes
    assert [box.stage.name for box in boxes] == ["fetch", "train", "judge"]
    assert [box.x for box in boxes] == sorted({box.x for box in boxes})


def test_no_boxes_overlap_and_all_stand_inside_their_band(tracked):
    drawing = draw(read_lines(tracked))
    width, height = drawing.box
    for band in drawing.bands:
        for box in band.boxes:
            assert band.y < box.y
            assert box.y + height < band.y + band.height
            assert 0 < box.x < drawing.width - width
            others = [other for other in band.boxes if other is not box]
            assert not [o for o in others if abs(o.x - box.x) < width and abs(o.y - box.y) < height]
    assert all(first.y + first.height < second.y for first, second in pairwise(drawing.bands))


def test_timings_are_summed_over_variants(small):
    record = {"stage": "x", "wall_s": 30.0, "startup_s": 6.0, "cpu_s": 50.0, "peak_bytes": 3 * 2**30}
    page = page_of(small, timings=[("train@a", record), ("train@b", record | {"peak_bytes": 1}), ("gone", record)])
    text = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert "All together 60 s , of it 12 s (20.0 %) start. The most memory: 3.00 GiB , by train ." in text
    assert "×2 · 60 s · 100 %" in text


def test_what_is_missing_is_named_with_the_command_that_makes_it(small):
    text = re.sub("<[^>]*>", "", page_of(small))
    assert "metrics/counts.json is not there: dvc repro judge writes it." in text
    assert "Not there: plots/own (dvc repro judge writes it)." in text
    assert "params.yaml is not there." in text
    assert "There is no dvc.lock: dvc repro writes it." in text
    assert "no git revision" in text
    assert "No stage has been timed here" in text


def test_outside_a_project_it_says_where_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"no dvc\.yaml here: run from the root"):
        write_report(tmp_path / "report.html", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics/counts.json", b"{"), ("plots/own/thing.png", b"no"), ("timings/fetch.json", b"")]
    + [
        ("timings/fetch.json", content)
        for content in (b'{"wall_s": null}', b'{"cpu_s": "1"}', b"[]", b'{"wall_s": -1}')
    ],
)
def test_a_broken_file_is_named(small, name, content):
    (small / name).parent.mkdir(parents=True)
    (small / name).write_bytes(content)
    with pytest.raises(ValueError, match=Path(name).name.replace(".", r"\.")):
        page_of(small)


def test_hostile_text_is_escaped(small):
    pipeline = YAML(typ="safe").load(LINE)
    pipeline["stages"]["fetch"]["desc"] = HOSTILE
    pipeline["stages"][HOSTILE] = {"cmd": HOSTILE, "desc": HOSTILE, "metrics": ["metrics/counts.json"]}
    with (small / "dvc.yaml").open("w") as file:
        YAML(typ="safe").dump(pipeline, file)
    for name in ("metrics", "plots/own"):
        (small / name).mkdir(parents=True)
    metrics = {HOSTILE: HOSTILE, f"{HOSTILE}.n_groups": 3, f"{HOSTILE}.spearman": HOSTILE, f"a.{HOSTILE}": 1, "a.b": 2}
    (small / "metrics/counts.json").write_text(json.dumps(metrics))
    (small / "params.yaml").write_text(f"key: {HOSTILE} # {HOSTILE}\n")
    out = {"path": f"data/{HOSTILE}", "md5": HOSTILE, "size": 1}
    with (small / "dvc.lock").open("w") as file:
        YAML(typ="safe").dump({"stages": {HOSTILE: {"outs": [out]}}}, file)
    image = next((ROOT / "plots").rglob("*.png"))
    shutil.copy(image, small / 'plots/own/"onerror=alert(3) x="<b>.png')
    page = page_of(small)
    tags = Tags(page)
    assert tags.open == []
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert HOSTILE not in page
    assert HOSTILE in unescape(page)


def test_the_same_inputs_give_the_same_bytes_in_any_process(tracked):
    code = "import sys; from pathlib import Path; from assay.report.page import write_report\n"
    code += "write_report(Path(sys.argv[1]), root=Path(sys.argv[2]))"
    pages = []
    for seed in ("1", "2"):
        path = tracked / f"{seed}.html"
        command = [sys.executable, "-c", code, str(path), str(tracked)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def git(root, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git checkout of the project")
def test_a_fresh_clone_gives_the_page_of_its_commit(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    text = re.sub("<[^>]*>", "", page_of(clone))
    assert f"commit {git(clone, 'log', '-1', '--format=%h %cs').replace(' ', ' of ').strip()}" in text
    assert "No stage has been timed here" in text
    assert "is not there" not in text
    assert "Not there" not in text


def test_the_revision_counts_changed_files_and_is_none_before_a_commit(small):
    git(small, "init", "--quiet")
    assert revision(small) is None
    git(small, "add", ".")
    git(small, "commit", "--quiet", "-m", "first")
    assert revision(small)["changed"] == 0
    (small / "untracked").write_text("")
    (small / "dvc.yaml").write_text(LINE + "\n")
    assert revision(small)["changed"] == 1
    (small / "params.yaml").write_text("# Made by assay params --use params/full.yaml (and so on)\na: 1\n")
    assert page_content(small)["params_source"] == "params/full.yaml"
