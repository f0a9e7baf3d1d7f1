"""What one sees while stages run: a live table on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from assay_tools.repro.graph import Stage

COLOURS = {"ran": "green", "from cache": "green", "unchanged": "dim", "failed": "red"}


def duration(seconds: float | None) -> str:
    """``7 s``, ``2:05 min`` or ``1:02:05 h``; a dash for None."""
    if seconds is None:
        return "-"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


@dataclass
class Running:
    """A stage at work: since when (seconds of ``time.time``), and which try it is."""

    since: float
    note: str = ""


@dataclass
class Display:
    """Told of every start and end; draws the table where the console is a terminal, else prints a line each."""

    stages: Mapping[str, Stage]
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    running: dict[str, Running] = field(default_factory=dict)
    ended: dict[str, tuple[str, float | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.since = time.time()
        self._live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(Text(text), soft_wrap=True)

    def starts(self, name: str) -> None:
        self.running[name] = Running(time.time())
        if not self.console.is_terminal:
            last = self.stages[name].last_s
            took = f" (took {duration(last)} last time)" if last is not None else ""
            self.say(f"{name}: starts{took}")

    def note(self, name: str, text: str) -> None:
        """What happens to a stage at work, say another try."""
        self.running[name].note = text
        self.say(f"{name}: {text}")

    def ends(self, name: str, how: str) -> None:
        """``how``: ran, from cache, unchanged or failed."""
        seconds = time.time() - self.running.pop(name).since
        self.ended[name] = (how, seconds)
        number = f"{len(self.ended)}/{len(self.stages)}"
        line = Text(f"{name}: ").append(how, COLOURS[how]).append(f", {duration(seconds)} ({number})")
        self.console.print(line, soft_wrap=True)

    def unchanged(self, name: str) -> None:
        """No line: the summary counts these stages."""
        self.ended[name] = ("unchanged", None)

    def table(self) -> Group:
        """The stages at work: since when, for how long, how long the last time."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("running")
        table.add_column("since")
        table.add_column("for", justify="right")
        table.add_column("last time", justify="right")
        table.add_column("")
        now = time.time()
        for name, at in self.running.items():
            clock = time.strftime("%H:%M:%S", time.localtime(at.since))
            last = duration(self.stages[name].last_s)
            table.add_row(name, clock, duration(now - at.since), last, at.note)
        waiting = len(self.stages) - len(self.ended) - len(self.running)
        summary = f"{len(self.ended)} done, {waiting} to come, {duration(now - self.since)} so far"
        return Group(table, Text(summary, "dim"))
