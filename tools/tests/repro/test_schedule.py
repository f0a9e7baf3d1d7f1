"""The schedule: what may start, what a failure takes with it, and what is most urgent."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from assay_tools.repro.graph import UNKNOWN_S, Stage, behind, retry_of, seconds_to_the_end
from assay_tools.repro.schedule import DONE, FAILED, SKIPPED, Schedule


def stages(**needs: str) -> dict[str, Stage]:
    """``b="a c"``: b needs a and c; a single letter each, upstreams first."""
    return {name: Stage(name, needs=tuple(others.split())) for name, others in needs.items()}


DIAMOND = stages(a="", b="a", c="a", d="b c", alone="")


def test_up_to_date_stages_are_done_from_the_start() -> None:
    assert set(Schedule(DIAMOND).ready()) == {"a", "alone"}
    assert set(Schedule(DIAMOND, up_to_date=["a", "b"]).ready()) == {"c", "alone"}


def test_a_failure_skips_what_needs_it_and_nothing_else() -> None:
    schedule = Schedule(DIAMOND)
    for name in ("a", "b", "c"):
        schedule.start(name)
        if name != "b":
            schedule.done(name)
    schedule.failed("b")
    assert schedule.state == {"a": DONE, "b": FAILED, "c": DONE, "d": SKIPPED, "alone": "waiting"}
    assert schedule.blamed == {"d": "b"}
    assert not schedule.over
    schedule.start("alone")
    schedule.done("alone")
    assert schedule.over


def test_the_longest_way_to_the_end_goes_first() -> None:
    graph = {
        "short": Stage("short", last_s=90.0),
        "start": Stage("start", last_s=1.0),
        "long": Stage("long", needs=("start",), last_s=100.0),
        "new": Stage("new"),
    }
    assert seconds_to_the_end(graph) == {"short": 90.0, "start": 101.0, "long": 100.0, "new": UNKNOWN_S}
    assert Schedule(graph).ready() == ["start", "short", "new"]


def test_what_stands_behind_a_stage() -> None:
    assert behind(DIAMOND, ["b"]) == {"b", "d"}
    assert behind(DIAMOND, ["a"]) == {"a", "b", "c", "d"}
    assert behind(DIAMOND, ["gone"]) == set()


@given(data=st.data(), number=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_any_graph_comes_to_an_end_and_keeps_the_order(data: st.DataObject, number: int) -> None:
    """Stages run in any order that the scheduler allows, any of them may fail: each ends up done, failed or skipped,
    none before what it needs, and skipped exactly where something it needs failed or was skipped."""
    graph: dict[str, Stage] = {}
    for index in range(number):
        needs = data.draw(st.sets(st.sampled_from(sorted(graph)))) if graph else set()
        graph[f"s{index}"] = Stage(f"s{index}", needs=tuple(sorted(needs)))
    schedule, running, done = Schedule(graph), [], set()
    while not schedule.over:
        ready = schedule.ready()
        assert all(set(graph[name].needs) <= done for name in ready)
        if ready and (not running or data.draw(st.booleans())):
            schedule.start(name := data.draw(st.sampled_from(ready)))
            running.append(name)
        else:
            name = running.pop(data.draw(st.integers(0, len(running) - 1)))
            if data.draw(st.booleans()):
                schedule.done(name)
                done.add(name)
            else:
                schedule.failed(name)
    lost = {name for name, state in schedule.state.items() if state in (FAILED, SKIPPED)}
    assert done | lost == set(graph)
    for name, state in schedule.state.items():
        assert (state == SKIPPED) == bool(lost.intersection(graph[name].needs)), name


@pytest.mark.parametrize(
    ("meta", "wanted"),
    [(None, (1, 0.0)), ({}, (1, 0.0)), ({"retry": {"attempts": 2, "wait_s": 0}}, (2, 0.0)), ({"retry": {}}, (3, 5.0))],
)
def test_retry_is_read_from_meta(meta: dict | None, wanted: tuple[int, float]) -> None:
    assert retry_of(meta, name="one") == wanted


@pytest.mark.parametrize(
    "asked", [3, {"times": 3}, {"attempts": 0}, {"attempts": "3"}, {"wait_s": -1}, {"attempts": True}]
)
def test_a_retry_that_is_not_understood_names_the_stage(asked: object) -> None:
    with pytest.raises(ValueError, match=r"stage one: meta\.retry"):
        retry_of({"retry": asked}, name="one")
