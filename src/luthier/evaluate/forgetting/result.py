"""What a probe found, whole."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.evaluate.forgetting.measures import Manner, PairedMeasure, ProseMeasure
from luthier.evaluate.forgetting.verdict import Judgement


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What base and fine-tuned model make of a probe.

    Attributes:
        probe: `builtin`, or the path of a person's own.
        judgement: verdict, reason, advice and the signs that they rest on.
        prose: None where the probe has none.
        paired: pairs, questions, completions and tasks, those that the probe has.
        manner: of the answers to tasks, where there are any.
        notes: what was left out, and what a reader must know.
        seconds: it took.
    """

    probe: str
    judgement: Judgement
    prose: ProseMeasure | None
    paired: tuple[PairedMeasure, ...]
    manner: Manner | None
    notes: tuple[str, ...]
    seconds: float
