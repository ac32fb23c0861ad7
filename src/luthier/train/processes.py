"""The processes that train one adapter together, as each of them sees it.

Nothing here needs torch: a process alone is the ordinary case. Several of them are a `luthier.train.process_group`.

Each process runs the same code and computes its share of each step's rows. Wherever their ways could part, they meet:
they exchange what they found, and whoever failed since they last met says so instead. So they decide everything alike, and
none waits for one that has failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from luthier.errors import TrainError

if TYPE_CHECKING:
    from torch import Tensor

_Made = TypeVar("_Made")


class Abandoned(Exception):  # noqa: N818 - it is not a fault
    """Another process cannot finish the pass that all are in; `values` is what `exchange` would have returned."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__("another process cannot finish this pass")
        self.values = values


class Processes:
    """One process alone, and what several have to offer.

    Attributes:
        rank: its number; the first one, 0, alone writes to the disk and tells what goes on.
        size: how many there are.
        in_step: whether each pass over a batch needs all of them, because the frozen base is split among them.
        meetings: how often they exchanged something, the same in all.
    """

    rank: int = 0
    size: int = 1
    in_step: bool = False
    meetings: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all processes, by rank; they are made of what JSON has. None stands for one that abandoned a
        pass.

        Raises:
            LuthierError: of a process that failed.
        """
        return [value]

    def any(self, flag: bool) -> bool:
        """Whether it is true for any of them."""
        return any(self.exchange(flag))

    def from_first(self, make: Callable[[], Any]) -> Any:
        """Returns what the first one makes, of JSON's kinds; the others wait for it, however long it takes."""
        return make()

    def in_turn(self, make: Callable[[], _Made]) -> _Made:
        """Returns what each makes: first the first one, however long it takes, then the others, who find what it wrote."""
        return make()

    def sum(self, vector: Tensor) -> None:
        """Replaces a vector by its sum over all processes, the same bits in each."""

    def copy(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Returns the tensors that the first one gives; the others give None."""
        return dict(tensors or {})

    def gather(self, part: Tensor, whole: Tensor, number: int) -> None:  # noqa: ARG002 - for those who are several
        """Fills `whole` with the equal parts of all processes, by rank; all must ask for the same number.

        Raises:
            Abandoned: another cannot finish the pass of which this is a part.
        """
        whole.copy_(part)

    def fail(self, error: Exception) -> bool:  # noqa: ARG002 - for those who are several
        """Tells the others, when they next meet, that this one has failed. Returns whether the first one tells it."""
        return False


ALONE = Processes()


def started() -> tuple[int, int]:
    """Returns this process's number and how many were started together, as torchrun's environment variables say."""
    if not all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def num_beside() -> int:
    """Returns how many of the processes share this machine, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started()[1] > 1 else 1


def out_of_step() -> TrainError:
    """Returns the error of processes that should have done the same and did not."""
    return TrainError(
        "The processes of this training fell out of step.",
        code="processes_out_of_step",
        hint="They must run the same version on the same run folder. Resume the run; the last checkpoint stands.",
    )
