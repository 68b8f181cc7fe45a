"""Matching of events against all possible pairings."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.results.studies.agreement.matching import MatchConfig, intersection_over_union, match_events
from emobeam.schemas.records import UsageError

Events = list[tuple[float, float]]


@st.composite
def events(draw: st.DrawFn) -> Events:
    """Up to five disjoint events."""
    cuts = sorted(draw(st.sets(st.integers(0, 30), max_size=10)))
    return [(float(a), float(b)) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


@given(events(), events(), st.sampled_from([0.3, 0.5, 0.51, 0.8]))
def test_pairs_by_overlap(human: Events, program: Events, iou: float) -> None:
    pairs = match_events(human, program, MatchConfig(iou=iou))
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(intersection_over_union(human[i], program[j]) >= iou - 1e-9 for i, j in pairs)
    if iou > 0.5:
        # Then it is the best of all pairings, found here by trying them all.
        places = [*range(len(program)), *([-1] * len(human))]
        best = (
            max(
                sum(j >= 0 and intersection_over_union(human[i], program[j]) >= iou for i, j in enumerate(choice))
                for choice in set(permutations(places, len(human)))
            )
            if len(places) <= 7
            else len(pairs)
        )
        assert len(pairs) == best


@given(events(), events(), st.sampled_from([0.0, 1.0, 4.0]))
def test_pairs_by_onset(human: Events, program: Events, tolerance: float) -> None:
    pairs = match_events(human, program, MatchConfig(by="onset", tolerance=tolerance))
    assert all(abs(human[i][0] - program[j][0]) <= tolerance for i, j in pairs)
    # Nothing that could still be paired is left.
    free = [i for i in range(len(human)) if i not in dict(pairs)]
    unused = set(range(len(program))) - {j for _, j in pairs}
    assert not any(abs(human[i][0] - program[j][0]) <= tolerance for i in free for j in unused)


def test_the_nearest_is_taken_first() -> None:
    human, program = [(0.0, 1.0), (1.0, 2.0)], [(0.9, 2.0)]
    assert match_events(human, program, MatchConfig(by="onset", tolerance=1.0)) == [(1, 0)]


def test_intersection_over_union_by_hand() -> None:
    assert intersection_over_union((0, 2), (1, 3)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 1), (1, 2)) == 0
    assert intersection_over_union((1, 1), (1, 1)) == 0


@pytest.mark.parametrize("config", [MatchConfig(iou=0.0), MatchConfig(iou=1.1), MatchConfig(tolerance=-1)])
def test_settings_without_sense_are_refused(config: MatchConfig) -> None:
    with pytest.raises(UsageError):
        config.check()
