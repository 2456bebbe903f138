# pyright: reportUnknownMemberType=false
"""What a training shows in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

from edgec.core.results.accuracy import Accuracy
from edgec.core.results.training import Epoch
from edgec.env import Env


def headline(accuracy: Accuracy) -> dict[str, float]:
    """What events and charts show: no parts of it."""
    return {**accuracy.values, **accuracy.counts}


class Board:
    """TensorBoard event files of a training, under the stage's files."""

    def __init__(self, env: Env) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self.writer = SummaryWriter(str(env.out / "tensorboard"))
        self.replayed = False

    def replay(self, curves: list[Epoch]) -> None:
        """After a resume: the epochs that went before."""
        self.replayed = True
        for row in curves:
            self.epoch(row.epoch, row.losses, row.metrics)

    def step(self, step: int, terms: Mapping[str, float], rate: float) -> None:
        for name, value in terms.items():
            self.writer.add_scalar(f"step/{name}", value, step)
        self.writer.add_scalar("step/lr", rate, step)

    def epoch(self, epoch: int, losses: Mapping[str, float | None], metrics: Accuracy) -> None:
        self.replayed = True
        for name, value in losses.items():
            if value is not None:
                self.writer.add_scalar(f"loss/{name}", value, epoch)
        for name, value in headline(metrics).items():
            self.writer.add_scalar(f"metric/{name}", value, epoch)
        self.writer.flush()
