"""The four lines of work in a row each: the best simple baseline, the part, the whole, and what the whole gains.

README's table, and what the study measures in each of its runs, are made of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.metrics.claims import told
from assay.report.tables import interval_text, sections, size_of, table

Reports = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class System:
    """What was measured: what it is in words, and the file and the section of its metrics."""

    words: str
    file: str
    section: str

    def report(self, files: Mapping[str, Reports]) -> Mapping[str, Any]:
        """Its metrics; none where the file holds none of it."""
        return files.get(self.file, {}).get(self.section, {})


@dataclass(frozen=True)
class Line:
    """A row.

    Attributes:
        key: of the metric; ``metric`` is its name for people.
        gain: key of the paired gain among the metrics of ``whole``, which is over ``rival``.
        comparisons: how many gains the interval holds together.
    """

    name: str
    metric: str
    key: str
    baseline: System
    part: System
    whole: System
    rival: System
    gain: str
    plot: str
    comparisons: int = 1
    lower_is_better: bool = False

    def told(self, files: Mapping[str, Reports]) -> str:
        """Whether the whole is better than its rival, by one rule; a dash where that was not measured."""
        report = self.whole.report(files)
        if self.gain not in report:
            return "-"
        words: dict[str, Any] = {"comparisons": self.comparisons, "lower_is_better": self.lower_is_better}
        return f"over {self.rival.words}: {told(report, self.gain, one_training=True, **words)}"


def images_line() -> Line:
    """Stage 1 is the part, the cascade the whole."""
    from assay.images.cascade.rivals import METRICS, RIVALS

    filter_alone = System("stage 1", "cascade", "stage1")
    return Line(
        name="images",
        metric="balanced accuracy",
        key="balanced_accuracy",
        baseline=System("pixel statistics", "stage1", "pixel_statistics"),
        part=filter_alone,
        whole=System("the cascade", "cascade", "cascade"),
        rival=filter_alone,
        gain="balanced_accuracy_gain_stage1",
        plot="plots/cascade/frontier.png",
        comparisons=len(RIVALS) * len(METRICS),
    )


def counts_line(reports: Reports) -> Line:
    """The best linear model is the part, the variant chosen on val the whole."""
    peer = reports["peer"]
    simple = System("the best simple system on val", "counts", peer["count"])
    return Line(
        name="counts",
        metric="Spearman",
        key="spearman",
        baseline=simple,
        part=System("the best linear model on val", "counts", peer.get("linear", peer["count"])),
        whole=System("the variant chosen on val", "counts", reports["choice"]["count"]),
        rival=simple,
        gain="spearman_gain",
        plot="plots/counts/predicted.png",
    )


def text_line() -> Line:
    """The pretrained network alone is the part, what ships the whole."""
    linear = System("the linear member", "text", "linear")
    return Line(
        name="text",
        metric="accuracy",
        key="accuracy",
        baseline=linear,
        part=System("the pretrained network", "text", "pretrained"),
        whole=System("what ships", "text", "test"),
        rival=linear,
        gain="accuracy_gain_linear",
        plot="plots/text/length.png",
    )


def vlm_line() -> Line:
    """The first model is the part, its correction by the second the whole."""
    from assay.vlm.evaluation import FUSED

    base = System("the first model", "vlm", "base")
    return Line(
        name="vlm",
        metric="errors on high risk",
        key="high_error",
        baseline=System("the largest class", "vlm", "majority"),
        part=base,
        whole=System("the correction", "vlm", "fused"),
        rival=base,
        gain="high_error_gain",
        plot="plots/vlm/systems.png",
        comparisons=len(FUSED),
        lower_is_better=FUSED["high_error"],
    )


def lines_of(files: Mapping[str, Reports]) -> list[Line]:
    """The lines whose files of metrics are there: file -> section -> metric -> value."""
    made = {
        "cascade": images_line,
        "counts": lambda: counts_line(files["counts"]),
        "text": text_line,
        "vlm": vlm_line,
    }
    return [make() for name, make in made.items() if name in files]


def lines_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per line as a Markdown table, from the flat metrics of each file; a dash for what was not measured."""
    files = {name: sections(flat) for name, flat in metrics.items()}

    def cell(system: System, key: str) -> str:
        return f"`{system.section}`: {interval_text(system.report(files), key)}"

    rows = [
        [
            f"[{line.name}]({line.plot})",
            line.metric + (" (less is better)" if line.lower_is_better else ""),
            *size_of(line.whole.report(files)),
            *(cell(system, line.key) for system in (line.baseline, line.part, line.whole)),
            line.told(files),
        ]
        for line in lines_of(files)
    ]
    header = ["line (plot)", "metric", "n (test)", "groups", "best simple baseline", "the part", "the whole"]
    return "\n".join(table([*header, "what the whole gains"], rows))
