"""One contender of `benchmarks/generation.py`, in a process of its own; it prints what it took as a line of JSON.

    python generation_contenders.py NAME PROMPTS.json --model FOLDER --rows N --new N [--gguf FILE]

Contenders but the first do without Luthier. All read the same token ids, choose greedily and stop at the same token.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as Luthier's command line sets it; it helps all of them

Prompts = list[list[int]]
Answers = list[list[int]]
END = 2
LORA_R = 16


def luthier(
    arguments: argparse.Namespace, *, adapted: bool, dtype: str
) -> tuple[Callable[[Prompts], Answers], list[str]]:
    from luthier.model.generation.generator import Generator
    from luthier.model.generation.prompt import Options, Prompt
    from luthier.model.loader import load_model
    from luthier.model.lora import LoraConfig, attach

    model = load_model(arguments.model, dtype)
    adapter = None
    if adapted:
        # B is zero: the answers stay those of the base, the work is that of an adapter.
        adapter = attach(model.network, LoraConfig(r=LORA_R, lora_alpha=LORA_R), seed=1)
    generator = Generator(model, adapter, max_rows=arguments.rows)

    def answer(prompts: Prompts) -> Answers:
        found = {one.index: one for one in generator.answer([Prompt(ids) for ids in prompts], Options(arguments.new))}
        return [found[index].ids + [END] * (found[index].finish_reason == "stop") for index in range(len(prompts))]

    return answer, ["luthier", "torch"]


def transformers(arguments: argparse.Namespace) -> tuple[Callable[[Prompts], Answers], list[str]]:
    import torch
    from transformers import AutoModelForCausalLM

    _keep_freed_memory()
    network = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16).eval()

    @torch.inference_mode()
    def answer(prompts: Prompts) -> Answers:
        answers: Answers = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        for start in range(0, len(order), arguments.rows):
            batch = order[start : start + arguments.rows]
            longest = max(len(prompts[index]) for index in batch)
            filling = [longest - len(prompts[index]) for index in batch]
            ids = torch.tensor([[END] * n + prompts[index] for n, index in zip(filling, batch, strict=True)])
            mask = torch.tensor([[0] * n + [1] * (longest - n) for n in filling])
            out = network.generate(
                ids, attention_mask=mask, max_new_tokens=arguments.new, do_sample=False, pad_token_id=END
            )
            for index, row in zip(batch, out[:, longest:].tolist(), strict=True):
                answers[index] = row[: row.index(END) + 1] if END in row else row
        return answers

    return answer, ["transformers", "torch"]


def llama_cpp(arguments: argparse.Namespace) -> tuple[Callable[[Prompts], Answers], list[str]]:
    """llama.cpp as a server uses it: continuous batching, the beginning that all share computed once."""
    import llama_cpp as lib
    import numpy as np

    lib.llama_backend_init()
    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    model = lib.llama_model_load_from_file(str(arguments.gguf).encode(), lib.llama_model_default_params())
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def answer(prompts: Prompts, kept: Any = quiet) -> Answers:  # llama.cpp does not hold on to the function
        settings = lib.llama_context_default_params()
        longest = max(map(len, prompts)) + arguments.new
        settings.n_ctx = (arguments.rows + 1) * longest
        settings.n_batch, settings.n_ubatch, settings.n_seq_max = 2048, 512, arguments.rows + 1
        settings.n_threads = settings.n_threads_batch = os.cpu_count()
        settings.kv_unified = True
        context = lib.llama_init_from_model(model, settings)
        memory = lib.llama_get_memory(context)
        batch = lib.llama_batch_init(2048, 0, 1)
        answers: Answers = [[] for _ in prompts]

        def add(token: int, position: int, sequence: int, wanted: bool) -> int:
            place = batch.n_tokens
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, position, 1
            batch.seq_id[place][0], batch.logits[place] = sequence, wanted
            batch.n_tokens += 1
            return place

        shared = 0
        if len(prompts) > 1:
            while all(shared < len(ids) - 1 and ids[shared] == prompts[0][shared] for ids in prompts):
                shared += 1
        if shared:
            batch.n_tokens = 0
            for position in range(shared):
                add(prompts[0][position], position, 0, False)
            assert lib.llama_decode(context, batch) == 0
        waiting, free = list(range(len(prompts)))[::-1], list(range(1, arguments.rows + 1))
        inside: dict[int, int] = {}  # from sequence to prompt
        while waiting or inside:
            batch.n_tokens = 0
            places = {}
            for sequence, index in inside.items():
                position = len(prompts[index]) + len(answers[index]) - 1
                places[sequence] = add(answers[index][-1], position, sequence, True)
            while waiting and free and batch.n_tokens + len(prompts[waiting[-1]]) - shared <= 512:
                index, sequence = waiting.pop(), free.pop()
                if shared:
                    lib.llama_memory_seq_cp(memory, 0, sequence, 0, shared)
                ids = prompts[index]
                for position in range(shared, len(ids)):
                    places[sequence] = add(ids[position], position, sequence, position == len(ids) - 1)
                inside[sequence] = index
            assert lib.llama_decode(context, batch) == 0
            for sequence, place in places.items():
                logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, place), (vocabulary,))
                index = inside[sequence]
                answers[index].append(int(logits.argmax()))
                if answers[index][-1] == END or len(answers[index]) == arguments.new:
                    lib.llama_memory_seq_rm(memory, sequence, 0, -1)
                    free.append(sequence)
                    del inside[sequence]
        lib.llama_batch_free(batch)
        lib.llama_free(context)
        return answers

    return answer, ["llama_cpp_python"]


def _busy_s() -> float:
    """Seconds that the processors have worked, for whomever."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class _Pause:
    """Watches for the process being stopped as a whole, which whoever shares a machine may do."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._last = time.perf_counter()
        threading.Thread(target=self._watch, daemon=True).start()

    def longest_s(self) -> float:
        return self._longest_s

    def _watch(self) -> None:
        while True:
            time.sleep(0.1)
            now = time.perf_counter()
            self._longest_s, self._last = max(self._longest_s, now - self._last), now


def _keep_freed_memory() -> None:
    """The setting of the C library that makes transformers faster, too."""
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((-3, 1 << 30), (-1, 2**31 - 1), (-2, 64 << 20)):
        mallopt(option, value)


CONTENDERS: dict[str, Callable[[argparse.Namespace], tuple[Callable[[Prompts], Answers], list[str]]]] = {
    "luthier": lambda arguments: luthier(arguments, adapted=False, dtype="bfloat16"),
    "luthier-adapter": lambda arguments: luthier(arguments, adapted=True, dtype="bfloat16"),
    "luthier-float32": lambda arguments: luthier(arguments, adapted=False, dtype="float32"),
    "transformers": transformers,
    "llama.cpp": llama_cpp,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--new", type=int, required=True)
    arguments = parser.parse_args()
    prompts: Prompts = json.loads(arguments.prompts.read_text())
    answer, packages = CONTENDERS[arguments.contender](arguments)
    answer(prompts[:2])  # what is made at the first call only
    pause = _Pause()
    started, spent, busy = time.perf_counter(), time.process_time(), _busy_s()
    answers = answer(prompts)
    seconds = time.perf_counter() - started
    others = (_busy_s() - busy - (time.process_time() - spent)) / seconds / (os.cpu_count() or 1)
    said: dict[str, Any] = {
        "seconds": seconds,
        "tokens": sum(map(len, answers)),
        "others": others,
        "pause": pause.longest_s(),
        "answers": answers,
        "versions": {name: metadata.version(name) for name in packages},
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
