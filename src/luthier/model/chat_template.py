"""From messages to token ids, exactly as inference renders them, and which of the tokens are trained.

The text is rendered once by the model's own chat template through transformers and tokenized once, so the ids are the
transformers renderer's by construction. The trained characters of a turn are those between the end of its generation
prompt (what inference stands behind when the model begins to write) and the end of its end-of-turn token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from luthier.errors import DataError, ModelError

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as the model sees it.

    Attributes:
        ids: token ids, int64 [T].
        trained: whether the loss covers the token, bool [T]; the first token never is.
        place: `file:line` of the row, for messages.
    """

    ids: NDArray[np.int64]
    trained: NDArray[np.bool_]
    place: str

    @property
    def num_trained(self) -> int:
        """Tokens the loss covers."""
        return int(self.trained.sum())

    @property
    def last_answer_tokens(self) -> int:
        """Tokens of the last trained turn, its end token included."""
        untrained = np.flatnonzero(~self.trained[: int(np.flatnonzero(self.trained)[-1])])
        return int(np.flatnonzero(self.trained)[-1] - (untrained[-1] if len(untrained) else -1))

    def __len__(self) -> int:
        return len(self.ids)


class ChatTokenizer:
    """A tokenizer with its chat template.

    Args:
        folder: a model folder with tokenizer files.

    Raises:
        ModelError: no tokenizer, no chat template, or a template that cannot be rendered.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} has no usable tokenizer: {error}", code="no_tokenizer") from error
        if not self.tokenizer.is_fast:
            raise ModelError(f"{folder} has only a slow tokenizer without offsets.", code="slow_tokenizer")
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{folder} has no chat template, so nobody can say how a conversation is written for it.",
                code="no_chat_template",
                param="model.base",
                hint="Use an instruction-tuned model, or put a chat_template.jinja beside its tokenizer.",
            )
        self._special_ids = {
            index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special
        } | set(self.tokenizer.all_special_ids)
        self.end_of_turn_id = self._find_end_of_turn()

    @property
    def end_of_turn(self) -> str:
        """The token that ends an assistant's turn, as text."""
        return str(self.tokenizer.convert_ids_to_tokens(self.end_of_turn_id))

    @property
    def chat_template(self) -> str:
        """The template's text."""
        return str(self.tokenizer.chat_template)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None, *, generation_prompt: bool = False
    ) -> str:
        """Returns the conversation as the text the model reads.

        Raises:
            DataError: the template refuses this conversation; the message is the template's own.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(
                for_template(messages),
                tools=list(tools) if tools else None,
                tokenize=False,
                add_generation_prompt=generation_prompt,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(
                f"The model's chat template refuses this conversation: {error}.",
                code="template_refuses",
                hint="Change the order of roles, or choose a model whose template allows it.",
            ) from error
        return text

    def encode_prompt(self, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> list[int]:
        """Returns the ids of a conversation that the assistant is to continue."""
        text = self.render(messages, tools, generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def encode_example(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None, *, place: str = ""
    ) -> EncodedExample:
        """Returns the ids of a conversation and the mask of its trained tokens.

        Trained are each assistant turn's tokens from the end of its generation prompt up to and with the end-of-turn
        token, unless the message's `weight` is 0. A token that lies across the border belongs to the turn.

        Raises:
            DataError: the template refuses the conversation, drops a part of it, or no token would be trained.
            ModelError: the template does not end the assistant's turn with a special token, so the model would never
                learn to stop.
        """
        text = self.render(messages, tools)
        self._check_nothing_dropped(text, messages, tools, place)
        spans = [
            self._turn_span(text, messages, tools, index)
            for index, message in enumerate(messages)
            if message.get("role") == "assistant" and message.get("weight", 1) != 0
        ]
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.asarray(encoding.input_ids, dtype=np.int64)
        offsets = np.asarray(encoding.offset_mapping, dtype=np.int64).reshape(-1, 2)
        trained = np.zeros(len(ids), dtype=np.bool_)
        for start, end in spans:
            inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
            ending = [position for position in inside if int(ids[position]) in self._special_ids]
            if not ending:
                raise ModelError(
                    f"{place}: the chat template does not end an assistant turn with a special token, so the model "
                    "would never learn to stop.",
                    code="no_end_token",
                    param="model.base",
                    hint="Choose a model whose template writes its end-of-turn token.",
                )
            trained[inside[0] : ending[-1] + 1] = True
        trained[:1] = False
        if not trained.any():
            raise DataError(
                f"{place}: no token of this example would be trained.",
                code="nothing_trained",
                hint="Give at least one assistant message without `weight: 0`.",
            )
        return EncodedExample(ids, trained, place)

    def turn_text(self, messages: Sequence[Message], tools: Sequence[Message] | None, index: int) -> str:
        """Returns the assistant turn `index` as the model would have to write it, without its end-of-turn token."""
        text = self.render(messages[: index + 1], tools)
        start, end = self._turn_span(text, messages[: index + 1], tools, index)
        turn, end_token = text[start:end], self.end_of_turn
        return turn[: turn.rindex(end_token)] if end_token in turn else turn

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of generated ids, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _turn_span(
        self, text: str, messages: Sequence[Message], tools: Sequence[Message] | None, index: int
    ) -> tuple[int, int]:
        """Returns where the assistant turn `index` begins and ends in the rendered text, in characters.

        Most templates write turns one after another, so the text before the turn is a prefix of the whole. Where it is
        not (a template that rewrites earlier turns, or an assistant that speaks first), the turn is found by rendering
        the conversation twice with other words in its place: what differs is the turn.
        """
        if index > 0:
            before = self.render(messages[:index], tools, generation_prompt=True)
            through = text if index == len(messages) - 1 else self.render(messages[: index + 1], tools)
            if text.startswith(before) and text.startswith(through):
                return len(before), len(through)
        one, other = (
            self.render([*messages[:index], {"role": "assistant", "content": word}, *messages[index + 1 :]], tools)
            for word in ("\u0251\u0251", "\u0252\u0252")
        )
        start = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        end_of_marker = start + 2
        tail = one[end_of_marker:]
        next_turn = tail.find(self.end_of_turn)
        tail = tail[next_turn:] if next_turn >= 0 else tail
        if not (text.startswith(one[:start]) and text.endswith(tail)):
            raise DataError(
                f"The chat template renders message {index + 1} in a way whose trained part cannot be told apart.",
                code="template_opaque",
                hint="Set `weight: 0` on that message, or choose another model.",
            )
        end = len(text) - len(tail)
        return start, end + len(self.end_of_turn) if text.startswith(self.end_of_turn, end) else end

    def _check_nothing_dropped(
        self, text: str, messages: Sequence[Message], tools: Sequence[Message] | None, place: str
    ) -> None:
        """A template that leaves something out would do so in silence: compare what went in with what came out."""
        wanted = [
            (f"message {number} ({message['role']})", part)
            for number, message in enumerate(for_template(messages), 1)
            for part in [str(message.get("content") or "").strip()]
            + [str(call["function"]["name"]) for call in message.get("tool_calls") or []]
        ]
        wanted += [
            ("the functions in `tools`", str(tool.get("function", tool).get("name", ""))) for tool in tools or ()
        ]
        for what, part in wanted:
            if part and part not in text:
                raise DataError(
                    f"{place}: the model's chat template leaves out {what}.",
                    code="template_drops_content",
                    hint="The model would never see it. Choose a model whose template renders it, or remove it.",
                )

    def _find_end_of_turn(self) -> int:
        """Returns the id of the token that ends an assistant's turn in this template."""
        probe = [{"role": "user", "content": "\u0251"}, {"role": "assistant", "content": "\u0252"}]
        text = self.render(probe)
        ids: list[int] = self.tokenizer(text[text.index("\u0252") + 1 :], add_special_tokens=False).input_ids
        ending = [index for index in ids if index in self._special_ids]
        if not ending:
            raise ModelError(
                "The chat template does not end an assistant turn with a special token, so a model trained on it would "
                "never learn to stop.",
                code="no_end_token",
                param="model.base",
                hint="Choose a model whose template writes its end-of-turn token.",
            )
        return ending[0]


def for_template(messages: Sequence[Message]) -> list[Message]:
    """Returns messages in the shape chat templates expect.

    OpenAI's wire format and transformers' templates differ in four places: text parts are joined, an absent content is
    the refusal or an empty text, a call's arguments are an object rather than JSON text (a template would quote them
    twice), and `developer` is the newer name of `system`. `weight` is OpenAI's, not the template's.
    """
    adapted = []
    for message in messages:
        new = {key: value for key, value in message.items() if key != "weight"}
        if new.get("role") == "developer":
            new["role"] = "system"
        content = new.get("content")
        if content is None:
            new["content"] = new.pop("refusal", None) or ""
        elif isinstance(content, list):
            new["content"] = "".join(part.get("text", "") for part in content)
        if new.get("tool_calls"):
            new["tool_calls"] = [_call_with_object(call) for call in new["tool_calls"]]
        adapted.append(new)
    return adapted


def _call_with_object(call: Message) -> Message:
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"])
    return {**call, "function": function}
