"""A conversation with a model, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.chat import content_text
from luthier.model.generation.generator import Generator
from luthier.model.generation.prompt import Options, Prompt, Sampling
from luthier.runs import Listener
from luthier.stages.opening import Overrides, load_opened, open_model
from luthier.stages.reading import read_checked


class Conversation:
    """Messages so far, and the model that continues them.

    Args:
        name: a base model's name or folder, a run folder, or an adapter folder.
        system: the system prompt; by default the one that all training rows of the run share, if they do.
        overrides: `model.…` values.
        listener: hears of fetches.
    """

    def __init__(self, name: str, *, system: str | None, overrides: Overrides, listener: Listener) -> None:
        opened = open_model(name, overrides, listener)
        self._model, adapter = load_opened(opened)
        self._generator = Generator(self._model, adapter, max_rows=1)
        if system is None and opened.run:
            prompts = {
                content_text(e.messages[0]) if e.messages[0]["role"] in ("system", "developer") else ""
                for e in read_checked(opened.run.data / "train.jsonl")
            }
            system = prompts.pop() if len(prompts) == 1 else None
        self.system = system or None
        self.messages: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        """Forgets the conversation, not the system prompt."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def say(
        self, text: str, *, max_new_tokens: int = 512, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0
    ) -> Iterator[str]:
        """Yields the answer piece by piece; the conversation remembers both sides once it is whole.

        Raises:
            DataError: the conversation does not fit the model's context.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        chat = self._model.chat
        prompt = Prompt(chat.encode_prompt(messages), Sampling(temperature, top_p, seed))
        room = self._model.context_length - len(prompt.ids)
        ids: list[int] = []
        told = ""
        for piece in self._generator.stream([prompt], Options(min(max_new_tokens, max(room, 1)))):
            if piece.finish_reason == "stop":
                break
            ids.append(piece.token)
            answer = chat.decode(ids)
            if not answer.endswith("\ufffd"):  # half a character waits for its other half
                yield answer[len(told) :]
                told = answer
        answer = chat.decode(ids)
        if answer != told:
            yield answer[len(told) :]
        self.messages = [*messages, {"role": "assistant", "content": answer}]
