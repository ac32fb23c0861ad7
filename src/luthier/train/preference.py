"""Direct preference optimisation: of two answers to a prompt, one is to become likelier than the other.

The loss of a pair is −log σ(β · (reward of the preferred answer − reward of the other)), where an answer's reward is how
much likelier it became than the base model has it: the log-probability of its trained tokens, summed, less the base's.
The base is the same network with its adapter off, or, where training goes on from an earlier adapter, with that one; it
is asked once before the first step. The two conversations of a pair share their prompt, so it is computed once for both.

Source: Rafailov et al. 2023 (arXiv 2305.18290), equation 7. Tensor legend: N trained positions of a flat row, P pairs; the
last axis of [P, 2] is preferred, other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from luthier.errors import Interrupted, TrainError
from luthier.model.chat_template import EncodedExample
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, RunFolder, write_atomically
from luthier.train.batch import flatten, parts_of_step
from luthier.train.encode import EncodedPair
from luthier.train.engine import Engine, open_engine
from luthier.train.processes import ALONE, Processes
from luthier.train.shares import dealt
from luthier.train.token_store import TokenStore, content_digest

Start = Literal["new", "earlier", "lost"]
"""Whether the adapter is new before the first step, an earlier one, or an earlier one that is at hand no more."""
REFERENCE = "reference.safetensors"
"""The file in a run's data folder that keeps what the base gives each answer."""


@dataclass(frozen=True, slots=True)
class ReferredPair:
    """A pair with what the base model gives its answers.

    Attributes:
        pair: the two conversations.
        base_preferred, base_other: the base's log-probability of each answer, in nats.
    """

    pair: EncodedPair
    base_preferred: float
    base_other: float


class ReferredPairs(Sequence[ReferredPair]):
    """Pairs with what the base model gives their answers, put together one at a time.

    Attributes:
        lengths: tokens computed for each pair.
    """

    def __init__(self, pairs: Sequence[EncodedPair], base_P2: Tensor) -> None:
        self._pairs, self._base_P2 = pairs, base_P2.numpy()
        self.lengths: NDArray[np.uint32] = (
            pairs.lengths
            if isinstance(pairs, TokenStore)
            else np.fromiter((pair.num_tokens for pair in pairs), np.uint32, len(pairs))
        )

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> ReferredPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[ReferredPair]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return ReferredPair(self._pairs[index], *self._base_P2[index].tolist())

    def __iter__(self) -> Iterator[ReferredPair]:
        return map(self.__getitem__, range(len(self)))


class Preferences:
    """The loss of direct preference optimisation, a mean over pairs.

    Args:
        beta: how strongly the model is held to its base.
        share_prefix: whether a beginning that conversations share is computed once.
    """

    def __init__(self, beta: float, *, share_prefix: bool = True) -> None:
        self._beta = beta
        self._share_prefix = share_prefix

    def num_tokens(self, row: ReferredPair) -> int:
        """Returns the tokens of the prompt and of both answers."""
        return row.pair.num_tokens

    def count(self, row: ReferredPair) -> int:  # noqa: ARG002 - the protocol's signature
        """Returns 1: the mean is over pairs."""
        return 1

    def place(self, row: ReferredPair) -> str:
        """Returns `file:line`."""
        return row.pair.place

    def examples(self, row: ReferredPair) -> tuple[EncodedExample, ...]:
        """Returns the two conversations."""
        return row.pair.preferred, row.pair.other

    def accumulate(self, engine: Engine, rows: Sequence[ReferredPair], total: int) -> Mapping[str, float]:
        """Adds the gradient of (sum of losses / total), and returns the sums of `_sums`."""
        batch = flatten(_conversations([row.pair for row in rows]), share_prefix=self._share_prefix)
        found: dict[str, float] = {}

        def weigh(logps_N: Tensor) -> Tensor:
            rewards_P2 = self._rewards(_answer_logps(rows, logps_N), rows)
            found.update(_sums(rewards_P2))
            # dloss/dmargin = −σ(−margin), and each token of an answer moves its reward by β.
            pull_P = torch.sigmoid(rewards_P2[:, 1] - rewards_P2[:, 0]) * (self._beta / total)
            pull_2P = torch.stack([-pull_P, pull_P], dim=1).flatten()
            return pull_2P.float()[batch.example_N]

        engine.accumulate(batch, weigh)
        return found

    def measure(self, engine: Engine, rows: Sequence[ReferredPair]) -> Mapping[str, float]:
        """Returns the same sums without a gradient."""
        batch = flatten(_conversations([row.pair for row in rows]), share_prefix=self._share_prefix)
        return _sums(self._rewards(_answer_logps(rows, engine.logps(batch)), rows))

    def _rewards(self, logps_P2: Tensor, rows: Sequence[ReferredPair]) -> Tensor:
        base_P2 = torch.tensor([[row.base_preferred, row.base_other] for row in rows], dtype=torch.float64)
        return self._beta * (logps_P2 - base_P2)


def answer_logps(
    engine: Engine,
    pairs: Sequence[EncodedPair],
    max_tokens: int,
    *,
    progress: Callable[[int], None] = lambda _: None,
    processes: Processes = ALONE,
) -> Tensor:
    """Returns the log-probability of each answer, summed over its trained tokens, float64 [P, 2].

    Several processes compute a part each at the same time, and all have the whole in the end.

    Args:
        engine: with the adapter on or off.
        pairs: to be looked at in this order.
        max_tokens: computed at once.
        progress: hears how many pairs are done, after each part.
        processes: who compute; each is given the same pairs.
    """
    found_P2 = torch.zeros(len(pairs), 2, dtype=torch.float64)
    done = 0
    for parts in dealt(parts_of_step(pairs, max_tokens, lambda pair: pair.num_tokens), processes.size):
        before = sum(map(len, parts[: processes.rank]))
        if processes.rank < len(parts):
            part = parts[processes.rank]
            logps_P2 = _answer_logps(part, engine.logps(flatten(_conversations(part))))
            found_P2[done + before : done + before + len(part)] = logps_P2
        elif processes.in_step:
            engine.logps(flatten(_conversations(parts[0])))
        done += sum(map(len, parts))
        progress(done)
    processes.sum(found_P2)
    return found_P2


def refer(
    model: LoadedModel,
    adapter: Adapter,
    sides: Mapping[str, Sequence[EncodedPair]],
    run: RunFolder,
    *,
    base: str,
    max_tokens: int,
    listener: Listener,
    start: Start = "new",
    stop_requested: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
) -> dict[str, ReferredPairs]:
    """Returns the pairs of each side with what the base gives their answers, computed once and kept in the run.

    Args:
        model: the frozen base with the adapter's layers in it.
        adapter: as it is before the first step.
        sides: name → pairs, in memory or in a token store.
        run: whose data folder keeps the file, whole or not at all; it is computed anew where it is damaged or of other
            rows.
        base: names the base's weights and their type, which the file belongs to.
        max_tokens: computed at once.
        listener: hears how far it is.
        start: a new adapter is switched off, so that the base alone is asked; an earlier one takes part.
        stop_requested: whether to stop at the next part.
        processes: who compute it together; the first one keeps it.

    Raises:
        Interrupted: a stop was asked for; nothing was written.
        TrainError: the file cannot be written; or it is needed anew and the adapter that training began with is lost.
    """
    path = run.data / REFERENCE
    digest = _digest(sides, base)
    kept = _kept(path, digest, sides, listener) if processes.is_first else None
    if processes.from_first(lambda: kept is not None):
        logps = processes.copy(kept)
    else:
        if start == "lost":
            raise TrainError(
                f"{path} is missing or damaged, and the adapter that this training began with has moved on.",
                code="reference_lost",
                param="adapter.start_from",
                hint="Start a new run.",
            )

        def tell(done: int, total: int) -> None:
            numbers = {"done": done, "total": total, "what": "reference"}
            listener(Event("progress", f"reference: the base has judged {done:,} of {total:,} pairs", numbers))
            if processes.any(stop_requested()):
                raise Interrupted(
                    f"Stopped before the first step; what is ready is saved in {run.path}.",
                    code="interrupted",
                    hint=f"Go on with `luthier run --resume {run.path}`.",
                )

        adapter.train(False)
        with adapter.disabled() if start == "new" else nullcontext():
            logps = _computed(open_engine(model, adapter), sides, max_tokens, tell, processes)
        if processes.is_first:
            _keep(path, logps, digest)
    return {side: ReferredPairs(pairs, logps[side]) for side, pairs in sides.items()}


def _keep(path: Path, logps: dict[str, Tensor], digest: str) -> None:
    """Writes what `_kept` reads.

    Raises:
        TrainError: it cannot be written.
    """
    try:
        write_atomically(path, save(logps, metadata={"sha256": digest}))
    except OSError as error:
        raise TrainError(
            f"{path} cannot be written: {error.strerror or error}.",
            code="reference_not_written",
            param="output.dir",
            hint="Make room or give the folder back its rights, then resume.",
        ) from error


def _computed(
    engine: Engine,
    sides: Mapping[str, Sequence[EncodedPair]],
    max_tokens: int,
    tell: Callable[[int, int], None],
    processes: Processes,
) -> dict[str, Tensor]:
    total = sum(map(len, sides.values()))
    logps: dict[str, Tensor] = {}
    for side, pairs in sides.items():
        # Side by side, so that the validation pairs are parted as they are when the loss is measured on them.
        before = sum(map(len, logps.values()))
        logps[side] = answer_logps(
            engine, pairs, max_tokens, progress=partial(_offset, tell, before, total), processes=processes
        )
    return logps


def _offset(tell: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    tell(before + done, total)


def _kept(
    path: Path, digest: str, sides: Mapping[str, Sequence[EncodedPair]], listener: Listener
) -> dict[str, Tensor] | None:
    """Returns what the file holds, or None where there is none that is whole and about these pairs."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("sha256") == digest:
                logps = {side: file.get_tensor(side) for side in sides}
                if all(logps[side].shape == (len(pairs), 2) for side, pairs in sides.items()):
                    return logps
        problem = "it is about other rows or another base"
    except (OSError, SafetensorError) as error:
        problem = str(error)
    listener(Event("warning", f"{path} cannot be used ({problem}); it is computed anew."))
    return None


def _digest(sides: Mapping[str, Sequence[EncodedPair]], base: str) -> str:
    """Returns the sha256 of all that the base's log-probabilities depend on."""
    sha = hashlib.sha256(base.encode())
    for side, pairs in sides.items():
        content = pairs.content if isinstance(pairs, TokenStore) else content_digest(pairs)
        sha.update(f"\0{side} {len(pairs)} {content}".encode())
    return sha.hexdigest()


def _conversations(pairs: Sequence[EncodedPair]) -> list[EncodedExample]:
    return [row for pair in pairs for row in (pair.preferred, pair.other)]


def _answer_logps(rows: Sequence[ReferredPair | EncodedPair], logps_N: Tensor) -> Tensor:
    """Returns the sums over each answer's tokens [P, 2], in float64."""
    pairs = [row.pair if isinstance(row, ReferredPair) else row for row in rows]
    counts = [row.num_trained for row in _conversations(pairs)]
    return torch.stack([part.sum() for part in logps_N.cpu().double().split_with_sizes(counts)]).view(-1, 2)


def _sums(rewards_P2: Tensor) -> dict[str, float]:
    """Returns sums over pairs: of the loss, of both rewards and their difference, and of the pairs whose preferred answer
    has the greater reward. (TRL's names: rewards/chosen, rewards/rejected, rewards/margins, rewards/accuracies.)"""
    margins_P = rewards_P2[:, 0] - rewards_P2[:, 1]
    return {
        "loss": float(F.softplus(-margins_P).sum()),
        "reward_preferred": float(rewards_P2[:, 0].sum()),
        "reward_other": float(rewards_P2[:, 1].sum()),
        "reward_margin": float(margins_P.sum()),
        "reward_accuracy": float((margins_P > 0).sum()),
    }
