"""Time table of stages."""

from wtal.extractors.execution.stage_times import Spent, TimeTable


def test_a_timetable_adds_up_and_tells_what_is_new():
    times = TimeTable()
    times.add("a", Spent(1.0, 2, "frames"))
    before = times.stages()
    with times.busy("a", 3), times.busy("b", 1, "pairs"):
        pass
    new, now = times.since(before)
    assert now == times.stages()
    assert (new["a"].units, new["a"].unit, new["b"].units) == (3, "frames", 1)
    assert times.stages()["a"].units == 5
    assert 0 <= new["a"].seconds < 1
