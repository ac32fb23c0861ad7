"""Which rows each step takes: a function of the seed and of the rows' lengths alone, so that a resumed run goes on there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.train.batch import epoch_order, shuffled, steps_of_epoch
from luthier.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Course:
    """The steps of a run.

    Attributes:
        settings: seed, batch size, window, share of replayed rows.
        lengths: tokens of each training row, then of each row that can be replayed.
        num_rows: how many of them are training rows.
    """

    settings: TrainSettings
    lengths: NDArray[np.uint32]
    num_rows: int

    @property
    def steps_an_epoch(self) -> int:
        """Steps that take every training row once."""
        return self.settings.steps_an_epoch(self.num_rows)

    def steps(self, epoch: int, *, first: int = 0) -> Iterator[NDArray[np.int32]]:
        """Yields the rows of each step of an epoch from the step `first` on, as places in `lengths`."""
        return steps_of_epoch(self.order(epoch), self.settings.batch_size, first=first)

    def order(self, epoch: int) -> NDArray[np.int32]:
        """Returns the rows of an epoch, in the order in which steps take them.

        With a window of more than one step, the rows of that many steps are sorted by length and the steps are shuffled
        again: the rows of a step are then alike in length, and which step comes when is still left to chance. What does
        not fill a step comes last, and is not sorted.
        """
        settings = self.settings
        replayed = settings.num_replayed(self.num_rows)
        order = epoch_order(self.num_rows + replayed, seed=settings.seed, epoch=epoch)
        if replayed:
            picked = self._replayed(epoch * replayed, replayed)
            order = np.concatenate([np.arange(self.num_rows, dtype=np.int32), picked])[order]
        full = len(order) // settings.batch_size * settings.batch_size
        if settings.length_window == 1 or not full:
            return order
        window = np.arange(full, dtype=np.int32) // (settings.length_window * settings.batch_size)
        alike = order[:full][np.lexsort((self.lengths[order[:full]], window))].reshape(-1, settings.batch_size)
        alike = alike[shuffled(len(alike), f"{settings.seed}/{epoch}/steps")]
        return np.concatenate([alike.ravel(), order[full:]])

    def _replayed(self, start: int, count: int) -> NDArray[np.int32]:
        """Returns the next rows to replay: each is taken once, in a shuffled order, before any is taken again."""
        available = len(self.lengths) - self.num_rows
        rounds = range(start // available, -(-(start + count) // available))
        orders = [shuffled(available, f"{self.settings.seed}/replay/{number}") for number in rounds]
        start -= rounds[0] * available
        return np.concatenate(orders)[start : start + count] + np.int32(self.num_rows)
