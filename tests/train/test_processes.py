"""Two processes train as one: the same loss and adapter within float32 rounding, and none waits for one that failed."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.errors import LuthierError, TrainError
from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.model.loader import base_bytes, load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train.encode import EncodedPair
from luthier.train.loop import train
from luthier.train.objective import ANSWERS, Answers
from luthier.train.preference import Preferences, refer
from luthier.train.process_group import joined
from luthier.train.processes import ALONE, Processes
from luthier.train.shares import rounds, share_out

pytestmark = pytest.mark.unit
ROUNDING = 2e-5
"""How far sums of float32 in another order may drift apart in a dozen steps, relative to the largest number."""


# What the processes do. Each function runs in both of them, and in the test's own process alone.


def finish(processes, folder, rows, settings, out, *, preferences=False, stop_after=None, objective=ANSWERS, dropout=0.0,
           config=None, sharded=False):  # fmt: skip
    """Trains to the end, or to a step, and returns the adapter, what was measured, and how far it came."""
    run = RunFolder(Path(out))
    run.data.mkdir(parents=True, exist_ok=True)
    model = load_model(folder, "float32", ChatTokenizer(folder), holders=processes if sharded else None)
    adapter = attach(model.network, config or LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout), seed=5)
    sides = {"train": rows[: len(rows) * 3 // 4], "validation": rows[len(rows) * 3 // 4 :]}
    if preferences:
        sides = refer(model, adapter, sides, run, base="x", max_tokens=60, listener=no_listener, processes=processes)
        objective = Preferences(0.1)
    asked = iter(range(1, 1000))
    # Only the last process is asked to stop.
    stop = (lambda: next(asked) >= stop_after and processes.rank == processes.size - 1) if stop_after else lambda: False
    heard = []
    progress = train(model, adapter, sides["train"], sides["validation"], settings, run, listener=heard.append,
                     objective=objective, stop_requested=stop, processes=processes)  # fmt: skip
    lines = read_lines(run.metrics) if processes.is_first else []
    state = {name: value.numpy() for name, value in adapter.state().items()}
    warnings = [event.message for event in heard if event.kind == "warning"]
    return state, lines, dataclasses.asdict(progress), warnings


def fail_in_second(processes, kind):
    processes.exchange("together")
    if processes.rank == 1:
        if kind == "luthier":
            raise TrainError("The second one failed.", code="of_the_second", hint="Look there.")
        if kind == "bug":
            raise ValueError("a bug")
        os.kill(os.getpid(), signal.SIGKILL)
    processes.sum(torch.ones(3))


def say(processes, long):
    values = processes.exchange({"rank": processes.rank, "text": "x" * long, "nan": float("nan")})
    first = processes.from_first(lambda: processes.rank + 7)
    copied = processes.copy({"a": torch.arange(5), "b": torch.ones(2, 3)} if processes.is_first else None)
    vector = torch.full((3,), float(processes.rank + 1))
    processes.sum(vector)
    flags = processes.any(processes.rank == 1), processes.any(False)
    return values, first, {name: tensor.tolist() for name, tensor in copied.items()}, vector.tolist(), flags


def serve(rank, port, pipe):
    """Does what the test asks for, in one of two processes."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    with contextlib.suppress(EOFError):
        while True:
            function, args, kwargs = pipe.recv()
            try:
                with joined() as processes:
                    found = function(processes, *args, **kwargs)
            except LuthierError as error:
                pipe.send(("error", type(error).__name__, error.code, error.message, error.told))
            except Exception as error:  # noqa: BLE001 - the test looks at it
                pipe.send(("error", type(error).__name__, None, str(error), False))
            else:
                pipe.send(("ok", found))


class Pair:
    """Two processes that wait for something to do."""

    def __init__(self):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        spawn = multiprocessing.get_context("spawn")
        self.pipes, self.members = [], []
        for rank in range(2):
            mine, its = spawn.Pipe()
            self.pipes.append(mine)
            self.members.append(spawn.Process(target=serve, args=(rank, port, its), daemon=True))
            self.members[-1].start()
            its.close()

    def outcomes(self, function, *args, seconds=120, **kwargs):
        for pipe in self.pipes:
            pipe.send((function, args, kwargs))
        found = []
        for pipe in self.pipes:
            assert pipe.poll(seconds), "a process hangs"
            try:
                found.append(pipe.recv())
            except EOFError:
                found.append(("dead",))
        return found

    def both(self, function, *args, **kwargs):
        found = self.outcomes(function, *args, **kwargs)
        assert [outcome[0] for outcome in found] == ["ok", "ok"], found
        return [outcome[1] for outcome in found]

    def end(self):
        for member in self.members:
            member.kill()
            member.join()


@pytest.fixture(scope="module")
def pair():
    made = Pair()
    yield made
    made.end()


@pytest.fixture
def short_lived():
    made = Pair()
    yield made
    made.end()


@pytest.fixture(scope="module")
def pairs():
    generator = np.random.default_rng(0)
    system = generator.integers(3, 260, 12)

    def answer(prompt, length, place):
        ids = np.concatenate([prompt, generator.integers(3, 260, length)])
        return EncodedExample(ids, np.arange(len(ids)) >= len(prompt), place)

    found = []
    for number in range(8):
        prompt = np.concatenate([system, generator.integers(3, 260, 10 + number)])
        place = f"pairs.jsonl:{number + 1}"
        found.append(EncodedPair(answer(prompt, 5, place), answer(prompt, 9 - number % 3, place)))
    return found


def assert_equal(one, other, tolerance=ROUNDING):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.abs(value - other[name]).max() <= tolerance * max(1.0, np.abs(value).max()), name


def assert_same_lines(one, other, rel=1e-5):
    assert len(one) == len(other) > 0
    for line, its in zip(one, other, strict=True):
        assert line.keys() == its.keys()
        for name in line.keys() - {"seconds"}:
            assert line[name] == pytest.approx(its[name], rel=rel, abs=1e-6), name


def test_what_they_exchange(pair):
    for long in (3, 5000):
        for values, first, copied, vector, flags in pair.both(say, long):
            assert [(v["rank"], len(v["text"])) for v in values] == [(0, long), (1, long)]
            assert all(np.isnan(v["nan"]) for v in values)
            assert first == 7
            assert copied == {"a": [0, 1, 2, 3, 4], "b": [[1.0] * 3] * 2}
            assert vector == [3.0] * 3
            assert flags == (True, False)


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_two_processes_end_with_the_adapter_of_one(pair, tiny_model_folder, rows, pairs, settings, tmp_path, method):
    given = pairs if method == "dpo" else rows
    preferences = {"preferences": method == "dpo"}
    alone = finish(ALONE, tiny_model_folder, given, settings, tmp_path / "one", **preferences)
    first, second = pair.both(finish, tiny_model_folder, given, settings, tmp_path / "two", **preferences)
    assert all(np.array_equal(value, second[0][name]) for name, value in first[0].items())  # the same bits in both
    assert_equal(first[0], alone[0])
    assert_same_lines(first[1], alone[1])
    assert first[2]["trained_tokens"] == alone[2]["trained_tokens"]


def test_fewer_rows_than_processes(pair, tiny_model_folder, rows, settings, tmp_path):
    """Steps of one row, and a single validation row."""
    small = dataclasses.replace(settings, batch_size=1, n_epochs=2)
    alone = finish(ALONE, tiny_model_folder, rows[:4], small, tmp_path / "one")
    first, _ = pair.both(finish, tiny_model_folder, rows[:4], small, tmp_path / "two")
    assert_equal(first[0], alone[0])
    assert_same_lines(first[1], alone[1])


def test_parts_of_a_step_add_up_over_processes(pair, tiny_model_folder, rows, settings, tmp_path):
    small = dataclasses.replace(settings, max_batch_tokens=60)
    alone = finish(ALONE, tiny_model_folder, rows, settings, tmp_path / "one")
    first, _ = pair.both(finish, tiny_model_folder, rows, small, tmp_path / "two")
    assert_equal(first[0], alone[0])
    assert_same_lines(first[1], alone[1])


@pytest.mark.parametrize("before", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes(pair, tiny_model_folder, rows, settings, tmp_path, before):
    """Stopped in one and resumed in two, or the other way round: a stop that one process is asked for stops all."""
    whole = finish(ALONE, tiny_model_folder, rows, settings, tmp_path / "whole")
    arguments = tiny_model_folder, rows, settings, tmp_path / "parts"
    if before == 1:
        with pytest.raises(LuthierError, match="after step 5 "):
            finish(ALONE, *arguments, stop_after=5)
        (found, lines, *_), _ = pair.both(finish, *arguments)
    else:
        stopped = pair.outcomes(finish, *arguments, stop_after=5)
        assert [outcome[1:3] for outcome in stopped] == [("Interrupted", "interrupted")] * 2
        assert all("after step 5 " in outcome[3] for outcome in stopped)
        assert [outcome[4] for outcome in stopped] == [False, True]  # the first one tells it
        found, lines, *_ = finish(ALONE, *arguments)
    assert_equal(found, whole[0])
    assert_same_lines(lines, whole[1])


def test_a_run_resumed_by_as_many_processes_ends_with_the_same_bytes(pair, tiny_model_folder, rows, settings, tmp_path):
    whole, _ = pair.both(finish, tiny_model_folder, rows, settings, tmp_path / "whole", dropout=0.1)
    pair.outcomes(finish, tiny_model_folder, rows, settings, tmp_path / "parts", dropout=0.1, stop_after=4)
    parts, _ = pair.both(finish, tiny_model_folder, rows, settings, tmp_path / "parts", dropout=0.1)
    assert all(np.array_equal(value, whole[0][name]) for name, value in parts[0].items())


CONFIGS = {
    "lora": LoraConfig(r=4, lora_alpha=8),
    "dora": LoraConfig(r=4, lora_alpha=8, use_dora=True),
    "upper layer": LoraConfig(r=4, lora_alpha=8, layers_to_transform=(1,)),
    "generic": LoraConfig(r=4, lora_alpha=8, use_dora=True, lora_dropout=1e-9),  # dropout with DoRA is not fused
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_split_base_gives_the_same_adapter(pair, tiny_model_folder, rows, settings, tmp_path, config):
    few = dataclasses.replace(settings, n_epochs=1, max_batch_tokens=60)
    arguments = tiny_model_folder, rows, few
    whole, _ = pair.both(finish, *arguments, tmp_path / "whole", config=config)
    split, other = pair.both(finish, *arguments, tmp_path / "split", config=config, sharded=True)
    assert_equal(split[0], whole[0])
    assert all(np.array_equal(value, other[0][name]) for name, value in split[0].items())
    alone = finish(ALONE, *arguments, tmp_path / "one", config=config)
    assert_equal(split[0], alone[0])


def test_a_split_base_learns_preferences(pair, tiny_model_folder, pairs, settings, tmp_path):
    """Two pairs a step and five in all: now and then a process has nothing to compute and takes part all the same."""
    small = dataclasses.replace(settings, batch_size=2, n_epochs=1)
    arguments = tiny_model_folder, pairs[:5], small
    whole, _ = pair.both(finish, *arguments, tmp_path / "whole", preferences=True)
    split, _ = pair.both(finish, *arguments, tmp_path / "split", preferences=True, sharded=True)
    assert_equal(split[0], whole[0])


def held(processes, folder):
    """Returns the bytes that a process holds of a base that is split, and of one that is not."""
    return [base_bytes(load_model(folder, "float32", holders=given).network) for given in (processes, None)]


def test_each_process_holds_its_part_of_a_split_base(pair, tiny_model_folder):
    layers = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) * 4
    for split, whole in pair.both(held, tiny_model_folder):
        assert whole - split == layers / 2


class Cramped(Answers):
    """Memory runs out in one process, on parts of more than so many tokens, after some calls."""

    def __init__(self, rank, limit, *, early=False):
        self.rank, self.limit, self.early, self.calls = rank, limit, early, 0

    def accumulate(self, engine, rows, total):
        self.calls += 1
        mine = torch.distributed.is_initialized() and torch.distributed.get_rank() == self.rank
        too_large = mine and self.calls > 2 and sum(map(len, rows)) > self.limit
        if too_large and self.early:
            raise MemoryError
        numbers = super().accumulate(engine, rows, total)
        if too_large:
            raise MemoryError
        return numbers


@pytest.mark.parametrize("early", [False, True], ids=["at the end", "at the beginning"])
@pytest.mark.parametrize("sharded", [False, True], ids=["whole base", "split base"])
@pytest.mark.parametrize("rank", [0, 1])
def test_where_memory_runs_out_in_one_all_take_the_step_again(
    pair, tiny_model_folder, rows, settings, tmp_path, rank, sharded, early
):
    objective = Cramped(rank, max(map(len, rows)), early=early)
    alone = finish(ALONE, tiny_model_folder, rows, settings, tmp_path / "one")
    first, second = pair.both(
        finish, tiny_model_folder, rows, settings, tmp_path / "two", objective=objective, sharded=sharded
    )
    assert_equal(first[0], alone[0])
    assert_same_lines(first[1], alone[1], rel=1e-4)
    assert first[2]["max_batch_tokens"] == second[2]["max_batch_tokens"] < settings.max_batch_tokens
    assert first[3]
    assert "Memory ran out" in first[3][0]


class Poisoned(Answers):
    """A row's loss is not a number, or one process cannot compute it."""

    def __init__(self, place, error=None):
        self._place, self._error = place, error

    def accumulate(self, engine, rows, total):
        bad = any(row.place == self._place for row in rows)
        if bad and self._error is not None:
            raise self._error
        sums = dict(super().accumulate(engine, rows, total))
        return sums | {"loss": float("nan")} if bad else sums


@pytest.mark.parametrize("sharded", [False, True], ids=["whole base", "split base"])
def test_a_loss_that_is_not_finite_ends_all_with_its_row(pair, tiny_model_folder, rows, settings, tmp_path, sharded):
    found = pair.outcomes(
        finish, tiny_model_folder, rows, settings, tmp_path, objective=Poisoned(rows[3].place), sharded=sharded
    )
    assert [outcome[:3] for outcome in found] == [("error", "TrainError", "loss_not_finite")] * 2
    assert all("it comes from words.jsonl:4." in outcome[3] for outcome in found)


@pytest.mark.parametrize("sharded", [False, True], ids=["whole base", "split base"])
@pytest.mark.parametrize("error", [MemoryError(), ValueError("no such thing")], ids=["memory", "bug"])
def test_an_error_in_the_rows_of_one_ends_all(pair, tiny_model_folder, rows, settings, tmp_path, error, sharded):
    objective = Poisoned(rows[3].place, error)
    found = pair.outcomes(finish, tiny_model_folder, rows, settings, tmp_path, objective=objective, sharded=sharded)
    assert all(outcome[0] == "error" for outcome in found)
    wanted = "single row: words.jsonl:4" if isinstance(error, MemoryError) else "no such thing"
    assert all(wanted in outcome[3] for outcome in found)
    assert pair.both(say, 3)  # they are still of use


def test_a_checkpoint_that_the_first_cannot_write_ends_all(pair, tiny_model_folder, rows, settings, tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    found = pair.outcomes(finish, tiny_model_folder, rows, settings, tmp_path)
    assert [outcome[:3] for outcome in found] == [("error", "TrainError", "checkpoint_not_written")] * 2
    assert [outcome[4] for outcome in found] == [False, True]


@pytest.mark.parametrize("kind", ["luthier", "bug"])
def test_one_that_fails_is_not_waited_for(pair, kind):
    started = time.monotonic()
    first, second = pair.outcomes(fail_in_second, kind, seconds=30)
    assert time.monotonic() - started < 30
    if kind == "luthier":
        assert first[1:4] == second[1:4] == ("TrainError", "of_the_second", "The second one failed.")
    else:
        assert first[2:4] == ("process_failed", "Process 1 failed: ValueError: a bug")
        assert second[1] == "ValueError"
    assert pair.both(say, 3)


def test_one_that_is_killed_is_not_waited_for(short_lived):
    first, second = short_lived.outcomes(fail_in_second, "kill", seconds=60)
    assert first[2] == "process_lost"
    assert second == ("dead",)


def row_of(*pieces, trained=4, place="x:1"):
    ids = np.concatenate([np.arange(piece[0], piece[0] + piece[1]) for piece in pieces])
    return EncodedExample(ids, np.arange(len(ids)) >= len(ids) - trained, place)


def test_groups_with_a_beginning_of_their_own_are_not_torn_apart():
    groups = [row_of((1000 * group, 200), (50 * number, 20)) for number in range(4) for group in (1, 2)]
    shares = share_out(groups, ANSWERS, 2)
    assert [{int(row.ids[0]) for row in share} for share in shares] in ([{1000}, {2000}], [{2000}, {1000}])


def test_rows_without_a_common_beginning_are_spread_by_length():
    lengths = [100, 90, 80, 30, 20, 10, 10, 5]
    shares = share_out([row_of((1000 * n, length)) for n, length in enumerate(lengths)], ANSWERS, 2)
    assert sorted(sum(map(len, share)) for share in shares) == [170, 175]


@pytest.mark.parametrize("num_shares", [1, 2, 3, 8])
def test_every_row_is_computed_once(rows, pairs, num_shares):
    for given, objective in ((rows, ANSWERS), (pairs, Preferences(0.1))):
        given = [p if objective is ANSWERS else Referred(p) for p in given]
        for limit in (1, 60, 4096):
            parts = [part for together in rounds(given, limit, objective, num_shares) for part in together]
            assert sorted(objective.place(row) for part in parts for row in part) == sorted(map(objective.place, given))
            again = [part for together in rounds(given, limit, objective, num_shares) for part in together]
            assert parts == again
            assert all(len(part) <= 1 or sum(map(objective.num_tokens, part)) <= limit for part in parts)


@dataclasses.dataclass(frozen=True)
class Referred:
    pair: EncodedPair


def test_one_process_alone_has_nothing_to_wait_for():
    alone = Processes()
    assert alone.exchange(3) == [3]
    assert alone.in_turn(lambda: 4) == alone.from_first(lambda: 4) == 4
    vector = torch.ones(2)
    alone.sum(vector)
    assert vector.tolist() == [1.0, 1.0]
    assert not alone.fail(ValueError())
