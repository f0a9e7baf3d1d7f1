"""docs/results.md and the small table in README.md: written from metrics/ and params.yaml, never by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.io import read_json
from assay.core.params import read_yaml
from assay.report.tables import interval_text, sections

PAGE, README = Path("docs/results.md"), Path("README.md")
BEGIN, END = "<!-- results: written by assay results -->", "<!-- end of results -->"
NAMES = ("stage1", "cascade", "counts", "text", "vlm")
INTRODUCTION = """\
# Results

Written by `assay results` from `metrics/` and `params.yaml`; a test holds it against them. All on the test role.
Brackets: 95 % percentile interval of a bootstrap over groups. The embedded run is small: it shows that everything
works, not what the real models (`params/full.yaml`) can do. Keys: [metrics.md](metrics.md)."""
Metrics = Mapping[str, Any]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _system_rows(
    reports: Mapping[str, Mapping[str, Any]], systems: Mapping[str, str], names: Sequence[str]
) -> list[list[str]]:
    """A row per system that is there: its key, what it is, n, and its metrics with intervals."""
    return [
        [f"`{system}`", words, f"{reports[system]['n']:.0f}", *(interval_text(reports[system], name) for name in names)]
        for system, words in systems.items()
        if system in reports
    ]


def _stage1(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    reports, unseen = sections(metrics), params["forge"]["unseen"]
    architecture = params["train_stage1"]["architecture"]
    systems = {
        "test": f"`{architecture}`, seen families",
        "unseen": f"the same on `{unseen}`, never trained on",
        **{name: "the same on this family" for name in reports if name.startswith("family.")},
        "platt": "the same, scaled by Platt's method",
        "pixel_statistics": "baseline: pixel statistics",
        "metadata": "baseline: file metadata",
        "majority": "baseline: constant",
    }
    names = ("auc", "balanced_accuracy", "tpr_at_fpr_5", "nll")
    header = ["key", "what", "n", "AUC", "balanced accuracy", "TPR at 5 % FPR", "NLL"]
    test = reports["test"]
    return [
        *table(header, _system_rows(reports, systems, names)),
        "",
        f"{test['n_groups']:.0f} groups of the test role. ECE (positive class, equal width) "
        f"{test['ece_width_uncalibrated']:.3f} before and {test['ece_width']:.3f} after the temperature "
        f"({metrics['temperature']:.2f}); a perfectly calibrated model with these probabilities and independent images "
        f"would show {test['ece_width_floor']:.3f} on average, {test['ece_width_floor_p95']:.3f} at the 95th percentile.",
    ]


def _cascade(metrics: Metrics, params: Mapping[str, Any], meta: Metrics, alignment: Metrics) -> list[str]:
    reports = sections(metrics)
    systems = {"stage1": f"`{params['train_stage1']['architecture']}`"}
    systems |= {name: f"`{expert['architecture']}`" for name, expert in params["train_expert"].items()}
    systems |= {"mean_logit": "both experts, mean logit", "ensemble": f"what the bake-off ships: {meta['shipped']}"}
    systems |= {"cascade": "stage 1, and the ensemble where it is unsure"}
    systems |= dict.fromkeys(("deferred.stage1", "deferred.ensemble"), "on what stage 1 defers")
    systems |= {f"unseen.{name}": "on the unseen family" for name in ("stage1", "ensemble", "cascade")}
    systems |= {"majority": "baseline: constant"}
    rows = _system_rows(reports, systems, ("auc", "balanced_accuracy", "f1", "nll"))
    for row in rows:
        cost = metrics.get(f"cost.{row[0].strip('`')}_macs")
        row.append("" if cost is None else f"{cost / 1e6:.1f}")
    header = ["key", "architecture, or what", "n", "AUC", "balanced accuracy", "F1", "NLL", "million MACs"]
    return [
        *table(header, rows),
        "",
        f"{metrics['share_deferred']:.1%} of the images go on to the ensemble, which costs {metrics['speedup']:.2f} times "
        f"the cascade. Balanced accuracy of the ensemble minus that of the cascade: "
        f"{metrics['balanced_accuracy_loss']:+.3f}. Correlation of coordinates between folds "
        f"{alignment['raw.correlation']:.2f} before and "
        f"{alignment['aligned.correlation']:.2f} after alignment.",
    ]


def _counts(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    from assay.counts.evaluation import choose, conclusion

    reports = sections(metrics)
    models = {"llm_lora": params["fetch_counts"]["causal_lm"]}
    systems = {name: f"`{models.get(name, params['fetch_counts']['encoder'])}`" for name in params["train_counts"]}
    systems |= {"setting_mean": "baseline: mean count of a row's setting", "tfidf_ridge": "baseline: words, ridge"}
    systems |= {"tfidf_logreg": "baseline: words, logistic regression", "majority": "baseline: largest bin"}
    systems |= {"median": "baseline: median of train"}
    names = ("mae", "spearman", "accuracy", "macro_f1", "within_one", "width_accuracy", "width_macro_f1")
    header = ["key", "starts from", "n", "MAE", "Spearman", "accuracy", "macro-F1", "within one bin"]
    header += ["accuracy, equal width", "macro-F1, equal width"]
    said = conclusion(choose(_on_val(reports)), reports)
    return [*table(header, _system_rows(reports, systems, names)), "", *(f"- {line.strip()}" for line in said)]


def _on_val(reports: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name.removeprefix("val."): report for name, report in reports.items() if name.startswith("val.")}


def _text(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    from assay.text.evaluation import conclusion

    reports = sections(metrics)
    encoder = params["fetch_text"]["encoder"]
    layers = params["pretrain_text"]["encoder"]["num_layers"]
    network = f"own encoder, {layers} layer(s)" if encoder == "config" else f"`{encoder}`"
    systems = {"test": "the classifier that ships: network and linear member, pooled", "network": network}
    systems |= {"linear": "its linear member", "no_pretraining": "the network from random weights"}
    systems |= {"uncalibrated": "what ships, before its temperature"}
    systems |= {"tfidf_bigram": "baseline: character bigrams", "majority": "baseline: class shares"}
    header = ["key", "what", "n", "accuracy", "F1", "AUC", "NLL", "ECE"]
    rows = _system_rows(reports, systems, ("accuracy", "f1", "auc", "nll", "ece"))
    return [*table(header, rows), "", *(f"- {line}" for line in conclusion(reports))]


def _vlm(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    from assay.vlm.evaluation import conclusion

    reports = sections(metrics)
    base = params["pretrain_vlm"]["base"]
    model = "a small Qwen2.5-VL, pretrained here" if base == "config" else f"`{base}`"
    systems = {"base": f"{model}, LoRA", "fused": "the same, corrected on high risk by a second model"}
    systems |= {"uncalibrated": "`base` before its temperature", "no_augmentation": "without augmented copies"}
    systems |= {"no_filter": "with all copies, none filtered out"}
    systems |= {name: "`base` in another order of the data" for name in reports if name.startswith("order_")}
    systems |= {"blank": "`base` on grey images", "majority": "baseline: class shares"}
    header = ["key", "what", "n", "accuracy", "macro-F1", "recall of high risk", "precision of high risk", "NLL", "ECE"]
    names = ("accuracy", "f1", "high_recall", "high_precision", "nll", "ece")
    said = conclusion(reports, strength=metrics["fusion.strength"])
    return [*table(header, _system_rows(reports, systems, names)), "", *(f"- {line}" for line in said)]


def results_page(root: Path = Path()) -> str:
    """The whole of docs/results.md. ValueError if a file of metrics is missing."""
    stage1, cascade, counts, text, vlm = (_metrics(root, name) for name in NAMES)
    params = read_yaml(root / "params.yaml")
    ensemble = _cascade(cascade, params, _metrics(root, "meta"), _metrics(root, "alignment"))
    parts = [
        ("Stage 1 alone", "stage1", _stage1(stage1, params), "stage1/roc.png"),
        ("Filter, experts, ensemble and cascade", "cascade", ensemble, "cascade/frontier.png"),
        ("Counts", "counts", _counts(counts, params), "counts/predicted.png"),
        ("Text", "text", _text(text, params), "text/reliability.png"),
        ("Corridors", "vlm", _vlm(vlm, params), "vlm/systems.png"),
    ]
    lines = [INTRODUCTION]
    for title, name, body, plot in parts:
        lines += ["", f"## {title}", "", f"`metrics/{name}.json`:", "", *body, "", f"![{title}](../plots/{plot})"]
    return "\n".join(lines) + "\n"


def readme_table(root: Path = Path()) -> str:
    """The small table of README.md: per line what is used, what it is held against, and n."""
    from assay.counts.evaluation import choose

    stage1, images, counts, text, vlm = (sections(_metrics(root, name)) for name in NAMES)
    variant = choose(_on_val(counts))["count"]
    rows = [
        ("images, stage 1", "AUC", stage1["test"], "auc", "pixel statistics", stage1["pixel_statistics"]),
        ("images, cascade", "AUC", images["cascade"], "auc", "stage 1 alone", images["stage1"]),
        (f"counts, {variant}", "Spearman", counts[variant], "spearman", "mean of the setting", counts["setting_mean"]),
        ("text", "accuracy", text["test"], "accuracy", "character bigrams", text["tfidf_bigram"]),
        ("vlm, fused", "accuracy", vlm["fused"], "accuracy", "first model alone", vlm["base"]),
    ]
    body = [
        [line, metric, f"{ours['n']:.0f}", interval_text(ours, key), f"{peer}: {interval_text(theirs, key)}"]
        for line, metric, ours, key, peer, theirs in rows
    ]
    return "\n".join(table(["line", "metric", "n (test)", "Assay", "held against"], body))


def _metrics(root: Path, name: str) -> dict[str, Any]:
    path = root / "metrics" / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"no {path}: dvc repro makes it")
    found: dict[str, Any] = read_json(path)
    return found


def readme_with_table(root: Path = Path()) -> str:
    """README.md with its table written anew. ValueError if it lacks the two marks around the table."""
    text = (root / README).read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{README} lacks the lines {BEGIN} and {END}")
    return pattern.sub(lambda found: f"{found[1]}\n{readme_table(root)}\n\n{found[2]}", text)


def write_results(root: Path = Path()) -> list[Path]:
    """Write docs/results.md and README.md; returns their paths."""
    pages = {root / PAGE: results_page(root), root / README: readme_with_table(root)}
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return list(pages)
