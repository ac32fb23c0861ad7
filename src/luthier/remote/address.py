"""Where a model answers: `SERVICE:MODEL`, or `URL#MODEL`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from luthier.errors import RecipeError

NOTATION = "Write SERVICE:MODEL, such as openai:gpt-4o-mini, or URL#MODEL, such as http://localhost:8000/v1#my-model."


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is known by name.

    Attributes:
        base_url: what its paths follow.
        key_variable: the environment variable with the key to it.
        needs_key: whether it answers nobody without one.
    """

    base_url: str
    key_variable: str
    needs_key: bool = True


SERVICES = {
    "openai": Service("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "fireworks": Service("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "mistral": Service("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "nebius": Service("https://api.tokenfactory.nebius.com/v1", "NEBIUS_API_KEY"),
    "together": Service("https://api.together.ai/v1", "TOGETHER_API_KEY"),
    "ollama": Service("http://localhost:11434/v1", "OLLAMA_API_KEY", needs_key=False),
}
"""The services that have names. All others go by their address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A model of a service.

    Attributes:
        text: as it was given; it never holds a key.
        service: the service's name, or None where it is known by its address alone.
        base_url: what the service's paths follow.
        model: as the service calls it.
        key_variable: the environment variable with the key to this service, and to no other.
        needs_key: whether it answers nobody without one.
    """

    text: str
    service: str | None
    base_url: str
    model: str
    key_variable: str
    needs_key: bool


def is_remote(text: str) -> bool:
    """Whether a text is meant to name a model of a service, rightly spelled or not; else it is a local model's name."""
    if "://" in text:
        return True
    name, colon, _ = text.partition(":")
    if not colon or Path(text).expanduser().exists():
        return False
    return name.lower() in SERVICES or bool(re.fullmatch(r"[A-Za-z][\w.-]+", name))


def read_address(text: str, *, param: str | None = None) -> Address:
    """Returns the model of a service that a text names.

    Args:
        text: `SERVICE:MODEL` with one of `SERVICES`, or `URL#MODEL`. Where a URL has no path, `/v1` is added.
        param: where it was given, for messages.

    Raises:
        RecipeError: code "bad_source", with the nearest name.
    """
    return _by_url(text.strip(), param) if "://" in text else _by_name(text.strip(), param)


def _by_name(text: str, param: str | None) -> Address:
    given, colon, model = text.partition(":")
    name = given.lower()
    if not colon or name not in SERVICES:
        near = difflib.get_close_matches(name, SERVICES, n=1, cutoff=0.6)
        guess = f"Did you mean {near[0]}:{model or 'MODEL'}? " if near else ""
        raise _bad(
            f"There is no service named {given!r}.", param, f"{guess}Services: {', '.join(SERVICES)}. {NOTATION}"
        )
    if not model.strip():
        raise _bad(f"{text!r} names no model.", param, f"Write {name}:MODEL.")
    service = SERVICES[name]
    return Address(
        f"{name}:{model.strip()}", name, service.base_url, model.strip(), service.key_variable, service.needs_key
    )


def _by_url(text: str, param: str | None) -> Address:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(f"The address of a service cannot be read: {error}.", param, NOTATION) from None
    if "@" in parts.netloc or parts.query:
        raise _bad(
            "The address of a service holds a password or a query.",
            param,
            "Keys stand in environment variables alone, so that no file and no message holds them. " + NOTATION,
        )
    if parts.scheme not in ("http", "https") or not host:
        raise _bad(f"{text!r} is no http or https address.", param, NOTATION)
    model = parts.fragment.strip()
    if not model:
        raise _bad(f"{text!r} names no model.", param, f"Write {text.rstrip('#')}#MODEL.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    base_url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    for name, service in SERVICES.items():
        if service.base_url == base_url:
            return Address(text, name, base_url, model, service.key_variable, service.needs_key)
    host = f"{host}_{port}" if port and host in ("localhost", "127.0.0.1", "::1") else host
    variable = "LUTHIER_KEY_" + re.sub(r"[^A-Z0-9]+", "_", host.upper()).strip("_")
    return Address(text, None, base_url, model, variable, needs_key=False)


def _bad(message: str, param: str | None, hint: str) -> RecipeError:
    return RecipeError(message, code="bad_source", param=param, hint=hint)
