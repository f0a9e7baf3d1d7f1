"""The text of docs/results.md, from metrics/ and params.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.io import read_json
from assay.core.params import read_yaml
from assay.report.tables import interval_text, sections, size_of, table

NAMES = ("stage1", "cascade", "counts", "text", "vlm")
INTRODUCTION = """\
# Results

Written by `assay results` from `metrics/` and `params.yaml`; a test holds it against them. All on the test role.
Brackets: 95 % interval of a jackknife over groups ([protocol.md](protocol.md)). The embedded run is small:
it shows that everything works, not what the real models (`params/full.yaml`) can do. Keys: [metrics.md](metrics.md)."""
UNLIKE_SETS = {
    "unlike.test": "false alarms: all of the seen families",
    "unlike.unseen": "forgeries of unseen families: photographs still",
    "unlike.drawings": "charts, pages, shapes, gradients, noise",
}
Metrics = Mapping[str, Any]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _system_table(
    reports: Mapping[str, Mapping[str, Any]],
    systems: Mapping[str, str],
    metrics: Mapping[str, str],
    *,
    words: str = "what",
    costs: Mapping[str, str] | None = None,
) -> list[str]:
    """A row per system that is there: its key, what it is, n, groups, its metrics with intervals, and its cost, if given.

    ``metrics`` maps keys to headings; ``words`` heads the second column.
    """
    header = ["key", words, "n", "groups", *metrics.values()]
    rows = [
        [f"`{name}`", text, *size_of(reports[name]), *(interval_text(reports[name], key) for key in metrics)]
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
        "unseen": f"the same on {', '.join(f'`{family}`' for family in unseen)}, never trained on",
        **{name: "the same on this family" for name in reports if name.startswith("family.")},
        **{name: "the same on a set that no other stage reads" for name in reports if name.startswith("external.")},
        "platt": "the same, scaled by Platt's method",
        "plain": "the filter that learned from the labels alone",
        "distilled": "the filter that the experts taught, too; one of both is stage 1",
        "pixel_statistics": "baseline: pixel statistics",
        "metadata": "baseline: file metadata",
        "majority": "baseline: constant",
    }
    columns = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "tpr_at_fpr_5": "TPR at 5 % FPR", "nll": "NLL"}
    test = reports["test"]
    audits = [
        f"- `{name}`, whose halves were not made in pairs: metadata alone tell them apart with AUC "
        f"{_number(report['audit_metadata_auc'], '.2f')}, four corner pixels with "
        f"{_number(report['audit_corners_auc'], '.2f')}, the mean colours of 16 fields with "
        f"{_number(report['audit_content_auc'], '.2f')}; an AUC of stage 1 means something as far as it lies above these."
        for name, report in reports.items()
        if "audit_metadata_auc" in report
    ]
    unlike = {name: UNLIKE_SETS.get(name, "this set alone") for name in reports if name.startswith("unlike.")}
    return [
        *_system_table(reports, systems, columns),
        *(["", *audits] if audits else []),
        "",
        f"ECE (positive class, equal width) "
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
        "",
        *bullets(claims("stage1", metrics)),
    ]


def _cascade(metrics: Metrics, params: Mapping[str, Any], meta: Metrics, alignment: Metrics) -> list[str]:
    reports, way = sections(metrics), params["evaluate_cascade"]["count"]
    systems = {
        "stage1": f"`{params['train_stage1']['architecture']}`",
        **{name: f"`{expert['architecture']}`" for name, expert in params["train_expert"].items()},
        "ensemble": f"what the bake-off of meta-models chose: {meta['shipped']}",
        **{name: "the same network at another size" for name in reports if "@" in name},
        "cascade": f"the best cascade of tune: {reports.get(f'choice.{way}', {}).get('cascade', '')}",
        "refit_cascade": f"the same with `{metrics['refit']}` in the second network's place",
        "random_deferral": "the cascade with as many rows deferred at random (expected)",
        "learned_deferral": "the cascade with as many rows deferred by a rule learned on tune",
        **dict.fromkeys(("deferred.first", "deferred.second"), "the cascade's networks, on what the first defers"),
        **dict.fromkeys(("unseen.stage1", "unseen.ensemble", "unseen.cascade"), "on unseen families"),
        "majority": "baseline: constant",
    }
    columns = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "f1": "F1", "nll": "NLL"}
    costs = {name: f"{metrics[f'cost.{name}_macs'] / 1e6:.1f}" for name in systems if f"cost.{name}_macs" in metrics}
    return [
        *_system_table(reports, systems, columns, words="architecture, or what", costs=costs),
        "",
        f"{metrics['share_deferred']:.1%} of the images go on to its second network. Correlation of coordinates between "
        f"folds {_number(alignment['raw.correlation'], '.2f')} before and "
        f"{_number(alignment['aligned.correlation'], '.2f')} after alignment.",
        "",
        *bullets(claims("cascade", metrics)),
        "",
        *leaks(metrics),
    ]


def leaks(metrics: Metrics) -> list[str]:
    """What leaks at both exits on test, beside what tune promised: a sentence each, as a list."""
    parts = {"test": "seen families", "unseen": "unseen families"}
    lines = []
    for name, words in (("exit_real", "forged that leave as real"), ("exit_forged", "real that leave as forged")):
        if f"leaks.{name}.test.leak" not in metrics:
            continue  # test holds no image that could leak here
        certified = metrics[f"{name}.certified"]
        line = f"- Of a scene's {words}, on average: {metrics[f'{name}.leak']:.1%} on tune, "
        line += f"{'certified' if certified else 'observed'} within {metrics[f'{name}.budget']:.0%} "
        line += f"(bound over {metrics[f'{name}.n_groups']} scenes {metrics[f'{name}.leak_upper']:.1%}"
        line += ")" if certified else f"; the budget takes {metrics[f'{name}.scenes_needed']} without a leak)"
        for part, family in parts.items():
            if f"leaks.{name}.{part}.leak" in metrics:
                value, low, high = (metrics[f"leaks.{name}.{part}.leak{end}"] for end in ("", "_low", "_high"))
                line += f"; on test {value:.1%}" + (f" [{low:.1%}, {high:.1%}]" if low is not None else "")
                line += f", {family}" if name == "exit_real" else ""
        lines.append(line + ".")
    return lines


def _counts(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    reports = sections(metrics)
    models = {"llm_lora": params["fetch_counts"]["causal_lm"]}
    systems = {
        **{name: f"`{models.get(name, params['fetch_counts']['encoder'])}`" for name in params["train_counts"]},
        "setting_mean": "baseline: mean count of a row's setting",
        "tfidf_ridge": "baseline: setting and words, ridge",
        "tfidf_logreg": "baseline: setting and words, logistic regression",
        "encoder_ridge": "baseline: setting, and the frozen encoder's embedding of the question, ridge",
        "majority": "baseline: largest bin",
        "median": "baseline: median of train",
    }
    columns = {"mae": "MAE", "spearman": "Spearman", "accuracy": "accuracy", "macro_f1": "macro-F1"}
    columns |= {"within_one": "within one bin"}
    columns |= {"width_accuracy": "accuracy, equal width", "width_macro_f1": "macro-F1, equal width"}
    rows = _system_table(reports, systems, columns, words="starts from")
    loads = [end.removeprefix("load_") for end in reports["queue"]]
    worth = {f"wait_{load}": f"mean wait, load {load} %" for load in loads}
    worth |= {f"oracle_share_{load}": f"share of what the oracle saves, load {load} %" for load in loads}
    worth |= {f"aged_wait_{loads[-1]}": f"mean wait with ageing, load {loads[-1]} %"}
    worth |= {f"aged_p99_{load}": f"99th percentile with ageing, load {load} %" for load in loads}
    worth |= {"coverage": "counts within their interval", "interval_width": "width of the intervals"}
    served = systems | {"first_come": "first come, first served", "oracle": "the true counts"}
    what = "What a prediction is worth: waits for one server, the shortest prediction first, and intervals."
    return [*rows, "", what, "", *_system_table(reports, served, worth), "", *bullets(claims("counts", metrics))]


def _text(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    reports = sections(metrics)
    layers = params["pretrain_text"]["encoder"]["num_layers"]
    pooled = {name: ", ".join(f"`{network}`" for network in params["pool_text"][name]) for name in ("members", "small")}
    systems = {
        "test": f"the classifier that ships: {pooled['members']} and the linear member, pooled",
        "small": f"the small classifier: {pooled['small']} and the linear member, pooled",
        "pretrained": f"network: `{params['fetch_text']['encoder']}`, fine-tuned",
        "distilled": "network: the own encoder, taught by `pretrained`",
        "own": f"network: own encoder, {layers} layer(s)",
        "linear": "the linear member",
        "uncalibrated": "what ships, before its temperature",
        "tfidf_bigram": "baseline: character bigrams",
        "majority": "baseline: class shares",
    }
    columns = {"accuracy": "accuracy", "f1": "F1", "auc": "AUC", "nll": "NLL", "ece": "ECE"}
    return [*_system_table(reports, systems, columns), "", *bullets(claims("text", metrics))]


def _vlm(metrics: Metrics, params: Mapping[str, Any]) -> list[str]:
    reports = sections(metrics)
    base = params["pretrain_vlm"]["base"]
    model = "a small Qwen2.5-VL, pretrained here" if base == "config" else f"`{base}`"
    systems = {
        "base": f"{model}, LoRA",
        "fused": "the same, corrected on high risk as `fusion.second` says",
        **{name: f"corrected by the second model `{name[6:]}`" for name in reports if name.startswith("fused_")},
        "fused_mean": "corrected by all second models together",
        "uncalibrated": "`base` before its temperature",
        "no_augmentation": "without augmented copies",
        "no_filter": "with all copies, none filtered out",
        **{name: "`base` in another order of the data" for name in reports if name.startswith("order_")},
        "soup": "the mean of the weights of `base` and its other orders",
        "blank": "`base` on grey images",
        "majority": "baseline: class shares",
    }
    columns = {"accuracy": "accuracy", "f1": "macro-F1", "high_recall": "recall of high risk"}
    columns |= {"high_precision": "precision of high risk", "high_error": "errors on high risk", "nll": "NLL"}
    return [*_system_table(reports, systems, columns), "", *bullets(claims("vlm", metrics))]


def claims(name: str, metrics: Metrics) -> list[str]:
    """The sentences that follow from one file of metrics, made by its line. ValueError if no line has that name."""
    from assay.counts.evaluation import conclusion as of_counts
    from assay.images.cascade.goals import conclusion as of_cascade
    from assay.images.evaluation import conclusion as of_stage1
    from assay.text.evaluation import conclusion as of_text
    from assay.vlm.evaluation import conclusion as of_vlm

    reports = sections(metrics)
    lines = {
        "stage1": lambda: of_stage1(reports),
        "cascade": lambda: of_cascade(metrics, reports),
        "counts": lambda: of_counts(reports["choice"], reports["peer"], reports),
        "text": lambda: of_text(reports),
        "vlm": lambda: of_vlm(reports, strength=metrics["fusion.strength"]),
    }
    if name not in lines:
        raise ValueError(f"nothing is concluded from metrics/{name}.json; ask for claims of {', '.join(lines)}")
    return lines[name]()


def bullets(lines: Sequence[str]) -> list[str]:
    """Sentences as a Markdown list."""
    return [f"- {line}" for line in lines]


def results_page(root: Path = Path()) -> str:
    """The whole of docs/results.md. ValueError if a file of metrics is missing."""
    stage1, cascade, counts, text, vlm = (read_metrics(root, name) for name in NAMES)
    params = read_yaml(root / "params.yaml")
    ensemble = _cascade(cascade, params, read_metrics(root, "meta"), read_metrics(root, "alignment"))
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


def read_metrics(root: Path, name: str) -> dict[str, Any]:
    """metrics/<name>.json. ValueError if it is missing."""
    path = root / "metrics" / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"no {path}: dvc repro makes it")
    found: dict[str, Any] = read_json(path)
    return found
