"""The predictor of a torch module leaves the module as it was."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgec.tasks.predictor import torch_predictor
from edgec.testing import TinyTask

TASK = TinyTask()


def make() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))


def test_a_module_in_training_stays_so_and_gives_what_it_gives_in_eval_mode() -> None:
    net = make().train()
    net.get_submodule("2").eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    images = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    (output,) = torch_predictor(net, TASK).run(images)
    assert [module.training for module in net.modules()] == [True, True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    with torch.no_grad():
        np.testing.assert_array_equal(output, make().eval()(torch.from_numpy(images)).numpy())


def test_another_type_runs_on_a_copy() -> None:
    net = make().eval()
    images = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    exact, rounded = (
        torch_predictor(net, TASK, dtype=t).run(images)[0] for t in (torch.float32, torch.bfloat16)
    )
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert rounded.dtype == np.float32 and 0 < np.abs(rounded - exact).max() < 0.05
