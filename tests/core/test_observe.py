"""Watching modules: hooks and modes last as long as the block, whatever happens in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgec.core.observe import evaluating, observed_pass, observing, run_until


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Dropout(0.5)
    )


X = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def names_seen(net: nn.Module, which: Any) -> list[str]:
    seen: list[str] = []
    with observing(net, which, lambda name, module, inputs, output: seen.append(name)):
        net(X)
    return seen


def test_modules_are_chosen_by_kind_or_by_name(net: nn.Sequential) -> None:
    assert names_seen(net, nn.Conv2d) == ["0", "3"]
    assert names_seen(net, (nn.BatchNorm2d, nn.ReLU)) == ["1", "2"]
    assert names_seen(net, ["3", "2"]) == ["2", "3"]  # in the order in which they run
    assert names_seen(net, ("0",)) == ["0"]
    assert names_seen(net, ()) == []


def test_what_is_seen_is_what_ran(net: nn.Sequential) -> None:
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((module, inputs[0], output))

    observed_pass(net, X, ["3"], look)
    ((module, taken, given),) = seen
    assert module is net[3] and hooks(net) == 0
    with torch.no_grad():
        assert torch.equal(taken, net[:3].eval()(X)) and torch.equal(given, net[3](taken))


def test_what_a_look_gives_replaces_the_output(net: nn.Sequential) -> None:
    def zero(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    outputs = observed_pass(net, X, ["3"], zero)
    assert not outputs.any()
    assert observed_pass(net, X, [], zero).any()


def test_hooks_go_when_the_block_fails(net: nn.Sequential) -> None:
    def fail(*seen: Any) -> None:
        raise KeyError("look")

    with pytest.raises(KeyError, match="look"), observing(net, nn.Conv2d, fail):
        net(X)
    with pytest.raises(AttributeError, match="nowhere"), observing(net, ["0", "nowhere"], fail):
        pass
    assert hooks(net) == 0


def test_every_module_gets_its_own_mode_back(net: nn.Sequential) -> None:
    net.train()
    net[1].eval()  # a norm that is frozen in training
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not net(X).requires_grad
    assert [module.training for module in net] == [True, False, True, True, True]
    assert net.training and net(X).requires_grad
    with pytest.raises(KeyError), evaluating(net):
        raise KeyError
    assert net.training and not net[1].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_runs_until_a_module_has_run(net: nn.Sequential) -> None:
    ran: list[str] = []
    with torch.no_grad(), observing(net, nn.Module, lambda name, *seen: ran.append(name)):
        taken, given = run_until(net.eval(), "1", lambda: net(X))
    assert "2" not in ran and hooks(net) == 0
    with torch.no_grad():
        assert torch.equal(taken, net[0](X)) and torch.equal(given, net[1](taken))
