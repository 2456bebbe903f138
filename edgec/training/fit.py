"""The only training loop. Stages hand it a loss; it owns everything that keeps a training alive.

Mixed precision, gradient clipping, warm-up and cosine, the moving average, a guard against NaN with rollback,
a checkpoint after every epoch, resume (bit-identical on the CPU), several processes, events and TensorBoard files.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.events import EpochEnded, Step
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.training import Epoch, Trained
from edgec.core.typed_torch import floats, move, norms, random_state
from edgec.env import Env
from edgec.recipe import Training
from edgec.tasks.predictor import torch_predictor
from edgec.training import checkpoint
from edgec.training.board import Board, headline
from edgec.training.checkpoint import State
from edgec.training.distributed import average, average_gradients, barrier
from edgec.training.ema import Ema
from edgec.training.schedules import Position, learning_rate
from edgec.training.soap import Soap

LossFn = Callable[[nn.Module, Any, Position], Mapping[str, Tensor]]
BAD_STEPS = 3  # in a row, before the training goes back to the last epoch
ROLLBACKS = 3  # each with half the learning rate
EVENT_SECONDS = 0.5


@dataclass
class _Tally:
    """Counters that a checkpoint carries."""

    epoch: int = 0  # the next one
    lr_scale: float = 1.0
    skipped: int = 0
    rollbacks: int = 0
    seconds: float = 0.0
    images: int = 0
    curves: list[Epoch] = field(default_factory=list[Epoch])

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "curves": [epoch.model_dump(mode="json") for epoch in self.curves]}

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> _Tally:
        """What `to_json` gave, perhaps among other keys."""
        curves = [Epoch.model_validate(epoch) for epoch in stored["curves"]]
        counters: dict[str, Any] = {name: stored[name] for name in vars(cls()) if name != "curves"}
        return cls(**counters, curves=curves)


def fit(
    net: nn.Module,
    loss: LossFn,
    config: Training,
    env: Env,
    *,
    after_backward: Callable[[Position], None] | None = None,
    helpers: nn.Module | None = None,
) -> Trained:
    """Train `net` in place; it ends with the averaged weights, on the CPU, in eval mode.

    `loss(model, batch, position)` gives named scalar terms, already weighted; it calls `model` (which may be wrapped
    for several processes) on the batch. `after_backward` may change gradients, after clipping. `helpers` are modules
    that train beside the network (connectors of distillers) and are not part of it.

    Raises StageError when the loss stays NaN or infinite after all rollbacks.
    """
    # by the stage's seed: dropout must not depend on what ran before
    with random_state(env.seed + env.process_group.rank, env.device):
        return _fit(net, loss, config, env, after_backward, helpers)


def _fit(
    net: nn.Module, loss: LossFn, config: Training, env: Env, after_backward: Callable[[Position], None] | None,
    helpers: nn.Module | None,
) -> Trained:  # fmt: skip
    move(net, env.device, torch.channels_last)
    if helpers is not None:
        helpers.to(env.device)
    precision = choose_precision(config.precision, env.device)
    scaler = torch.amp.GradScaler(env.device, enabled=precision == "fp16")
    optimizer = make_optimizer(net, helpers, config)
    ema = Ema(net, config.ema_decay) if config.ema_decay else None
    state = State(net, optimizer, ema, scaler, helpers)
    batches = env.task.batches(
        config.batch, config.epochs, env.seed, config.workers, env.process_group.rank, env.process_group.size
    )
    tally = _resume(state, env)
    barrier(env.process_group)
    with closing(batches):
        loop = _Loop(state, loss, config, env, after_backward, precision, len(batches))
        while tally.epoch < config.epochs:
            if not loop.run_epoch(batches, tally):
                _roll_back(state, tally, env, loop.blamed)
    if ema is not None:
        net.load_state_dict(ema.average)
    move(net, "cpu", torch.contiguous_format).eval()
    for parameter in net.parameters():
        parameter.grad = None
    speed = tally.images / tally.seconds if tally.seconds else 0.0
    return Trained(
        curves=tuple(tally.curves),
        final=tally.curves[-1].metrics if tally.curves else Accuracy(),
        train_seconds=round(tally.seconds, 2),
        images_per_second=round(speed, 2),
        skipped_steps=tally.skipped,
        rollbacks=tally.rollbacks,
    )


def choose_precision(asked: str, device: str) -> str:
    """auto: bf16 (or fp16) on CUDA; fp32 on the CPU, where bf16 is faster with avx512_bf16 or AMX alone."""
    if asked != "auto":
        return "fp32" if asked == "fp16" and device == "cpu" else asked
    if device != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def make_optimizer(net: nn.Module, helpers: nn.Module | None, config: Training) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, AdamW, or SOAP; norms and biases carry no weight decay."""
    parameters = [p for m in (net, helpers) if m is not None for p in m.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), foreach=True)
    if config.optimizer == "soap":
        return Soap(groups, lr=config.lr, betas=(config.momentum, 0.95))
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, foreach=True
    )


def _resume(state: State, env: Env) -> _Tally:
    """Resume from the last checkpoint, or write the one to roll back to."""
    progress = checkpoint.load_last(
        env.scratch, state, lambda text: env.events.note(text, "warning", env.stage)
    )
    if progress is None:
        if env.process_group.rank == 0:
            checkpoint.save(env.scratch, 0, state, _Tally().to_json())
        return _Tally()
    tally = _Tally.of_json(progress)
    if tally.epoch:
        env.events.note(f"{env.stage}: resumes after epoch {tally.epoch}", stage=env.stage)
    return tally


def _roll_back(state: State, tally: _Tally, env: Env, blamed: str) -> None:
    """Back to the last epoch's end with half the learning rate. `blamed`: the terms of the last bad step."""
    if tally.rollbacks >= ROLLBACKS:
        raise StageError(
            f"{env.stage}: the loss is NaN or infinite after {ROLLBACKS} rollbacks (learning rate x{tally.lr_scale:g}): "
            f"{blamed}; lower stages.{env.stage}.lr, or the weight of the term"
        )
    progress = checkpoint.load_last(
        env.scratch, state, lambda text: env.events.note(text, "warning", env.stage)
    )
    if progress is not None:
        last = _Tally.of_json(progress)
        tally.epoch, tally.curves = last.epoch, last.curves
    tally.rollbacks += 1
    tally.lr_scale *= 0.5
    message = f"{env.stage}: {BAD_STEPS} steps in a row were NaN or infinite; back to epoch {tally.epoch}, half the learning rate"
    env.events.note(message, "warning", env.stage)


class _Loop:
    """One epoch after the other; holds what does not change between them."""

    def __init__(
        self, state: State, loss: LossFn, config: Training, env: Env, after_backward: Callable[[Position], None] | None,
        precision: str, steps: int,
    ) -> None:  # fmt: skip
        self.state, self.loss, self.config, self.env = state, loss, config, env
        self.after_backward, self.steps = after_backward, steps
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.model = _wrap(state.net, env)
        self.trained = [p for group in state.optimizer.param_groups for p in group["params"]]
        self.buffers = list(state.net.buffers())
        self.statistics = [b for b in self.buffers if b.is_floating_point()]
        self.saved = [b.clone() for b in self.buffers]
        self.board = Board(env) if env.process_group.rank == 0 else None
        self.last_event = 0.0
        self.bad = 0
        self.blamed = ""  # the terms of the last bad step

    def run_epoch(self, batches: Any, tally: _Tally) -> bool:
        """Train one epoch, evaluate, checkpoint. False when too many steps in a row were bad."""
        env, config, epoch = self.env, self.config, tally.epoch
        began = time.monotonic()
        if self.board and epoch and not self.board.replayed:
            self.board.replay(tally.curves)
        self.state.net.train()
        sums: dict[str, float] = {}
        good = images = 0
        for index, batch in enumerate(batches.epoch(epoch)):
            at = Position(epoch, config.epochs, epoch * self.steps + index, self.steps * config.epochs)
            terms = self._step(batch.to(env.device), at, tally)
            images += len(batch) * env.process_group.size
            if terms is None:
                if self.bad >= BAD_STEPS:
                    self.bad = 0
                    return False
                continue
            good += 1
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
            self._tell(at, terms, began, index)
        names = sorted(sums)
        means = dict(
            zip(names, average([sums[n] / max(1, good) for n in names], env.process_group), strict=True)
        )
        tally.seconds += time.monotonic() - began
        tally.images += images
        tally.epoch += 1
        last = tally.epoch == config.epochs
        due = last or (config.evaluate_every and tally.epoch % config.evaluate_every == 0)
        metrics = self._evaluate() if due and env.process_group.rank == 0 else Accuracy()
        tally.curves.append(Epoch(epoch=epoch, losses=dict(means), metrics=metrics))
        seconds = time.monotonic() - began
        env.events.emit(EpochEnded(env.stage, epoch, means, headline(metrics), seconds))
        if env.process_group.rank == 0:
            checkpoint.save(env.scratch, tally.epoch, self.state, tally.to_json())
            if self.board:
                self.board.epoch(epoch, means, metrics)
        barrier(env.process_group)
        return True

    def _step(self, batch: Any, at: Position, tally: _Tally) -> dict[str, float] | None:
        """One optimizer step; None when it was skipped because a gradient was not finite."""
        state, config = self.state, self.config
        rate = learning_rate(at, config.lr, config.final_lr, config.warmup_epochs) * tally.lr_scale
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        self._copy(self.saved, self.buffers)
        with torch.autocast(self.env.device, dtype=self.dtype, enabled=self.dtype is not None):
            terms = self.loss(self.model, batch, at)
        total = torch.stack(list(terms.values())).sum()
        state.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(state.scaler.scale(total))
        state.scaler.unscale_(state.optimizer)
        if state.helpers is not None:
            average_gradients(state.helpers, self.env.process_group)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, config.clip_norm, foreach=True)
        watched = (*terms.values(), total, norm, *self._statistics_norm())
        values = floats(torch.stack([t.detach().float() for t in watched]))
        # the terms of the processes differ: all must come to the same decision
        if average([float(all(map(math.isfinite, values)))], self.env.process_group)[0] < 1:
            return self._skip(terms, at, tally)
        if self.after_backward is not None:
            self.after_backward(at)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update()
        self.bad = 0
        named = (*terms, "total")
        return dict(zip(named, values[: len(named)], strict=True))

    def _statistics_norm(self) -> list[Tensor]:
        """The largest norm of the batch norms' statistics, if any: they can overflow while loss and gradients do not."""
        if not self.statistics:
            return []
        return [torch.stack(norms(self.statistics)).max()]  # NaN where one is

    def _skip(self, terms: Mapping[str, Tensor], at: Position, tally: _Tally) -> None:
        """Forget a bad step: neither weights nor statistics nor averages have seen it."""
        self._copy(self.buffers, self.saved)
        self.state.optimizer.zero_grad(set_to_none=True)
        self.state.scaler.update()
        tally.skipped += 1
        if self.dtype is torch.float16 and all(bool(torch.isfinite(t)) for t in terms.values()):
            return  # the loss scale was too high: part of mixed precision, not a fault
        self.bad += 1
        self.blamed = ", ".join(f"{n} {float(t.detach()):g}" for n, t in terms.items())
        self.env.events.note(
            f"{self.env.stage}: step {at.step} skipped, not finite ({self.blamed})", "warning", self.env.stage
        )

    @staticmethod
    def _copy(to: list[Tensor], of: list[Tensor]) -> None:
        if to:  # a network without batch norms has no buffers
            torch.ops.aten._foreach_copy_(to, of)

    def _evaluate(self) -> Accuracy:
        """Metrics on the validation split, with the averaged weights."""
        net = copy.deepcopy(self.state.net).eval()
        if self.state.ema is not None:
            net.load_state_dict(self.state.ema.average)
        return self.env.task.evaluate(torch_predictor(net, self.env.task, self.env.device), "val")

    def _tell(self, at: Position, terms: Mapping[str, float], began: float, index: int) -> None:
        now = time.monotonic()
        if now - self.last_event < EVENT_SECONDS:
            return
        self.last_event = now
        left = (now - began) / (index + 1) * (at.steps - at.step - 1)
        rate = self.state.optimizer.param_groups[0]["lr"]
        self.env.events.emit(
            Step(self.env.stage, at.step, at.steps, at.epoch, at.epochs, rate, dict(terms), left)
        )
        if self.board:
            self.board.step(at.step, terms, rate)


def _wrap(net: nn.Module, env: Env) -> nn.Module:
    if env.process_group.size == 1:
        return net
    devices = [torch.cuda.current_device()] if env.device == "cuda" else None
    return nn.parallel.DistributedDataParallel(net, device_ids=devices)
