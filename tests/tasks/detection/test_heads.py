"""What a detector says of its output maps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch import nn

from edgec.core.contract.detection import Head
from edgec.core.errors import NetworkError
from edgec.tasks.detection.heads import head_of, heads_of

TREE: dict[str, Any] = {"anchors": [[10, 14], [23, 27]], "stride": 16, "scale_xy": 1.05, "classes": 3}


class Net(nn.Module):
    """A network that declares `heads`."""

    def __init__(self, heads: Any) -> None:
        super().__init__()
        self.heads = heads


def test_heads_are_read_in_the_order_of_the_outputs():
    heads = heads_of(Net([TREE, TREE | {"stride": 32}]))
    assert heads[0] == Head(((10.0, 14.0), (23.0, 27.0)), 16, 1.05, 3)
    assert [h.stride for h in heads] == [16, 32]
    assert heads[0].channels == 2 * (5 + 3)


def test_a_head_survives_json():
    head = head_of(TREE, "here")
    assert head_of(json.loads(json.dumps(head.to_json())), "there") == head


def test_a_network_without_heads_is_refused_with_what_to_declare():
    with pytest.raises(NetworkError, match=r"Identity has no `heads`.*anchors, stride, scale_xy and classes"):
        heads_of(nn.Identity())


@pytest.mark.parametrize("heads", [[], None, "heads", {"anchors": []}])
def test_heads_must_be_a_filled_list(heads: Any):
    with pytest.raises(NetworkError, match="has no `heads`"):
        heads_of(Net(heads))


@pytest.mark.parametrize("missing", list(TREE))
def test_a_missing_key_is_named_with_its_place(missing: str):
    broken = {key: value for key, value in TREE.items() if key != missing}
    with pytest.raises(NetworkError, match=rf"heads\[1\].*'{missing}'.*give"):
        heads_of(Net([TREE, broken]))


@pytest.mark.parametrize(
    "change",
    [
        {"anchors": []},
        {"anchors": [[10, 0]]},
        {"anchors": [[10, -3]]},
        {"anchors": [[10, float("nan")]]},
        {"anchors": [[10, 14, 3]]},
        {"anchors": [10, 14]},
        {"anchors": [["wide", 14]]},
        {"stride": 0},
        {"stride": None},
        {"scale_xy": 0},
        {"scale_xy": float("inf")},
        {"classes": 0},
        {"classes": "many"},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(change: dict[str, Any]):
    with pytest.raises(NetworkError, match=r"^heads\[0\]: "):
        heads_of(Net([TREE | change]))


def test_an_item_that_is_not_a_mapping_is_refused():
    with pytest.raises(NetworkError, match="is not a head"):
        heads_of(Net([7]))
