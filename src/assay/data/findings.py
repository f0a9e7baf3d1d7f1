"""What data lack for the work that is planned: findings of three levels, and what a role needs of every class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

# Below so many groups an interval over groups, or a temperature, is a guess.
FEW_GROUPS = 10
LEVELS = ("error", "warning", "ok")


@dataclass(frozen=True)
class Finding:
    """One need of a later stage: error (it can't work), warning (it works, its figures can't be trusted) or ok.

    ``need`` is what it is about, ``text`` what there is and, unless all is well, the parameter or data that help.
    """

    level: Literal["error", "warning", "ok"]
    need: str
    text: str


def need(need: str, text: str, *, error: bool = False, warning: bool = False) -> Finding:
    """A finding at the level that holds: an error if ``error``, else a warning if ``warning``, else ok."""
    return Finding("error" if error else "warning" if warning else "ok", need, text)


def of_level(findings: Iterable[Finding], level: str) -> list[Finding]:
    """The findings of one level."""
    return [finding for finding in findings if finding.level == level]


def raise_errors(findings: Iterable[Finding], *, what: str) -> None:
    """Raise one ValueError that lists every error; ``what`` can't work."""
    if errors := of_level(findings, "error"):
        lines = [f"  {finding.need}: {finding.text}" for finding in errors]
        raise ValueError("\n".join([f"{what} can't work with these data, for {len(errors)} reason(s)", *lines]))


def findings_table(findings: Sequence[Finding]) -> str:
    """A line each, the worst first."""
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    width = max((len(finding.need) for finding in ordered), default=0)
    return "\n".join(f"{finding.level:8} {finding.need:{width}}  {finding.text}" for finding in ordered)


def shares_advice(role: str, label: Any, *, field: str) -> str:
    """What gives a role rows of a class where ``field`` shares the groups out."""
    return f"add groups with it, raise {field}.{role}, or declare this role for some rows"


def roles_by_class(
    frame: pd.DataFrame,
    roles: Sequence[str],
    classes: Mapping[Any, str],
    *,
    advice: Callable[[str, Any], str],
    skip: Sequence = (),
) -> list[Finding]:
    """Rows and groups of every class in every role.

    Args:
        frame: columns split, label, group_id.
        classes: label -> name.
        advice: (role, label) -> what gives that role rows of that class.
        skip: labels that are not looked at.
    """
    found = []
    for role in roles:
        part = frame[frame["split"] == role]
        groups = {label: part.loc[part["label"] == label, "group_id"].nunique() for label in classes}
        rows = ", ".join(
            f"{(part['label'] == label).sum()} {name} in {groups[label]}" for label, name in classes.items()
        )
        total = f"{len(part)} rows ({rows} groups)"
        lacking = [label for label in classes if not groups[label] and label not in skip]
        few = [name for label, name in classes.items() if groups[label] < FEW_GROUPS]
        if lacking:
            text = f"{total}: no {' and no '.join(classes[label] for label in lacking)}. "
            text += f"For role {role}, {advice(role, lacking[0])}"
        elif few:
            text = f"{total}: below {FEW_GROUPS} groups of {', '.join(few)}, so what rests on it is a guess"
        else:
            text = total
        found.append(need(f"role {role}", text, error=bool(lacking), warning=bool(few)))
    return found
