"""The rows of a run as the model sees them, kept on disk so that training holds a few bytes of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow
from luthier.errors import DataError, RecipeError
from luthier.model.chat_template import ChatTokenizer
from luthier.recipe import Recipe
from luthier.runs import Listener, RunFolder
from luthier.stages.preparing import Prepared
from luthier.stages.reading import method_of
from luthier.train.encode import Encoded, Method, RowStream, tokenizer_digest
from luthier.train.token_store import TokenStore, digest_of, open_token_store, write_token_store


@dataclass(frozen=True, slots=True)
class Tokens:
    """The sides of a run as token ids, in stores: conversations, or pairs of them. What is replayed is conversations."""

    train: Encoded[Any]
    validation: Encoded[Any]
    test: Encoded[Any]
    replay: Encoded[Any]

    @property
    def rejected(self) -> list[RejectedRow]:
        """Rows that were left out as too long."""
        return [*self.train.rejected, *self.validation.rejected, *self.test.rejected, *self.replay.rejected]

    @property
    def train_rows(self) -> TokenStore[Any]:
        """The training rows."""
        assert isinstance(self.train.encoded, TokenStore)
        return self.train.encoded


def tokenize_stage(
    run: RunFolder, chat: ChatTokenizer, recipe: Recipe, prepared: Prepared, context_length: int, listener: Listener
) -> Tokens:
    """Returns the rows of a run as token ids, from `tokens/` in its folder; what is not there yet is encoded.

    Args:
        run: whose folder keeps them. They are encoded anew where they were made from other rows, by another tokenizer or
            with other options, or are damaged.
        chat: writes conversations as the model reads them.
        recipe: says how long a row may be.
        prepared: the rows.
        context_length: of the model, in tokens.
        listener: hears of a damaged store.

    Raises:
        RecipeError: `model.max_length` is longer than the model's context.
        DataError: rows are too long and not to be dropped, or are refused by the chat template; or none is left to train on.
        TrainError: the disk is full, or the folder cannot be written.
    """
    max_length = context_length if recipe.model.max_length == "auto" else recipe.model.max_length
    if max_length > context_length:
        raise RecipeError(
            f"model.max_length={max_length:,} is longer than the model's context of {context_length:,} tokens.",
            code="invalid_value",
            param="model.max_length",
            hint=f"At most {context_length}.",
        )
    drop = recipe.data.on_too_long == "drop"
    tokenizer = tokenizer_digest(chat)
    vocabulary_size = max(chat.tokenizer.get_vocab().values()) + 1

    def encoded(side: str, examples: Sequence[Example], method: Method) -> Encoded[Any]:
        folder = run.path / "tokens" / side
        made_from = digest_of(prepared.digests[side], tokenizer, method, str(max_length), str(drop))
        store = open_token_store(folder, made_from=made_from, listener=listener)
        if store is None:
            rows = RowStream(chat, examples, method=method, max_length=max_length, drop_too_long=drop)
            store = write_token_store(
                folder,
                rows,
                vocabulary_size=vocabulary_size,
                made_from=made_from,
                pairs=method == "dpo",
                too_long=rows.too_long,
            )
        return Encoded.of(examples, store, store.too_long, max_length=max_length)

    split = prepared.split
    method, _ = method_of(split.train)
    tokens = Tokens(
        train=encoded("train", split.train, method),
        validation=encoded("validation", split.validation, method),
        test=encoded("test", split.test, method),
        replay=encoded("replay", prepared.replay, "supervised") if prepared.replay else Encoded([], [], []),
    )
    if not tokens.train.encoded:
        raise _none_short_enough("training row", max_length)
    if prepared.replay and not tokens.replay.encoded:
        raise _none_short_enough("row of train.replay", max_length)
    return tokens


def _none_short_enough(what: str, max_length: int) -> DataError:
    return DataError(
        f"No {what} has at most {max_length:,} tokens.",
        code="no_training_rows",
        param="model.max_length",
        hint="Raise model.max_length, or shorten the examples.",
    )
