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
UNLIKE_SETS = {
    "unlike.test": "false alarms: all of the seen families",
    "unlike.unseen": "forgeries of the unseen family: photographs still",
    "unlike.drawings": "charts, pages, shapes, gradients, noise",
}
Metrics = Mapping[str, Any]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _system_table(
    reports: Mapping[str, Mapping[str, Any]],
    systems: Mapping[str, str],
    metrics: Mapping[str, str],
    *,
    words: str = "what",
    costs: Mapping[str, str] | None = None,
) -> list[str]:
    """A row per system that is there: its key, what it is, n, and its metrics with intervals; then its cost, if given.

    ``metrics`` maps keys to headings; ``words`` heads the second column.
    """
    header = ["key", words, "n", *metrics.values()]
    rows = [
        [f"`{name}`", text, f"{reports[name]['n']:.0f}", *(interval_text(reports[name], key) for key in metrics)]
        for name, text in systems.items()
        if name in reports
    ]
    if costs is None:
        return table(header, rows)
    return table([*header, "million MACs"], [[*row, costs.get(row[0].strip("`"), "")] for row in rows])


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
    columns = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "tpr_at_fpr_5": "TPR at 5 % FPR", "nll": "NLL"}
    test = reports["test"]
    unlike = {name: UNLIKE_SETS.get(name, "this set alone") for name in reports if name.startswith("unlike.")}
    return [
        *_system_table(reports, systems, columns),
        "",
        f"{test['n_groups']:.0f} groups of the test role. ECE (positive class, equal width) "
        f"{test['ece_width_uncalibrated']:.3f} before and {test['ece_width']:.3f} after the temperature "
        f"({metrics['temperature']:.2f}, 95 % [{_number(metrics['temperature_low'], '.2f')}, "
        f"{_number(metrics['temperature_high'], '.2f')}] over the groups of calib); groups as unlike as these show "
        f"{test['ece_width_chance']:.3f} of a calibrated model by chance (p = {test['ece_width_p_value']:.2f}). Smooth ECE "
        f"{test['ece_smooth_uncalibrated']:.3f} before and {test['ece_smooth']:.3f} after.",
        "",
        "Unlike all that stage 1 learned from (the warning of `assay predict`): share that is warned of, and AUC of the "
        "distance against the real photographs of test.",
        "",
        *_system_table(reports, unlike, {"alarms": "warned of", "auc": "AUC of the distance"}),
    ]


def _cascade(metrics: Metrics, params: Mapping[str, Any], meta: Metrics, alignment: Metrics) -> list[str]:
    reports = sections(metrics)
    systems = {
        "stage1": f"`{params['train_stage1']['architecture']}`",
        **{name: f"`{expert['architecture']}`" for name, expert in params["train_expert"].items()},
        "mean_logit": "both experts, mean logit",
        "ensemble": f"what the bake-off ships: {meta['shipped']}",
        "cascade": "stage 1, and the ensemble where it is unsure",
        **dict.fromkeys(("deferred.stage1", "deferred.ensemble"), "on what stage 1 defers"),
        **dict.fromkeys(("unseen.stage1", "unseen.ensemble", "unseen.cascade"), "on the unseen family"),
        "majority": "baseline: constant",
    }
    columns = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "f1": "F1", "nll": "NLL"}
    costs = {name: f"{metrics[f'cost.{name}_macs'] / 1e6:.1f}" for name in systems if f"cost.{name}_macs" in metrics}
    return [
        *_system_table(reports, systems, columns, words="architecture, or what", costs=costs),
        "",
        f"{metrics['share_deferred']:.1%} of the images go on to the ensemble, which costs {metrics['speedup']:.2f} times "
        f"the cascade. Balanced accuracy of the ensemble minus that of the cascade: "
        f"{_number(metrics['balanced_accuracy_loss'], '+.3f')}. Correlation of coordinates between folds "
        f"{_number(alignment['raw.correlation'], '.2f')} before and "
        f"{_number(alignment['aligned.correlation'], '.2f')} after alignment.",
    ]


def _counts(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    from assay.counts.evaluation import choose, conclusion

    reports = sections(metrics)
    models = {"llm_lora": params["fetch_counts"]["causal_lm"]}
    systems = {
        **{name: f"`{models.get(name, params['fetch_counts']['encoder'])}`" for name in params["train_counts"]},
        "setting_mean": "baseline: mean count of a row's setting",
        "tfidf_ridge": "baseline: words, ridge",
        "tfidf_logreg": "baseline: words, logistic regression",
        "majority": "baseline: largest bin",
        "median": "baseline: median of train",
    }
    columns = {"mae": "MAE", "spearman": "Spearman", "accuracy": "accuracy", "macro_f1": "macro-F1"}
    columns |= {"within_one": "within one bin"}
    columns |= {"width_accuracy": "accuracy, equal width", "width_macro_f1": "macro-F1, equal width"}
    said = conclusion(choose(_on_val(reports)), reports)
    rows = _system_table(reports, systems, columns, words="starts from")
    return [*rows, "", *(f"- {line.strip()}" for line in said)]


def _on_val(reports: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name.removeprefix("val."): report for name, report in reports.items() if name.startswith("val.")}


def _text(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    from assay.text.evaluation import conclusion

    reports = sections(metrics)
    encoder = params["fetch_text"]["encoder"]
    layers = params["pretrain_text"]["encoder"]["num_layers"]
    network = f"own encoder, {layers} layer(s)" if encoder == "config" else f"`{encoder}`"
    systems = {
        "test": "the classifier that ships: network and linear member, pooled",
        "network": network,
        "linear": "its linear member",
        "no_pretraining": "the network from random weights",
        "uncalibrated": "what ships, before its temperature",
        "tfidf_bigram": "baseline: character bigrams",
        "majority": "baseline: class shares",
    }
    columns = {"accuracy": "accuracy", "f1": "F1", "auc": "AUC", "nll": "NLL", "ece": "ECE"}
    return [*_system_table(reports, systems, columns), "", *(f"- {line}" for line in conclusion(reports))]


def _vlm(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    from assay.vlm.evaluation import conclusion

    reports = sections(metrics)
    base = params["pretrain_vlm"]["base"]
    model = "a small Qwen2.5-VL, pretrained here" if base == "config" else f"`{base}`"
    systems = {
        "base": f"{model}, LoRA",
        "fused": "the same, corrected on high risk by a second model",
        "uncalibrated": "`base` before its temperature",
        "no_augmentation": "without augmented copies",
        "no_filter": "with all copies, none filtered out",
        **{name: "`base` in another order of the data" for name in reports if name.startswith("order_")},
        "blank": "`base` on grey images",
        "majority": "baseline: class shares",
    }
    columns = {"accuracy": "accuracy", "f1": "macro-F1", "high_recall": "recall of high risk"}
    columns |= {"high_precision": "precision of high risk", "nll": "NLL", "ece": "ECE"}
    said = conclusion(reports, strength=metrics["fusion.strength"])
    return [*_system_table(reports, systems, columns), "", *(f"- {line}" for line in said)]


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
