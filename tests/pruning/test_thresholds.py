"""Thresholds, rounding, floors and solved targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.core.errors import StageError
from edgec.pruning.cost import Cost
from edgec.pruning.dependency_groups import DependencyGroup
from edgec.pruning.thresholds import base_ratios, decide, rounded, solve, target_of
from edgec.recipe import Prune

SIZES = {"a": 64, "b": 128, "c": 32}
SCALES = {"a": "s8", "b": "s8", "c": "s16"}
GROUPS = [DependencyGroup(name, size, ()) for name, size in SIZES.items()]


def scores(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.01, 1, size) for name, size in SIZES.items()}


def free(**settings: object) -> Prune:
    """Without floors and rounding."""
    return Prune.model_validate({"round_to": 1, "min_channels": 1, "min_share": 0, **settings})


def cost(kept: dict[str, np.ndarray]) -> Cost:
    """A chain a -> b -> c."""
    a, b, c = (int(kept[name].sum()) for name in SIZES)
    return Cost(params=3 * a + a * b + b * c, macs=5 * a * b, padded_macs=7 * b * c)


sizes = st.integers(1, 2048)


@given(st.data(), sizes, st.integers(0, 64), st.integers(1, 64))
def test_rounded_stays_within_its_bounds(data: st.DataObject, size: int, floor: int, multiple: int) -> None:
    kept = data.draw(st.integers(0, size))
    count = rounded(kept, size, floor, multiple)
    assert min(floor, size) <= count <= size
    assert count % multiple == 0 or count == size or (count == 0 and floor == 0)
    if min(floor, size) <= kept:
        assert abs(count - kept) < multiple + min(floor, size)


@given(sizes, st.integers(1, 32), st.integers(1, 32))
def test_rounded_grows_with_what_is_kept(size: int, floor: int, multiple: int) -> None:
    counts = [rounded(kept, size, floor, multiple) for kept in range(0, size + 1, max(1, size // 50))]
    assert counts == sorted(counts)
    assert counts[0] >= 1


@pytest.mark.parametrize(
    ("kept", "size", "floor", "multiple", "count"),
    [
        (13, 64, 8, 8, 16),
        (11, 64, 8, 8, 8),
        (1, 64, 8, 8, 8),
        (1, 64, 9, 8, 16),  # the floor itself is rounded up
        (3, 6, 8, 8, 6),  # narrower than the multiple: whole
        (18, 20, 8, 16, 16),
        (0, 64, 1, 1, 1),
        (19, 20, 4, 8, 16),
    ],
)
def test_rounded_examples(kept: int, size: int, floor: int, multiple: int, count: int) -> None:
    assert rounded(kept, size, floor, multiple) == count


def test_each_group_is_cut_at_its_own_quantile() -> None:
    scored = scores()
    scored["c"] *= 0.01  # one threshold for all would take the whole of it
    decision = decide(GROUPS, scored, SCALES, {"s8": 0.25, "s16": 0.75}, free())
    s8 = np.concatenate([scored["a"], scored["b"]])
    kept8 = np.concatenate([decision.kept["a"], decision.kept["b"]])
    assert kept8.sum() == 144
    assert decision.kept["c"].sum() == 8
    assert s8[kept8].min() > decision.thresholds["s8"] >= s8[~kept8].max()
    assert scored["c"][decision.kept["c"]].min() > decision.thresholds["s16"]
    assert decision.at_floor == ()


def test_one_global_threshold_ranks_all_channels_together() -> None:
    scored = scores()
    scored["c"] *= 0.01
    decision = decide(GROUPS, scored, SCALES, {"all": 0.5}, free(threshold="global"))
    assert decision.kept["c"].sum() == 1  # the floor: never none
    assert decision.at_floor == ("c",)
    assert sum(int(k.sum()) for k in decision.kept.values()) == 112 + 1


def test_the_best_channels_stay() -> None:
    scored = scores()
    decision = decide(GROUPS, scored, SCALES, {"s8": 0.6, "s16": 0.6}, Prune(round_to=8))
    for name, kept in decision.kept.items():
        assert kept.sum() % 8 == 0
        assert scored[name][kept].min() > scored[name][~kept].max()


@pytest.mark.parametrize(
    ("settings", "floors"),
    [
        ({"min_channels": 12}, {"a": 12, "b": 12, "c": 12}),
        ({"min_share": 0.25}, {"a": 16, "b": 32, "c": 8}),
        ({"min_channels": 48}, {"a": 48, "b": 48, "c": 32}),
        ({}, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_floors_hold_at_the_highest_ratio(settings: dict, floors: dict) -> None:
    decision = decide(GROUPS, scores(), SCALES, {"s8": 1.0, "s16": 1.0}, free(**settings))
    assert {n: int(k.sum()) for n, k in decision.kept.items()} == floors
    assert decision.at_floor == ("a", "b", "c")


def test_ratio_zero_leaves_a_group_whole() -> None:
    groups = [DependencyGroup("a", 64, ()), DependencyGroup("odd", 20, ())]
    scored = {"a": scores()["a"], "odd": scores()["b"][:20]}
    decision = decide(groups, scored, {"a": "s8", "odd": "s16"}, {"s8": 0.5, "s16": 0.0}, Prune(round_to=8))
    assert decision.kept["odd"].all()
    assert decision.kept["a"].sum() == 32


def test_equal_scores_are_still_cut_at_the_ratio() -> None:
    """As in a network that was not trained, or whose sparse training set many scales to exactly zero."""
    ones = {name: np.ones(size) for name, size in SIZES.items()}
    decision = decide(GROUPS, ones, SCALES, {"s8": 0.5, "s16": 0.5}, free())
    assert sum(int(decision.kept[n].sum()) for n in ("a", "b")) == 96
    assert decision.kept["c"].sum() == 16


def test_ratios_of_the_recipe_and_its_default() -> None:
    config = Prune(ratios={"s16": 0.9}, ratio=0.3)
    assert base_ratios(config, SCALES) == {"s8": 0.3, "s16": 0.9}
    assert base_ratios(Prune(threshold="global", ratio=0.3), SCALES) == {"all": 0.3}


def test_an_unknown_group_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(StageError, match=r"prune\.ratios: no scale group is called s64; there are s16, s8"):
        base_ratios(Prune(ratios={"s64": 0.5}), SCALES)


@pytest.mark.parametrize("of", ["params", "macs", "padded_macs"])
@pytest.mark.parametrize("share", [0.75, 0.35, 0.1])
@pytest.mark.parametrize("threshold", ["group", "global"])
def test_targets_are_reached_from_below(of: str, share: float, threshold: str) -> None:
    config = free(**{f"keep_{of}": share, "threshold": threshold})
    assert target_of(config) == (of, share)
    decision = solve(GROUPS, scores(), SCALES, config, cost)
    whole = getattr(cost({n: np.ones(s, bool) for n, s in SIZES.items()}), of)
    reached = getattr(cost(decision.kept), of) / whole
    assert share - 0.05 <= reached <= share


def test_a_solved_target_keeps_the_proportions_of_the_ratios() -> None:
    config = free(keep_params=0.3, ratios={"s8": 0.2, "s16": 0.6})
    decision = solve(GROUPS, scores(), SCALES, config, cost)
    k8 = np.log(1 - decision.ratios["s8"]) / np.log(0.8)
    k16 = np.log(1 - decision.ratios["s16"]) / np.log(0.4)
    assert np.isclose(k8, k16)
    assert decision.ratios["s8"] < decision.ratios["s16"]


def test_a_group_with_ratio_zero_is_not_touched_to_reach_a_target() -> None:
    decision = solve(GROUPS, scores(), SCALES, free(keep_params=0.4, ratios={"s16": 0}), cost)
    assert decision.kept["c"].all()


def test_a_target_under_the_floors_names_them_and_the_remedy() -> None:
    with pytest.raises(StageError) as caught:
        solve(GROUPS, scores(), SCALES, free(keep_params=0.05, min_channels=24), cost)
    text = str(caught.value)
    least = (3 * 24 + 24 * 24 + 24 * 24) / (3 * 64 + 64 * 128 + 128 * 32)
    assert "keep_params: 0.05" in text
    assert f"{least:.3f}" in text
    assert "a, b, c" in text
    assert "min_channels (24)" in text


def test_a_target_between_two_roundings_is_refused_with_what_is_near() -> None:
    with pytest.raises(StageError, match=r"keep_params: 0\.9 cannot be reached, nearest below is 0\.\d+"):
        solve(GROUPS, scores(), SCALES, free(keep_params=0.9, round_to=64, tolerance=0.01), cost)


def test_a_small_ratio_still_reaches_a_target() -> None:
    decision = solve(GROUPS, scores(), SCALES, free(keep_params=0.3, ratio=0.01), cost)
    assert cost(decision.kept).params <= 0.3 * (3 * 64 + 64 * 128 + 128 * 32)
