"""Both filters, calibrate and evaluate, one after the other, on images that a small network can learn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from assay.core.params import ParamsError, load
from assay.core.tensors import save_tensors
from assay.images import evaluation_plots
from assay.images.audit import AUDITED
from assay.images.drawings import KINDS, PER_KIND
from assay.images.forge.families import manifest_frame
from assay.images.model import FILTERS
from assay.images.model.embedding import embed_arrays
from assay.images.model.prediction import load_predictor
from assay.images.model.store import PixelStore, open_store, open_writer
from assay.images.scoring import external_set
from assay.images.seen import SeenPictures
from assay.images.sources import GENERATED
from assay.images.stacking import EXPERTS
from assay.images.stacking.out_of_fold import HELD_OUT, logit_column
from assay.images.unlike import load_seen
from assay.params.images import External, Images
from assay.report.results import claims
from assay.stages import calibrate, choose_stage1, distill_stage1, evaluate, score_stage1, train_stage1

ROOT = Path(__file__).parents[2]
SIDE = 32
ROLES = {"train": 96, "val": 24, "calib": 40, "tune": 40, "test": 48}
SMALL = {
    "architecture": "mobilenetv3_small_050",
    "weights": "random",
    "image_size": SIDE,
    "frozen_layers": 1,
    "epochs": 3,
}


def write_params(**changes: object) -> None:
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["train_stage1"] |= SMALL | {"batch_size": 8}
    params["prepare"] |= {"size": SIDE}
    params["score_cascade"] = {"sizes": [SIDE]}
    params["evaluate"]["robustness"] = {"max_samples": 20, "jpeg_quality": [100], "resize": [1.0], "blur_sigma": [0.0]}
    for section, values in changes.items():
        params[section] |= values
    with Path("params.yaml").open("w") as stream:
        yaml.dump(params, stream)


def images(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """uint8 [n, S, S, 3]; the forged are brighter."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 180, (len(labels), SIDE, SIDE, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)


def put_teacher(train: pd.DataFrame) -> None:
    """What the experts of one fold alone say of its rows: they know most."""
    folds = train[["sample_id", "label", "group_id"]].assign(fold=0)
    folds.to_csv("data/processed/folds.csv", index=False)
    said = folds.rename(columns={"fold": "base_fold"}).assign(part=HELD_OUT)
    rng = np.random.default_rng(3)
    for expert in EXPERTS:
        said[logit_column(expert)] = (4 * said["label"] - 2 + rng.normal(size=len(said))).astype(np.float32)
    Path("data/kfold").mkdir()
    said.to_parquet("data/kfold/fold_0.parquet")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared images, trained, calibrated and evaluated with an external folder that holds a bad file."""
    folder = tmp_path_factory.mktemp("project")
    splits = np.repeat(list(ROLES), list(ROLES.values()))
    numbers = np.arange(len(splits))
    labels = numbers % 2
    frame = pd.DataFrame({"image_path": [f"data/x/{n}.png" for n in numbers], "label": labels, "dataset": "d"})
    forged = np.where((splits == "test") & (numbers % 4 == 3), "strange", "paste")
    frame = frame.assign(split=splits, sample_id=[f"s{n}" for n in numbers], group_id=[f"g{n // 4}" for n in numbers])
    frame = frame.assign(generator=np.where(labels == 1, forged, "real"), width=SIDE, height=SIDE, format="PNG")
    frame = frame.assign(file_bytes=1000, jpeg_quality=-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_writer(Path("data/processed"), side=SIDE, sample_ids=list(frame["sample_id"])) as writer:
            writer.append(images(labels, seed=0))
        for role, part in frame.groupby("split"):
            part.to_csv(f"data/processed/{role}_manifest.csv", index=False)
        (folder / GENERATED).parent.mkdir(parents=True)
        for label, name in enumerate(("real", "forged")):
            (folder / "outside" / name).mkdir(parents=True)
            for number, pixels in enumerate(images(np.full(6, label), seed=1 + label)):
                Image.fromarray(pixels).save(folder / "outside" / name / f"{number}.png")
        (folder / "outside" / "real" / "bad.png").write_bytes(b"not an image")
        manifest_frame([]).to_csv(folder / GENERATED, index=False)
        external = [{"name": "outside", "path": "outside"}, {"name": "generated", "path": GENERATED.as_posix()}]
        write_params(evaluate={"external": external})
        save_tensors(Path("data/weights/stage1.safetensors"), {})  # random weights
        put_teacher(frame[frame["split"] == "train"])
        train_stage1.main([])
        distill_stage1.main()
        choose_stage1.main()
        score_stage1.main()
        calibrate.main()
        evaluate.main()
    return folder


def test_the_expected_files_are_there(project: Path) -> None:
    for name in ("model.safetensors", "model.json", "history.csv", "calibration_temp.json"):
        assert (project / "models/stage1" / name).is_file(), name
    plots = {path.name for path in (project / "plots/stage1").iterdir()}
    stems = ("roc", "reliability", "confusion", "training", "robustness")
    assert {f"{stem}.{end}" for stem in stems for end in ("csv", "png")} <= plots
    assert {"exits.csv", "examples.png", "mistakes.png"} <= plots
    stages = ("train_stage1", "distill_stage1", "choose_stage1", "score_stage1", "calibrate", "evaluate")
    assert {path.stem for path in (project / "timings").iterdir()} == set(stages)


def test_metrics_are_flat_with_intervals_baselines_and_external(project: Path) -> None:
    metrics = json.loads((project / "metrics/stage1.json").read_text())
    assert metrics["test.auc_low"] <= metrics["test.auc"] <= metrics["test.auc_high"]
    assert (metrics["test.n"], metrics["unseen.n"], metrics["external.outside.n"]) == (36, 36, 12)
    assert (metrics["family.paste.n"], metrics["family.strange.n"]) == (36, 36)
    assert metrics["majority.auc"] == metrics["metadata.auc"] == 0.5
    for name in ("pixel_statistics", "metadata"):
        assert metrics[f"test.auc_gain_{name}"] == pytest.approx(metrics["test.auc"] - metrics[f"{name}.auc"])
    first, second, third = claims("stage1", metrics)
    assert first.startswith("Stage 1 against pixel statistics, AUC: ")
    assert second.startswith("Stage 1 against metadata, AUC: ")
    assert third.startswith("The distilled filter against the plain one, AUC: ")
    assert 0 < metrics["temperature_low"] <= metrics["temperature"] <= metrics["temperature_high"]
    assert 0 < metrics["test.ece_width_p_value"] <= 1
    assert metrics["test.nll"] <= max(metrics["test.nll_at_lowest_t"], metrics["test.nll_at_highest_t"])
    sets = {name for name in metrics if name.startswith("unlike.") and name.endswith(".auc")}
    named = {"family.paste", "family.strange", "unseen", "external.outside"}
    assert sets == {f"unlike.{name}.auc" for name in {"drawings", *named, *(f"drawings.{kind}" for kind in KINDS)}}
    assert 0 <= metrics["unlike.test.alarms"] <= 1
    assert metrics["unlike.drawings.n"] == len(KINDS) * PER_KIND
    assert 0 <= metrics["external.outside.audit_content_auc"] <= 1
    assert not [name for name in metrics if "external.generated" in name], "no generated picture was fetched"
    rejected = pd.read_csv(project / "data/stage1/test_extra/external_rejected.csv")
    assert rejected["reason"].tolist() == ["not_an_image"]


def test_both_filters_are_measured_on_test_and_one_of_them_is_stage_1(project: Path) -> None:
    shipped = json.loads((project / "metrics/filters.json").read_text())["shipped"]
    record = json.loads((project / "models/stage1/model.json").read_text())
    assert record["filter"] == shipped
    metrics = json.loads((project / "metrics/stage1.json").read_text())
    assert metrics[f"{shipped}.auc"] == metrics["test.auc"]
    assert metrics["distilled.auc_gain_plain"] == pytest.approx(metrics["distilled.auc"] - metrics["plain.auc"])
    assert metrics["distilled.auc_gain_plain_low"] <= metrics["distilled.auc_gain_plain"]
    table = pd.read_parquet(project / "data/stage1/test_extra/filters.parquet")
    pixels = np.load(project / "data/processed/pixels/pixels.npy")[-ROLES["test"] :]
    for name in FILTERS:
        logits = load_predictor(project / "models/filters" / name, device="cpu").array_logits(pixels)
        np.testing.assert_allclose(table[name], logits, rtol=1e-4, atol=1e-5)
    assert not np.allclose(table["plain"], table["distilled"])
    taught = json.loads((project / "models/filters/distilled/model.json").read_text())
    assert (taught["temperature"], taught["weight"]) == (2.0, 0.7)


def test_forged_means_a_high_probability(project: Path) -> None:
    table = pd.read_parquet(project / "data/stage1/test_predictions.parquet")
    mean = table.groupby("label")["prob"].mean()
    assert mean[1] > mean[0]
    assert len(table) == table["sample_id"].nunique() == ROLES["test"]


def test_an_undegraded_cell_and_array_logits_equal_plain_scoring(project: Path) -> None:
    predictor = load_predictor(project / "models/stage1", device="cpu")
    scores = pd.read_parquet(project / "data/stage1/scores_test.parquet")
    pixels = np.load(project / "data/processed/pixels/pixels.npy")[-ROLES["test"] :]
    np.testing.assert_allclose(predictor.array_logits(pixels), scores["logit"], rtol=1e-4, atol=1e-5)
    assert scores["label"].tolist() == [number % 2 for number in range(ROLES["test"])]
    logits, embeddings = embed_arrays(predictor, pixels)
    assert np.array_equal(logits, predictor.array_logits(pixels))
    distances = load_seen(project / "models/stage1").distances(embeddings)
    np.testing.assert_allclose(distances, scores["distance"], rtol=1e-3)


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value")
def test_a_test_role_without_a_seen_forgery_is_evaluated(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(here, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    train = pd.read_csv("data/processed/train_manifest.csv").replace({"generator": {"paste": "another"}})
    train.to_csv("data/processed/train_manifest.csv", index=False)
    scores = pd.read_parquet("data/stage1/scores_test.parquet")
    real = set(scores.loc[scores["label"] == 0, "sample_id"])
    for name in ("baselines", "robustness"):
        path = f"data/stage1/test_extra/{name}.parquet"
        table = pd.read_parquet(path)
        table[table["sample_id"].isin(real)].to_parquet(path)
    evaluate.main()
    metrics = json.loads(Path("metrics/stage1.json").read_text())
    assert metrics["test.auc"] is None
    assert metrics["unseen.auc"] > 0.5
    assert set(pd.read_csv("plots/stage1/roc.csv")["slice"]) == {"unseen families"}


@pytest.mark.usefixtures("here")
def test_an_external_set_leaves_out_what_the_prepared_data_hold_whatever_it_is_called(tmp_path: Path) -> None:
    settings, store = load(Images).prepare, open_store(Path("data/processed"))
    prepared = SeenPictures.of([pd.read_csv("data/processed/train_manifest.csv")], store, settings=settings)
    shutil.copytree("outside", tmp_path / "x")
    copy = Image.fromarray(store.pixels[4])
    copy.save(tmp_path / "x/real/renamed.png")
    # These pictures are noise: subsampling would take the colour of every pixel, which no photograph has.
    copy.save(tmp_path / "x/real/recompressed.jpg", quality=90, subsampling=0)
    predictor, item = load_predictor(Path("models/stage1"), device="cpu"), External(name="x", path=str(tmp_path / "x"))
    options = {"settings": settings, "workers": 1, "prepared": prepared, "seen": load_seen(Path("models/stage1"))}
    options |= {"limits": load(Images).limits, "seed": 0}
    scores, rejected, audit = external_set(predictor, item, **options)
    assert len(scores) == 12
    assert list(audit) == list(AUDITED)
    reasons = {Path(file).name: reason for file, reason in zip(rejected["file"], rejected["reason"], strict=True)}
    assert reasons == {"bad.png": "not_an_image", "renamed.png": "seen", "recompressed.jpg": "seen"}
    assert rejected["detail"].str.contains("data/x/4.png").sum() == 2


def test_calibration_takes_val_and_rejects_test(here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def role_and_count() -> tuple[str, int]:
        record = json.loads(Path("models/stage1/calibration_temp.json").read_text())
        return record["role"], record["n"]

    assert role_and_count()[0] == "calib"
    shutil.copytree(here, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    write_params(calibrate={"role": "val"})
    calibrate.main()
    assert role_and_count() == ("val", ROLES["val"])
    write_params(calibrate={"role": "test"})
    with pytest.raises(ParamsError, match=r"calibrate\.role: got 'test'"):
        calibrate.main()


def test_examples_are_rows_of_real_images_and_of_each_forged_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame(
        {"sample_id": list("abcd"), "label": [0, 0, 1, 1], "generator": ["Real", "camera", "gan", "real"]}
    )
    store = PixelStore(np.arange(4), pd.Series(range(4), index=list("abcd")), "")
    drawn: dict[str, list] = {}
    monkeypatch.setattr(
        evaluation_plots,
        "save_contact_sheet",
        lambda _, rows, *, row_titles, title: drawn.update(zip(row_titles, rows, strict=True)),
    )
    evaluation_plots.save_examples(Path(), table, np.array([0.1, 0.3, 0.8, 0.9]), store=store)
    assert drawn == {"real\nmean p 0.20": [0, 1], "gan\nmean p 0.80": [2], "real\nmean p 0.90": [3]}
