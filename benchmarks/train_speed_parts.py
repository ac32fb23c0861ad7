"""Who takes part in `benchmarks/train_speed.py`, what they need, and what the project demands of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

TRAINER = "trl"
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    TRAINER: (
        "torch==2.13.0",
        "transformers==5.24.0",
        "peft==0.21.2",
        "trl==1.16.0",
        "accelerate==1.15.0",
        "datasets==5.2.0",
    ),
    "llama-factory": ("torch==2.13.0", "llamafactory==0.9.5"),
    "litgpt": ("torch==2.13.0", "litgpt==0.5.13"),
    "torchtune": ("torch==2.13.0", "torchtune==0.6.1", "torchao==0.10.0"),
}
"""What is installed for the peers, by the name of the environment."""
REMOVED: dict[str, tuple[str, ...]] = {"llama-factory": ("torchvision", "torchaudio")}
"""What is taken out again: the package index has builds for CUDA, which cannot be imported beside a torch for the CPU."""


@dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        name: of it in the table.
        title: for people.
        runs: a contender of `train_speed_contenders.py`.
        environment: whose Python runs it; None for Luthier's own.
        settings: for it, `name=value`.
        long_settings: the same where rows are long.
        tcmalloc: whether it runs under another allocator (LD_PRELOAD), where that is installed.
    """

    name: str
    title: str
    runs: str
    environment: str | None = TRAINER
    settings: tuple[str, ...] = ()
    long_settings: tuple[str, ...] | None = None
    tcmalloc: bool = False

    @property
    def makes_other_steps(self) -> bool:
        """Whether its steps are of other rows than everybody's."""
        return any(setting.startswith(("packing=", "group=")) for setting in self.settings)

    def settings_for(self, workload: str) -> tuple[str, ...]:
        return self.long_settings if self.long_settings is not None and workload in LONG else self.settings


OURS = "luthier"
LONG = ("tools-glaive",)
# Chosen by `train_speed_search.py`. Long rows take 8 GB without checkpointing, and its page faults cost more than the
# work done twice.
TUNED = ("checkpointing=no", "weights=bfloat16", "autocast=no", "adapter=bfloat16", "attention=eager")
TUNED_LONG = ("checkpointing=yes", "weights=bfloat16", "autocast=no", "adapter=bfloat16")
CONTENDERS = (
    Contender("luthier", "**Luthier**", "luthier", environment=None),
    Contender("trl", "TRL, its defaults", "trl"),
    Contender("trl-tuned", "TRL, tuned, tcmalloc", "trl", settings=TUNED, long_settings=TUNED_LONG, tcmalloc=True),
    Contender("trainer", "transformers' Trainer + PEFT", "trainer"),
    Contender("llama-factory", "LLaMA-Factory", "llama-factory", "llama-factory"),
    Contender("litgpt", "LitGPT", "litgpt", "litgpt"),
    Contender("torchtune", "torchtune", "torchtune", "torchtune"),
)


@dataclass(frozen=True)
class Demand:
    """How many times as fast as a contender Luthier has to be."""

    workload: str
    contender: str
    at_least: float


DEMANDS = (
    Demand("nba-sql-exec", "trl", 6),
    Demand("nba-sql-exec", "trl-tuned", 3),
    Demand("snips-json", "trl", 5),
    Demand("snips-json", "trl-tuned", 2.5),
    Demand("snips-unshared", "trl-tuned", 2),
    Demand("tools-glaive", "trl", 4),
    Demand("tools-glaive", "trl-tuned", 2),
)
MOST_MEMORY = 0.6
"""Of what TRL's defaults take, on each workload."""
LEAST_SHARE = 0.7
"""Of the measured rate of bfloat16 products, on the short rows: hoped for, not demanded."""

MOST_OTHERS, ATTEMPTS = 0.1, 3
"""Where other programs took more of the processors' time than this, it is measured again, so often at most."""


@dataclass(frozen=True)
class Measured:
    """One process.

    Attributes:
        seconds, losses: of each step.
        first_step_s: from the start of the process to the end of the first step.
        peak_mb: the most memory that it had resident, as the kernel counts it.
        others: what share of the processors' time other programs took at the steps after the first, on average.
        about: what was set, in its own words.
    """

    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    first_step_s: float
    peak_mb: float
    others: float
    about: str


@dataclass
class Results:
    """All measurements, by workload and contender, a list with one item a round; and what they depend on.

    Attributes:
        counts: of each workload (`train_speed_rows.Counts`).
        measured: what each contender took.
        products: the machine's rates of matrix products.
        first_losses: of each workload, by whoever was measured first.
        failed: why a contender has no figures.
        versions: of what each contender ran.
    """

    counts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    measured: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)
    products: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    first_losses: dict[str, tuple[str, float]] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
