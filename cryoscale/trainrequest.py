"""What a training is asked: its folder, settings, length, the weights it starts from; and the command that asks so."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryoscale.segment.settings import TrainSettings, settings_for

__all__ = ["Length", "Training", "number"]


@dataclasses.dataclass(frozen=True)
class Length:
    """How long to train: `steps` where given, else `minutes` of wall time."""

    minutes: float
    steps: int | None = None

    def __str__(self) -> str:
        """Return the option that asks for it."""
        return f"--steps {self.steps}" if self.steps is not None else f"--minutes {number(self.minutes)}"


@dataclasses.dataclass(frozen=True)
class Training:
    """What every training is asked."""

    output: Path
    """Folder of weights, card, log and curves; a checkpoint in it is continued."""
    settings: TrainSettings
    """Network and optimiser."""
    length: Length
    threads: int
    """Processor threads; 0 takes all."""
    start: str = ""
    """Weights to start from, of the same network or of one that sees fewer slices; "shipped" are cryoscale's own."""
    keep: float = 0.0
    """Share of these in the result (`segment.weights.blend`)."""

    @property
    def weights(self) -> Path:
        """Return the file of the result."""
        return self.output / f"{self.settings.model}.safetensors"

    def command(self, **sources: Sequence[str] | bool) -> str:
        """Return the command that trains so: `sources` and every other option that is not the default."""
        words = ["cryoscale", "train", "--output", "DIR", "--model", self.settings.model]
        for name, given in {**sources, **self._options()}.items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(given, bool):
                words += [option] if given else []
            elif len(given) == 1 and given[0].startswith("-"):
                words.append(f"{option}={given[0]}")
            elif given:
                words += [option, *given]
        return f"{shlex.join(words)} {self.length} --seed {self.settings.seed}"

    def _options(self) -> dict[str, list[str]]:
        """Words of each option that is about weights, network and optimiser, none where it is as usual."""
        settings, usual = self.settings, settings_for(self.settings.model)
        # What else is not usual comes with the weights that it starts from.
        network = {name: [str(settings.options[name])] for name in ("width", "slices_in") if name in settings.options}
        unusual = {
            name: [number(getattr(settings, name))]
            for name in ("learning_rate", "patience", "validate_every")
            if getattr(settings, name) != getattr(usual, name)
        }
        first = {"from": [self.start] if self.start else [], "keep": [number(self.keep)] if self.keep else []}
        return first | network | unusual | {"threads": [str(self.threads)] if self.threads else []}

    def knowing(self, data: str, **changed: Any) -> Training:
        """Return the training with the name of its data, so that a checkpoint made with others is refused."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, data=data, **changed))


def number(value: float) -> str:
    """Return a number in as few digits as give it back."""
    short = f"{value:g}"
    return short if isinstance(value, float) and float(short) == value else repr(value)
