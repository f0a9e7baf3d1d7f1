"""``assay why STAGE``: what changed since a stage last ran, and what will run again for it.

What dvc.lock recorded is compared with the files and parameters of now, by DVC's own hashing. DVC's locks are not taken
(``stage.status()`` would), so that the answer comes while a ``dvc repro`` is at work too; nothing is written but DVC's
own table of file hashes.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import closure
from assay_tools.repro.graph import last_seconds
from assay_tools.workspace import git, locked_stages, size_text, stage_name

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

ABSENT = "(absent)"
CODE = closure.OUTPUT
FORESEEN = "Code is compared as it is now: dvc repro --dry can't foresee what the stage `code` will write, this can."
# How many versions of a file are tried in the search for the one that a stage ran.
VERSIONS = 50
LONGEST = 70


@dataclass(frozen=True)
class Change:
    """One reason to run again. ``kind`` is never run, always, command, params, code, package, data or output.

    ``name`` is a parameter key or a path; ``old`` and ``new`` are texts to read, "" where there is none.
    """

    kind: str
    name: str
    old: str = ""
    new: str = ""
    note: str = ""


@dataclass(frozen=True)
class StageReasons:
    """Why one stage will run again.

    ``upstream`` are the stages before it that changed themselves, ``absent`` the inputs and outputs that are not in this
    workspace, so that only their entries in dvc.lock could be compared.
    """

    stage: str
    changes: tuple[Change, ...]
    upstream: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Whether nothing changed that the stage depends on."""
        return not (self.changes or self.upstream)


@dataclass(frozen=True)
class Rerun:
    """A stage that runs again: seconds of its last run, if known; ``first`` if it comes before what was asked about."""

    stage: str
    wall_s: float | None
    first: bool


@dataclass(frozen=True)
class Explanation:
    """The answer: reasons of each stage asked about, and what runs again, in the order of ``dvc repro``."""

    target: str
    stages: tuple[StageReasons, ...]
    reruns: tuple[Rerun, ...]


def explain(root: Path, target: str) -> Explanation:
    """Why ``target``, a stage or all stages of a ``foreach`` or ``matrix``, will run again, and what follows from it.

    Raises:
        ValueError: no such stage (the nearest names are given), or dvc refuses the pipeline.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return _explain(repo, target)
    except DvcException as error:
        raise ValueError(f"dvc refuses the pipeline: {' '.join(str(error).split())}") from error


def _explain(repo: Repo, target: str) -> Explanation:
    import networkx as nx
    from dvc.repo.reproduce import get_active_graph, plan_repro

    # From each stage to those that it needs.
    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph)
    asked = find_stages({stage_name(stage): stage for stage in order}, target)
    before = {stage: nx.descendants(graph, stage) for stage in asked}
    examined = set(asked).union(*before.values())
    examiner = Examiner(repo)
    found = {stage: examiner.examine(stage) for stage in order if stage in examined}
    # What the stage `code` will write is compared stage by stage; that it runs reruns nothing.
    changed = [
        stage for stage, (changes, _) in found.items() if changes and (stage in asked or stage_name(stage) != "code")
    ]
    reasons = []
    for stage in asked:
        upstream = tuple(stage_name(other) for other in changed if other in before[stage])
        reasons.append(StageReasons(stage_name(stage), found[stage][0], upstream, found[stage][1]))
    invalid = set(changed).union(*(nx.ancestors(graph, stage) for stage in changed))
    # A change upstream reruns other branches too; those were not asked about.
    concerned = examined.union(*(nx.ancestors(graph, stage) for stage in asked if stage in invalid))
    rerun = [stage for stage in order if stage in invalid & concerned] if invalid & set(asked) else []
    root, earlier = Path(repo.root_dir), examined - set(asked)
    names = [(stage_name(stage), stage in earlier) for stage in rerun]
    rows = [Rerun(name, last_seconds(name, root), first) for name, first in names]
    return Explanation(target, tuple(reasons), tuple(rows))


def find_stages(stages: Mapping[str, Stage], target: str) -> list[Stage]:
    """The stage of that name, or all that ``foreach`` or ``matrix`` made of it.

    Raises:
        ValueError: there is none; the nearest names are given.
    """
    if target in stages:
        return [stages[target]]
    group = [stage for name, stage in stages.items() if name.split("@")[0] == target]
    if group:
        return group
    names = sorted({*stages, *(name.split("@")[0] for name in stages)})
    near = difflib.get_close_matches(target, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(n for n in names if '@' not in n)}"
    raise ValueError(f"no stage {target} in dvc.yaml; {hint}")


class Examiner:
    """Compares stages with dvc.lock; many stages share files, and each file is hashed once."""

    def __init__(self, repo: Repo) -> None:
        self.root = Path(repo.root_dir)
        self.locked = locked_stages(self.root)
        self.makers = {out.fs_path: out for stage in repo.index.stages for out in stage.outs}
        self.stages = set(closure.stage_names(self.root))
        self._hashes: dict[str, Any] = {}
        self._lines: dict[tuple[str, str], str] = {}

    def examine(self, stage: Stage) -> tuple[tuple[Change, ...], tuple[str, ...]]:
        """Changes of the stage itself, and its inputs and outputs that are not in the workspace."""
        entry = self.locked.get(stage_name(stage))
        absent = tuple(str(self._name(item)) for item in [*stage.deps, *stage.outs] if not item.exists)
        if stage.cmd and entry is None:
            return (Change("never run", "", note="dvc.lock has no entry of it"),), absent
        changes = []
        if stage.is_callback or stage.always_changed:
            changes.append(Change("always", "", note="it has nothing to compare, or says always_changed"))
        if entry is not None and entry.get("cmd") != stage.cmd:
            changes.append(Change("command", "", _shown(entry.get("cmd")), _shown(stage.cmd)))
        for dep in [] if stage.frozen else stage.deps:
            changes += self._params(dep) if hasattr(dep, "read_params") else self._dep(dep)
        for out in stage.outs:
            changes += self._out(out)
        return tuple(changes), absent

    def _name(self, item: Output) -> str:
        path = Path(item.fs_path)
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def _hash(self, item: Output) -> Any:
        if item.fs_path not in self._hashes:
            self._hashes[item.fs_path] = item.get_hash()
        return self._hashes[item.fs_path]

    def _params(self, dep: Any) -> list[Change]:
        """Leaves of the parameters that the stage reads, where they differ."""
        recorded, actual = dep.hash_info.value or {}, dep.read_params()
        keys = dep.params or [*actual, *(key for key in recorded if key not in actual)]
        old = flatten({key: recorded[key] for key in keys if key in recorded})
        new = flatten({key: actual[key] for key in keys if key in actual})
        prefix = "" if self._name(dep) == "params.yaml" else f"{self._name(dep)}:"
        return [
            Change("params", prefix + key, _shown(old.get(key, ABSENT)), _shown(new.get(key, ABSENT)))
            for key in sorted(old.keys() | new.keys())
            if (key in old) != (key in new) or old.get(key) != new.get(key)
        ]

    def _dep(self, dep: Output) -> list[Change]:
        name = self._name(dep)
        if Path(name).parent == CODE and Path(name).stem in self.stages:
            return self._code(dep, name)
        kind = "code" if name.endswith(".py") else "data"
        if not dep.exists:
            maker = self.makers.get(dep.fs_path)
            if maker is not None and dep.hash_info != maker.hash_info:
                old, new = _short(dep.hash_info, dep.meta), _short(maker.hash_info, maker.meta)
                return [Change(kind, name, old, new, "by dvc.lock: the file is not here")]
            made = any(Path(name).is_relative_to(path) or Path(path).is_relative_to(name) for path in self._made())
            return [] if made else [Change(kind, name, _short(dep.hash_info, dep.meta), ABSENT, "no stage makes it")]
        if not dep.hash_info:
            return [Change(kind, name, ABSENT, _short(self._hash(dep), dep.get_meta()), "new in the stage's deps")]
        if self._hash(dep) == dep.hash_info:
            return []
        old, new = _short(dep.hash_info, dep.meta), _short(self._hash(dep), dep.get_meta())
        return [Change(kind, name, old, new, self._lines_of(name, str(dep.hash_info.value)) if kind == "code" else "")]

    def _code(self, dep: Output, name: str) -> list[Change]:
        """Modules and packages whose digests and versions the stage `code` will write anew."""
        text = closure.code_text(Path(name).stem, root=self.root)
        md5 = str(dep.hash_info.value) if dep.hash_info else ""
        if _md5(text.encode()) == md5:
            return []
        commit, recorded = committed_version(self.root, name, md5)
        if recorded is None:
            return [
                Change("code", name, md5[:8] or ABSENT, _md5(text.encode())[:8], "what ran is not in git's history")
            ]
        old, new = json.loads(recorded), json.loads(text)
        found = []
        for module in sorted(old["modules"].keys() | new["modules"].keys()):
            if module not in new["modules"]:
                found.append(Change("code", f"src/{module}", note="no longer imported"))
            elif module not in old["modules"]:
                found.append(Change("code", f"src/{module}", note="newly imported"))
            elif old["modules"][module] != new["modules"][module]:
                found.append(Change("code", f"src/{module}", note=lines_since(self.root, f"src/{module}", commit)))
        for package in sorted(old["packages"].keys() | new["packages"].keys()):
            versions = [content["packages"].get(package, ABSENT) for content in (old, new)]
            if versions[0] != versions[1]:
                found.append(Change("package", package, *versions))
        return found

    def _made(self) -> list[str]:
        return [self._name(out) for out in self.makers.values()]

    def _out(self, out: Output) -> list[Change]:
        name = self._name(out)
        back = f"dvc checkout {name}" if out.use_cache else f"git restore {name}"
        if not out.hash_info:
            return [Change("output", name, note="new in the stage's outputs")]
        if not out.exists:
            # A cached output is fetched, not made anew; dvc knows what it was.
            return [] if out.use_cache else [Change("output", name, note=f"deleted: {back} brings it back")]
        if self._hash(out) != out.hash_info:
            old, new = _short(out.hash_info, out.meta), _short(self._hash(out), out.get_meta())
            return [Change("output", name, old, new, f"not as the stage left it: {back} brings that back")]
        if out.use_cache and out.changed_cache():
            return [Change("output", name, note="its copy in DVC's cache is gone: dvc commit puts it back")]
        return []

    def _lines_of(self, name: str, md5: str) -> str:
        if (name, md5) not in self._lines:
            self._lines[name, md5] = changed_lines(self.root, name, md5)
        return self._lines[name, md5]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def committed_version(root: Path, name: str, md5: str) -> tuple[str, bytes | None]:
    """The commit and the content of the committed version of a file with that md5; "" and None if git has none."""
    try:
        commits = git(root, "log", f"-{VERSIONS}", "--format=%h", "--", name).split()
    except ValueError:
        return "", None  # no git here, or nothing committed yet
    for commit in commits:
        shown = subprocess.run(["git", "show", f"{commit}:./{name}"], cwd=root, capture_output=True, check=False)
        if shown.returncode == 0 and _md5(shown.stdout) == md5:
            return commit, shown.stdout
    return "", None


def lines_since(root: Path, name: str, commit: str) -> str:
    """``+12 -3 lines since 0a1b2c3``."""
    counts = git(root, "diff", "--numstat", commit, "--", name).split()
    return f"+{counts[0]} -{counts[1]} lines since {commit}" if counts else f"as in {commit}"


def changed_lines(root: Path, name: str, md5: str) -> str:
    """Lines changed since the committed version with that md5; "" if git has none."""
    commit, content = committed_version(root, name, md5)
    return "" if content is None else lines_since(root, name, commit)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings under dotted keys; lists and empty mappings are leaves."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _short(hash_info: Any, meta: Any) -> str:
    if not hash_info:
        return ABSENT
    files = f", {meta.nfiles} files" if meta and meta.nfiles is not None else ""
    return f"{hash_info.value[:8]} ({size_text(meta.size if meta else None)}{files})"


def tell(explanation: Explanation) -> str:
    """The explanation as text for a terminal."""
    groups: dict[tuple, list[str]] = {}
    for reasons in explanation.stages:
        groups.setdefault((reasons.changes, reasons.upstream, bool(reasons.absent)), []).append(reasons.stage)
    first = {reasons.stage: reasons for reasons in reversed(explanation.stages)}
    lines = []
    for names in groups.values():
        lines += [*_reasons_text(names, first[names[0]]), ""]
    if any(change.kind in ("code", "package") for reasons in explanation.stages for change in reasons.changes):
        lines += [FORESEEN, ""]
    return "\n".join(lines + _reruns_text(explanation)).rstrip()


def _reasons_text(names: list[str], reasons: StageReasons) -> list[str]:
    lines = [", ".join(names) + (": up to date" if reasons.is_current else " will run again:")]
    for change in reasons.changes:
        value = f"{change.old} -> {change.new}" if change.old or change.new else ""
        parts = [f"{change.name}:" if change.name and (value or change.note) else change.name, value]
        parts.append(f"[{change.note}]" if value and change.note else change.note)
        lines.append(f"  {change.kind:<9} {' '.join(part for part in parts if part)}")
    if reasons.upstream:
        counts = Counter(name.split("@")[0] for name in reasons.upstream)
        shown = ", ".join(f"{name} ({count} stages)" if count > 1 else name for name, count in counts.items())
        lines.append(f"  {'upstream':<9} changed themselves and run first: {shown}")
    if reasons.absent:
        shown = ", ".join(reasons.absent[:3]) + (", ..." if len(reasons.absent) > 3 else "")
        lines.append(f"  {len(reasons.absent)} file(s) are not in this workspace, compared by dvc.lock alone: {shown}")
        lines.append("  dvc pull or dvc repro --pull fetches them; a plain dvc repro makes what it cannot fetch")
    return lines


def _reruns_text(explanation: Explanation) -> list[str]:
    if not explanation.reruns:
        return []
    width = max(len(row.stage) for row in explanation.reruns)
    lines = ["What runs, with the minutes of its last run here. At most: a stage whose inputs come out the same is"]
    lines.append("skipped, and a run that the run-cache holds is brought back.")
    for row in explanation.reruns:
        lines.append(f"  {row.stage:<{width}}  {_minutes(row.wall_s):>13}{'  first' if row.first else ''}".rstrip())
    known = [row.wall_s for row in explanation.reruns if row.wall_s is not None]
    unknown = len(explanation.reruns) - len(known)
    parts = [_minutes(sum(known))] * bool(known) + [f"{unknown} without a timing"] * bool(unknown)
    return [*lines, f"  {len(explanation.reruns)} stage(s): {' and '.join(parts)}"]


def _minutes(seconds: float | None) -> str:
    return "no timing yet" if seconds is None else f"{seconds / 60:.1f} min"
