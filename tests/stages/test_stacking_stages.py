"""From experts to the cascade, stage by stage, on images that small networks can learn."""

import hashlib
import json
import shutil
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from scipy.special import expit

from assay.images.cascade.model import load as load_cascade
from assay.images.model.experts import load_extractor
from assay.images.model.store import open_writer
from assay.images.stacking import EXPERTS
from assay.images.stacking.join import Join
from assay.images.stacking.meta_model import CANDIDATES
from assay.images.stacking.out_of_fold import feature_names
from assay.images.stacking.saved import load_alignments, load_meta
from assay.stages import (
    build_meta,
    calibrate,
    choose_stage1,
    distill_stage1,
    evaluate_alignment,
    evaluate_cascade,
    fetch_weights,
    init_expert,
    kfold_fold,
    score_cascade,
    score_stage1,
    train_expert,
    train_meta,
    train_stage1,
)

ROOT = Path(__file__).parents[2]
SIDE, DIM, FOLDS = 32, 8, 3
ROLES = {"train": 120, "val": 24, "calib": 80, "tune": 80, "test": 80}
SUBSETS = ("full", *(f"fold_{number}" for number in range(FOLDS)))
SMALL = {
    "architecture": "mobilenetv3_small_050",
    "weights": "random",
    "image_size": SIDE,
    "frozen_layers": 1,
    "batch_size": 8,
}
WRITTEN = ("data/meta", "data/cascade", "models/meta", "models/cascade", "metrics", "plots/alignment", "plots/cascade")


def write_params(**changes: dict[str, object]) -> None:
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["runtime"] |= {"threads": 1}
    params["prepare"] |= {"size": SIDE, "folds": FOLDS}
    params["train_stage1"] |= SMALL | {"epochs": 4}
    for expert in EXPERTS:
        params["train_expert"][expert] |= SMALL | {"epochs": 2, "embedding_dim": DIM}
    # Not the first expert's twin: mixed up experts must show.
    params["train_expert"]["maxvit"] |= {"architecture": "mobilenetv3_small_075", "input": "srm"}
    params["train_meta"]["search"]["num_candidates"] = 2
    params["train_meta"]["search"]["ranges"]["n_estimators"] = [5, 10]
    params["evaluate"]["external"] = []
    params["score_cascade"] = {"sizes": [24, SIDE]}
    params["evaluate_cascade"] |= {"deferred_shares": [0.2, 0.5]}
    for place, values in changes.items():
        reduce(getitem, place.split("."), params).update(values)
    with Path("params.yaml").open("w") as stream:
        yaml.dump(params, stream)


def prepare() -> None:
    """Manifests, folds and pixels of all five roles; the forged are brighter, some of a family of test alone."""
    splits = np.repeat(list(ROLES), list(ROLES.values()))
    numbers = np.arange(len(splits))
    labels = numbers % 2
    strange = (splits == "test") & (numbers % 4 == 3)
    frame = pd.DataFrame({"image_path": [f"data/x/{n}.png" for n in numbers], "label": labels, "dataset": "d"})
    frame = frame.assign(
        split=splits, sample_id=[f"{n:04d}" for n in numbers], group_id=[f"g{n // 4}" for n in numbers]
    )
    frame = frame.assign(generator=np.where(labels == 0, "real", np.where(strange, "strange", "paste")))
    frame = frame.assign(width=SIDE, height=SIDE, format="PNG", file_bytes=1000, jpeg_quality=-1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 130, (len(frame), SIDE, SIDE, 3)) + rng.integers(0, 40, (len(frame), 1, 1, 1))
    with open_writer(Path("data/processed"), side=SIDE, sample_ids=list(frame["sample_id"])) as writer:
        writer.append((pixels + 80 * labels[:, None, None, None]).astype(np.uint8))
    for role, part in frame.groupby("split"):
        part.to_csv(f"data/processed/{role}_manifest.csv", index=False)
    train = frame[frame["split"] == "train"]
    folds = train[["sample_id", "group_id", "label"]].assign(fold=numbers[: len(train)] // 4 % FOLDS)
    folds.to_csv("data/processed/folds.csv", index=False)


def last_stages() -> None:
    for stage in (build_meta, evaluate_alignment, train_meta, score_cascade, evaluate_cascade):
        stage.main()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacking")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params()
        prepare()
        fetch_weights.main()
        train_stage1.main([])
        for expert in EXPERTS:
            init_expert.main(["--expert", expert])
            for subset in SUBSETS:
                train_expert.main(["--expert", expert, "--subset", subset])
        for fold in range(FOLDS):
            kfold_fold.main(["--fold", str(fold)])
        for stage in (distill_stage1, choose_stage1, score_stage1, calibrate):
            stage.main()
        last_stages()
    return folder


def digests(project: Path) -> dict[str, str]:
    files = [path for part in WRITTEN for path in sorted((project / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_expected_files_are_there(project: Path) -> None:
    for expert in EXPERTS:
        assert (project / "models/experts" / expert / "init.safetensors").is_file()
        for subset in SUBSETS:
            files = {path.name for path in (project / "models/experts" / expert / subset).iterdir()}
            assert files == {"model.safetensors", "model.json", "history.csv"}
    files = set(digests(project)) - {"models/meta/trees.safetensors"}
    assert files == {
        *(f"data/meta/{name}" for name in ("X_meta.npy", "y_meta.npy", "sample_ids.parquet", "feature_names.json")),
        *(f"data/meta/{name}" for name in ("alignment.safetensors", "X_calib.npy", "calib_ids.parquet")),
        *(f"models/meta/{name}" for name in ("meta.json", "alignment.safetensors")),
        "models/cascade/cascade.json",
        *(f"data/cascade/scores_{role}.parquet" for role in ("calib", "tune", "test")),
        "data/cascade/costs.json",
        "data/cascade/test_predictions.parquet",
        "plots/alignment/alignment.csv",
        "plots/cascade/frontier.csv",
        "plots/cascade/frontier.png",
        *(f"metrics/{name}.json" for name in ("alignment", "meta", "cascade", "filters")),
    }


def test_each_subset_trains_without_its_fold(project: Path) -> None:
    folds = pd.read_csv(project / "data/processed/folds.csv")
    counts = {f"fold_{k}": int((folds["fold"] != k).sum()) for k in range(FOLDS)} | {"full": ROLES["train"]}
    for expert in EXPERTS:
        for subset in SUBSETS:
            info = json.loads((project / "models/experts" / expert / subset / "model.json").read_text())
            assert (info["subset"], info["num_rows"], info["embedding_dim"]) == (subset, counts[subset], DIM)
            assert info["data_config"]["input"] == {"efficientnetv2_b3": "rgb", "maxvit": "srm"}[expert]


def test_a_folds_table_is_what_its_networks_say_of_held_out_rows_and_anchors(project: Path) -> None:
    folds = pd.read_csv(project / "data/processed/folds.csv", dtype=str)
    store = np.load(project / "data/processed/pixels/pixels.npy")
    for fold in range(FOLDS):
        table = pd.read_parquet(project / f"data/kfold/fold_{fold}.parquet")
        held_out = table[table["part"] == "held_out"]
        assert held_out["sample_id"].tolist() == folds.loc[folds["fold"] == str(fold), "sample_id"].tolist()
        assert (table["part"] == "anchor").sum() == ROLES["calib"]
        assert set(table["base_fold"]) == {fold}
        assert table.shape[1] == 5 + 2 * (DIM + 1)
    batch = torch.from_numpy(store[table["sample_id"].astype(int)[:64]]).permute(0, 3, 1, 2)
    extractor = load_extractor(project / "models/experts/maxvit" / f"fold_{FOLDS - 1}", device="cpu")
    embedding, logit = extractor(batch)
    names = [name for name in feature_names(EXPERTS, DIM) if name.startswith("maxvit_e")]
    np.testing.assert_allclose(table[names].to_numpy()[:64], embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table["maxvit_logit"].to_numpy()[:64], logit, rtol=1e-4, atol=1e-5)


def test_x_meta_holds_every_training_row_once(project: Path) -> None:
    features, labels = np.load(project / "data/meta/X_meta.npy"), np.load(project / "data/meta/y_meta.npy")
    keys = pd.read_parquet(project / "data/meta/sample_ids.parquet")
    assert (features.dtype, features.shape) == (np.float32, (ROLES["train"], 2 * DIM + 2))
    assert keys["sample_id"].tolist() == [f"{n:04d}" for n in range(ROLES["train"])]
    assert labels.tolist() == [n % 2 for n in range(ROLES["train"])]
    assert keys["base_fold"].tolist() == [n // 4 % FOLDS for n in range(ROLES["train"])]
    names = json.loads((project / "data/meta/feature_names.json").read_text())
    assert names == feature_names(EXPERTS, DIM)
    maps = load_alignments(project / "data/meta/alignment.safetensors")
    assert set(maps) == {(expert, fold) for expert in EXPERTS for fold in range(FOLDS)}
    table = pd.read_parquet(project / "data/kfold/fold_1.parquet").query("part == 'held_out'")
    ours = features[keys["base_fold"] == 1][:, :DIM]
    columns = [name for name in names if name.startswith(f"{EXPERTS[0]}_e")]
    assert np.array_equal(ours, maps[EXPERTS[0], 1].apply(table[columns].to_numpy()))


def test_calib_is_seen_as_the_ensemble_sees_it_and_stage_1_is_joined_to_that(project: Path) -> None:
    """What the join is fitted on is what the shipped ensemble says of the same rows."""
    views = np.load(project / "data/meta/X_calib.npy")
    assert (views.dtype, views.shape) == (np.float32, (FOLDS + 1, ROLES["calib"], 2 * DIM + 2))
    model, info = load_meta(project / "models/meta")
    ids = pd.read_parquet(project / "data/meta/calib_ids.parquet")["sample_id"]
    scores = pd.read_parquet(project / "data/cascade/scores_calib.parquet").set_index("sample_id").loc[ids]
    np.testing.assert_allclose(views[-1, :, -2:], scores[list(EXPERTS)], rtol=1e-3, atol=1e-4)
    of_mode = views[-1:] if info["test_time_mode"] == "refit" else views[:-1]
    ensemble = np.mean([model.logits(view) for view in of_mode], axis=0)
    wanted = Join(**info["join"]).logits(scores["stage1"].to_numpy(), ensemble)
    np.testing.assert_allclose(scores["ensemble"], wanted, rtol=1e-3, atol=1e-4)
    assert info["join"]["first"] != 0


def test_the_metrics_have_the_keys_that_users_ask_for(project: Path) -> None:
    alignment, meta, cascade = (
        json.loads((project / f"metrics/{name}.json").read_text()) for name in ("alignment", "meta", "cascade")
    )
    for side in ("raw", "aligned"):
        gap = alignment[f"{side}.random_cv_auc"] - alignment[f"{side}.leave_base_fold_out_auc"]
        assert alignment[f"{side}.gap"] == pytest.approx(gap)
        assert {f"{side}.correlation", f"{side}.fold_predictability"} <= set(alignment)
    assert (alignment["n"], alignment["n_anchors"], alignment["n_anchor_groups"]) == (
        ROLES["train"],
        ROLES["calib"],
        20,
    )
    assert alignment["n_dimensions"] == alignment[f"{EXPERTS[1]}.fold_0.directions"] == DIM
    assert all(1 <= alignment[f"{expert}.effective_rank"] <= DIM for expert in EXPERTS)
    for name in ("single", "mean_logit", "logistic", "lightgbm_logits", "lightgbm", "inner_split"):
        assert {f"{name}.{key}" for key in ("n", "auc", "auc_low", "auc_high", "f1")} <= set(meta)
    assert all({f"{name}.fold_auc", f"{name}.best_gain_low"} <= set(meta) for name in CANDIDATES)
    assert max(meta[f"{name}.fold_auc"] for name in CANDIDATES) == pytest.approx(
        meta[f"{meta['shipped']}.fold_auc"] + meta[f"{meta['shipped']}.best_gain"]
    )
    assert {f"calib.{name}.auc" for name in ("stage1", "ensemble", "joined")} <= set(meta)
    assert {f"calib.joined.auc_gain_{name}_high" for name in ("stage1", "ensemble")} <= set(meta)
    assert meta["test_time_mode"] in ("refit", "fold_average")
    assert {f"calib.fold_average.auc_gain_refit{end}" for end in ("", "_low", "_high")} <= set(meta)
    systems = ("stage1", *EXPERTS, *(f"{expert}@24" for expert in EXPERTS), "ensemble", "cascade")
    for name in (*systems, "majority", "unseen.cascade", "family.paste.cascade", "family.strange.ensemble"):
        for metric in ("auc", "balanced_accuracy", "f1", "ece_width"):
            assert {f"{name}.{metric}", f"{name}.{metric}_low", f"{name}.{metric}_high"} <= set(cascade)
    assert cascade["cascade.n"] == 60
    costs = json.loads((project / "data/cascade/costs.json").read_text())
    assert costs["picture_bytes"] == 1000, "as prepare found the files"
    assert {f"{expert}{at}" for expert in EXPERTS for at in ("", "@24")} | {"stage1", "ensemble"} == set(costs["macs"])
    refit, share = cascade["refit"], cascade["share_deferred"]
    assert cascade["speedup"] == pytest.approx(costs["macs"][refit] / cascade["cost.cascade_macs"])
    for way in ("macs", "server_macs", "bytes"):
        assert {"n", "rejected", "cascade", "network", "balanced_accuracy_gain_line_low"} <= {
            key.removeprefix(f"choice.{way}.") for key in cascade if key.startswith(f"choice.{way}.")
        }
        assert {f"line.{way}.{part}.balanced_accuracy_gain_line" for part in (0.2, 0.3, 0.4, 0.5)} <= set(cascade)
    # The way that decides by default: what is deferred is what the server sees.
    second = cascade["choice.server_macs.cascade"].removeprefix("stage1 > ")
    assert cascade["cost.cascade_server_macs"] == pytest.approx(share * costs["macs"][second])
    for name in ("exit_real", "exit_forged"):
        keys = ("threshold", "leak", "leak_upper", "certified", "scenes_needed", "n_groups")
        assert {f"{name}.{key}" for key in keys} <= set(cascade)
    for metric in ("auc", "balanced_accuracy"):
        ours = cascade[f"cascade.{metric}"]
        rivals = {
            "stage1": "stage1",
            "refit": "refit_cascade",
            "random": "random_deferral",
            "learned": "learned_deferral",
        }
        for name, system in rivals.items():
            assert cascade[f"cascade.{metric}_gain_{name}"] == pytest.approx(ours - cascade[f"{system}.{metric}"])
    for owner in ("exit_real.test", "exit_real.unseen", "exit_real.family.paste", "exit_forged.test"):
        keys = ("leak", "leak_low", "leak_high", "leaked", "n", "n_groups", "tune_upper")
        assert {f"leaks.{owner}.{key}" for key in keys} <= set(cascade)
    assert sum(key.startswith("leaks.exit_real.scene.") and key.endswith(".leak") for key in cascade) > 1


def test_a_second_run_gives_the_same_bytes(here: Path) -> None:
    before = digests(here)
    last_stages()
    assert digests(here) == before


def test_what_ships_judges_like_its_predictions(project: Path) -> None:
    cascade = load_cascade(project / "models")
    table = pd.read_parquet(project / "data/cascade/test_predictions.parquet")
    assert len(table) == table["sample_id"].nunique() == ROLES["test"]
    found = cascade.predict(list(np.load(project / "data/processed/pixels/pixels.npy")[-ROLES["test"] :]))
    np.testing.assert_allclose(found["probability"], table["prob"], rtol=1e-3, atol=1e-5)
    assert found["decided_by"].tolist() == table["decided_by"].tolist()
    shipped = json.loads((project / "metrics/cascade.json").read_text())["shipped"]
    assert (len(cascade.levels) == 2) == (shipped == "cascade")
    mean = table.groupby("label")["prob"].mean()
    assert mean[1] > mean[0], "forged means a high probability"


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("ship", ["cascade", "maxvit@24"])
def test_what_ships_may_be_forced_and_predict_says_what_its_scores_say(ship: str) -> None:
    write_params(evaluate_cascade={"ship": ship})
    evaluate_cascade.main()
    cascade, metrics = load_cascade("models"), json.loads(Path("metrics/cascade.json").read_text())
    assert metrics["shipped"] == ship
    table = pd.read_parquet("data/cascade/test_predictions.parquet")
    scores = pd.read_parquet("data/cascade/scores_test.parquet")
    found = cascade.predict(list(np.load("data/processed/pixels/pixels.npy")[-ROLES["test"] :]))
    np.testing.assert_allclose(found["probability"], table["prob"], rtol=1e-3, atol=1e-5)
    if ship == "cascade":
        first, second = (level.name for level in cascade.levels)
        assert " > ".join((first, second)) == metrics["choice.server_macs.cascade"]
        assert set(found["decided_by"]) <= {first, second}
    else:
        (level,) = cascade.levels
        np.testing.assert_allclose(table["prob"], expit(scores[ship] / level.temperature), rtol=1e-6)
        assert (set(found["decided_by"]), set(found["warning"])) == ({ship}, {None})
        assert cascade.explanation[0] == f"every image is judged by {ship} alone"


def test_the_frontier_holds_every_network_and_cascade_at_every_share(project: Path) -> None:
    table = pd.read_csv(project / "plots/cascade/frontier.csv")
    networks = {"stage1", "ensemble", *EXPERTS, *(f"{expert}@24" for expert in EXPERTS)}
    assert set(table.loc[table["kind"] == "network", "system"]) == networks
    cascades = table[table["kind"].isin(["cascade", "chosen"])]
    costs = json.loads((project / "data/cascade/costs.json").read_text())["macs"]
    cheaper = sum(costs[name] < costs["stage1"] for name in costs)
    # Each pair of single networks, behind stage 1 the cheaper ones too, and each with the ensemble.
    num_cascades = 5 * 4 // 2 + cheaper + 5
    assert cascades["system"].nunique() == num_cascades
    assert (cascades.groupby("system")["share"].unique().map(list) == [[0.2, 0.5]] * num_cascades).all()
    assert (cascades["server_macs"] <= cascades["macs"]).all()


@pytest.fixture
def copied(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of the project, which the test may change."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("copied")
def test_a_forced_lightgbm_without_alignment_and_with_refit_is_what_is_shipped() -> None:
    write_params(
        build_meta={"alignment": "none"},
        train_meta={"ship": "lightgbm", "test_time_mode": "refit"},
        evaluate_cascade={"unsure_coverage": 0.5, "ship": "cascade"},
    )
    last_stages()
    model, info = load_meta(Path("models/meta"))
    assert (model.kind, info["alignment"], info["test_time_mode"]) == ("lightgbm", "none", "refit")
    assert info["stacking_rejected"] is False
    table = pd.read_parquet("data/kfold/fold_0.parquet").query("part == 'held_out'")
    keys = pd.read_parquet("data/meta/sample_ids.parquet")
    ours = np.load("data/meta/X_meta.npy")[keys["base_fold"] == 0]
    assert np.array_equal(ours, table[feature_names(EXPERTS, DIM)].to_numpy())
    cascade = load_cascade("models")
    metrics = json.loads(Path("metrics/cascade.json").read_text())
    assert list(cascade.unsure) == [metrics["unsure.low"], metrics["unsure.high"]]
    assert "wanted in 50% of new ones" in cascade.explanation[-1]


@pytest.mark.usefixtures("copied")
def test_all_subsets_start_from_the_same_network() -> None:
    write_params(**{"train_expert.maxvit": {"lr": 1e-12}})
    init_expert.main(["--expert", "maxvit"])
    init = load_file("models/experts/maxvit/init.safetensors")
    states = []
    for subset in ("full", "fold_1"):
        train_expert.main(["--expert", "maxvit", "--subset", subset])
        states.append(load_file(f"models/experts/maxvit/{subset}/model.safetensors"))
    for name, value in init.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            for state in states:
                torch.testing.assert_close(state[name], value, rtol=0, atol=1e-9)


def test_rows_of_a_subset_leave_the_fold_out() -> None:
    ids = [f"{n:02d}" for n in range(6)]
    manifest, folds = pd.DataFrame({"sample_id": ids}), pd.DataFrame({"sample_id": ids, "fold": [0, 1, 2] * 2})
    assert train_expert.rows_of_subset(manifest, folds, "full").equals(manifest)
    assert train_expert.rows_of_subset(manifest, folds, "fold_1")["sample_id"].tolist() == ["00", "02", "03", "05"]
    with pytest.raises(ValueError, match="subset 'fold_3' is not one of full, fold_0, fold_1, fold_2"):
        train_expert.rows_of_subset(manifest, folds, "fold_3")
    for spoiled in (folds.iloc[1:], folds.replace("00", "99"), folds.assign(sample_id=folds["sample_id"].astype(int))):
        with pytest.raises(ValueError, match=r"folds.csv and the train manifest differ in .* run dvc repro prepare"):
            train_expert.rows_of_subset(manifest, spoiled, "fold_1")


@pytest.mark.usefixtures("copied")
def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="expert 'resnet' is unknown"):
        init_expert.main(["--expert", "resnet"])
    with pytest.raises(ValueError, match=f"fold {FOLDS} holds no row"):
        kfold_fold.main(["--fold", str(FOLDS)])
    shutil.copy("data/kfold/fold_1.parquet", "data/kfold/fold_0.parquet")
    with pytest.raises(ValueError, match=r"40 sample\(s\) stand in more than one fold's table"):
        build_meta.main()
