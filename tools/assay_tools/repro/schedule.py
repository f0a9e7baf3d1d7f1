"""Which stage may run next: a record of what is done, runs, failed and is skipped, and why. No process, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from assay_tools.repro.graph import Stage, seconds_to_the_end

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"


class Schedule:
    """The state of every stage. A stage is ready when all that it needs is done; the longest way to the end goes first."""

    def __init__(self, stages: Mapping[str, Stage], *, up_to_date: Iterable[str] = ()) -> None:
        self.stages = dict(stages)
        self.state = dict.fromkeys(stages, WAITING) | dict.fromkeys(up_to_date, DONE)
        self.blamed: dict[str, str] = {}
        self._order = sorted(stages, key=seconds_to_the_end(stages).__getitem__, reverse=True)

    def ready(self) -> list[str]:
        """Stages that may start now, the most urgent first."""
        return [
            name
            for name in self._order
            if self.state[name] == WAITING
            # What a target does not need is not in the graph and counts as done.
            and all(self.state.get(other, DONE) == DONE for other in self.stages[name].needs)
        ]

    def start(self, name: str) -> None:
        assert name in self.ready(), name
        self.state[name] = RUNNING

    def done(self, name: str) -> None:
        assert self.state[name] == RUNNING, name
        self.state[name] = DONE

    def failed(self, name: str) -> None:
        """The stage failed: all behind it is skipped, and ``blamed`` says for which failure."""
        assert self.state[name] == RUNNING, name
        self.state[name] = FAILED
        lost = {name}
        for stage in self.stages.values():
            if lost.intersection(stage.needs) and self.state[stage.name] == WAITING:
                lost.add(stage.name)
                self.state[stage.name] = SKIPPED
                self.blamed[stage.name] = name

    def named(self, state: str) -> list[str]:
        """The stages in a state, upstreams first."""
        return [name for name in self.stages if self.state[name] == state]

    @property
    def over(self) -> bool:
        return not self.named(WAITING) and not self.named(RUNNING)
