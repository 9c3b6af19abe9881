"""The state of a training, kept in one safetensors file: weights, Adam's moments, the best weights so far, the log.

Where torch's processes are many (``torchrun``), each steps on its own crops and DDP averages the gradients; the first
one validates and writes.

A training that goes on from such a file makes the same steps as one that was never stopped, to the bit on a CPU: the
file holds all that a step depends on besides the seed and the number of the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cryoscale.errors import UsageError
from cryoscale.segment.losses import Objective, multiplies_bfloat16
from cryoscale.segment.models import build_model
from cryoscale.segment.network import Network
from cryoscale.segment.settings import TrainSettings
from cryoscale.segment.twohead import TwoHead
from cryoscale.segment.weights import read_tensors, write_bytes

__all__ = ["Row", "State"]

Row = dict[str, float]
"""One line of the log."""


class State:
    """Network, optimiser, step, log; `stale` counts the validations since the best one."""

    def __init__(self, settings: TrainSettings, device: str) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.network: Network = build_model(settings.model, **settings.options)
        self.layout = torch.channels_last_3d if self.network.dims == 3 else torch.channels_last
        self.network.to(device=device, memory_format=self.layout)  # type: ignore[call-overload]
        mixed = settings.mixed and multiplies_bfloat16(device)
        self.objective: nn.Module = Objective(self.network, dice_weight=settings.dice_weight, mixed=mixed)
        self.rank, self.processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.processes > 1:
            # Steps without labels leave the label decoder without gradients.
            self.objective = DistributedDataParallel(
                self.objective, find_unused_parameters=isinstance(self.network, TwoHead)
            )
        self.adam = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.999))
        self.step, self.seconds, self.stale = 0, 0.0, 0
        self.best: dict[str, Tensor] = {}
        self.log: list[Row] = []
        self.losses: dict[str, list[float]] = {}
        """Of the steps since the newest line of the log, by name."""

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    @property
    def seed(self) -> list[int]:
        """Seed of this process's next batch."""
        return [self.settings.seed, self.step, *([self.rank] if self.rank else [])]

    def agreed(self, value: float) -> float:
        """Value of the process that leads: clocks differ, and all must stop at one step."""
        if self.processes == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def step_on(self, images: Tensor, classes: Tensor | None, learning_rate: float) -> float:
        """One step of Adam on a batch; returns the loss. What has no gradient is left as it is."""
        self.adam.param_groups[0]["lr"] = learning_rate
        self.network.train()
        images = images.to(self.device, memory_format=self.layout)
        loss = self.objective(images, None if classes is None else classes.to(self.device))
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        self.step += 1
        return float(loss.detach())

    def note(self, row: Row) -> None:
        """Add a line to the log, and with `patience` keep the weights if they are the best so far."""
        if self.settings.patience:
            losses = [old["validation_loss"] for old in self.log]
            if not losses or row["validation_loss"] < min(losses):
                self.best, self.stale = _copied(self.network.state_dict()), 0
            else:
                self.stale += 1
        self.log.append(row)
        self.losses.clear()

    def result(self) -> Network:
        """Return the trained network, the best where one was kept, on the CPU in evaluation mode."""
        if self.best:
            self.network.load_state_dict(self.best)
        return self.network.cpu().eval()

    def save(self, path: Path) -> None:
        """Write the state."""
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, moments in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
        facts = {
            "settings": _plain(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "stale": self.stale,
            "log": self.log,
            "losses": self.losses,
        }
        tensors["facts"] = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        write_bytes(path, save(_copied(tensors)))

    def restore(self, path: Path) -> None:
        """Continue from a file that `save` wrote for the same settings.

        Raises
        ------
        UsageError
            If the file is damaged or of another training.
        """
        tensors = read_tensors(path)
        try:
            facts: dict[str, Any] = json.loads(tensors.pop("facts").numpy().tobytes())
            _require_same(path, dict(facts["settings"]), _plain(self.settings))
            moments: dict[int, dict[str, Tensor]] = {}
            for name in [name for name in tensors if name.startswith("adam.")]:
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensors.pop(name)
            self.network.load_state_dict(_part(tensors, "model."), strict=True)
            self.adam.load_state_dict({**self.adam.state_dict(), "state": moments})
            self.best = _part(tensors, "best.")
            self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
            self.stale, self.log, self.losses = int(facts["stale"]), list(facts["log"]), dict(facts.get("losses", {}))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _another(path, str(error), "what a training wrote") from error


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """Return settings as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps({**asdict(settings), "options": dict(settings.options)}))
    return plain


def _require_same(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse other settings than ours; only those that differ are told."""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if names:
        found, allowed = (", ".join(f"{name} {of.get(name)!r}" for name in names) for of in (theirs, ours))
        raise _another(path, found, allowed)


def _another(path: Path, found: str, allowed: str) -> UsageError:
    return UsageError(
        "not a checkpoint of this training",
        where=str(path),
        found=found,
        allowed=allowed,
        todo="remove it to start anew, or train with the settings it was made with",
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
