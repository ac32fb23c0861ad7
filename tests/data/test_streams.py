from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from luthier.data.reading import streams, unpacking
from luthier.data.reading.streams import Source, opened, unreadable
from luthier.errors import DataError

pytestmark = pytest.mark.unit

Write = Callable[..., Path]
TEXT = b"".join(b'{"prompt": "number %d", "completion": "%d"}\n' % (number, number * 7919) for number in range(200))
OTHER = b"a second part\n" * 50
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of its own, which must be empty at the end of every test."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def read(path: str | Path) -> tuple[bytes, Source]:
    with opened(path, param="data.train") as source:
        assert source.file.seekable()
        assert source.file.tell() == 0
        content = source.file.read()
        assert source.path.read_bytes() == content
    return content, source


def refused(path: str | Path) -> DataError:
    with pytest.raises(DataError) as caught, opened(path, param="data.train"):
        pytest.fail("it opened")
    assert caught.value.param == "data.train"
    assert caught.value.hint
    return caught.value


def test_a_plain_file_is_opened_as_it_is(write: Write, temporary: Path) -> None:
    path = write(TEXT)
    with opened(path, param="data.train") as source:
        assert source.path == path
        assert source.name == str(path)
        assert (source.compression, source.damage) == (None, None)
        assert source.file.read() == TEXT
        assert not list(temporary.iterdir())
    assert source.file.closed
    assert path.exists()


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["data.jsonl.gz", "data.jsonl.zst", "data.jsonl", "data"])
def test_a_packed_file_is_known_by_its_bytes_whatever_its_name(
    write: Write, temporary: Path, packer: str, name: str
) -> None:
    content, source = read(write(PACKERS[packer](TEXT), name))
    assert content == TEXT
    assert (source.compression, source.damage) == (packer, None)
    assert not source.path.exists()
    assert not list(temporary.iterdir())


def test_a_plain_file_with_a_packed_name_is_plain(write: Write) -> None:
    content, source = read(write(TEXT, "data.jsonl.gz"))
    assert (content, source.compression) == (TEXT, None)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.csv.gz", ".csv"), ("a.parquet", ".parquet"), ("a.b c.gz", ""), ("a", "")]
)
def test_the_temporary_file_keeps_the_ending_that_says_what_is_inside(write: Write, name: str, suffix: str) -> None:
    _, source = read(write(gzip.compress(TEXT), name))
    assert source.path.suffix == suffix


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("num_members", [2, 3, 700])
def test_members_and_frames_one_after_another_are_one_file(write: Write, packer: str, num_members: int) -> None:
    content, source = read(write(PACKERS[packer](TEXT) + PACKERS[packer](OTHER) * (num_members - 1)))
    assert content == TEXT + OTHER * (num_members - 1)
    assert source.damage is None


@pytest.mark.parametrize("packer", PACKERS)
def test_a_hundred_thousand_empty_members_take_seconds_not_hours(write: Write, packer: str) -> None:
    started = time.monotonic()
    content, source = read(write(PACKERS[packer](b"") * 100_000 + PACKERS[packer](TEXT)))
    assert (content, source.damage) == (TEXT, None)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("packer", PACKERS)
def test_large_content_survives(write: Write, packer: str) -> None:
    large = os.urandom(3_000_000) + bytes(1_000_000) + TEXT * 20
    content, source = read(write(PACKERS[packer](large)))
    assert content == large
    assert source.damage is None


@pytest.mark.parametrize("program", [("gzip", "-9"), ("zstd", "-19"), ("zstd", "--no-check"), ("zstd", "-T2", "-1")])
def test_what_the_command_line_programs_pack_is_read(write: Write, program: tuple[str, ...]) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"the program {program[0]} is not here")
    large = TEXT * 500
    packed = subprocess.run([*program, "-c"], input=large, stdout=subprocess.PIPE, check=True).stdout
    content, source = read(write(packed))
    assert content == large
    assert source.damage is None


def test_skippable_frames_of_zstd_are_skipped(write: Write) -> None:
    skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    pack = PACKERS["zstd"]
    content, source = read(write(skippable + pack(TEXT) + skippable + pack(OTHER) + skippable))
    assert (content, source.damage, source.compression) == (TEXT + OTHER, None, "zstd")


def test_zeros_after_gzip_are_padding(write: Write) -> None:
    content, source = read(write(gzip.compress(TEXT) + bytes(100_000)))
    assert (content, source.damage) == (TEXT, None)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("end", [b"\0\0\0\0\0x", b"not packed", TEXT])
def test_something_else_after_the_stream_is_told(write: Write, packer: str, end: bytes) -> None:
    content, source = read(write(PACKERS[packer](TEXT) + end))
    assert content == TEXT
    assert "something else" in str(source.damage)


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", PACKERS)
def test_cut_off_anywhere_nothing_readable_is_lost(write: Write, packer: str) -> None:
    first, second = PACKERS[packer](TEXT), PACKERS[packer](OTHER)
    whole = first + second
    magic_length = 2 if packer == "gzip" else 4
    longest = 0
    for end in range(magic_length, len(whole)):
        content, source = read(write(whole[:end]))
        if end == len(first):
            assert source.damage is None
        else:
            assert "cut off" in str(source.damage)
            assert f"{end:,}" in str(source.damage)
        assert (TEXT + OTHER).startswith(content)
        assert len(content) >= longest
        longest = len(content)
        if end >= len(first):
            assert content.startswith(TEXT)
        if packer == "gzip":
            assert content == readable_gzip(whole[:end])


def readable_gzip(data: bytes) -> bytes:
    """What zlib itself can read of a stream that ends too early."""
    content = b""
    while data:
        member = zlib.decompressobj(31)
        content += member.decompress(data)
        data = member.unused_data
    return content


@pytest.mark.parametrize("packer", PACKERS)
def test_a_wrong_checksum_costs_no_content(write: Write, packer: str) -> None:
    packed = bytearray(PACKERS[packer](TEXT))
    packed[-6 if packer == "gzip" else -1] ^= 0xFF
    content, source = read(write(bytes(packed) + PACKERS[packer](OTHER)))
    assert content == TEXT
    assert "damaged" in str(source.damage)
    assert "check" in str(source.damage)


def test_a_flipped_byte_anywhere_costs_only_what_zlib_cannot_read(write: Write) -> None:
    packed = gzip.compress(TEXT, mtime=0)
    for place in [*range(2, 40), *range(40, len(packed) - 8, 5), *range(len(packed) - 8, len(packed))]:
        broken = bytearray(packed)
        broken[place] ^= 0x55
        content, source = read(write(bytes(broken)))
        expected, error = byte_by_byte(bytes(broken))
        assert content == expected
        assert (source.damage is None) == (error is None)


def byte_by_byte(data: bytes) -> tuple[bytes, str | None]:
    member, content = zlib.decompressobj(31), b""
    for place in range(len(data)):
        try:
            content += member.decompress(data[place : place + 1])
        except zlib.error as error:
            return content, str(error)
        if member.eof:
            return content, None if place + 1 == len(data) else "more follows"
    return content, "cut off"


def test_a_corrupted_place_costs_only_what_comes_after(write: Write) -> None:
    parts = [os.urandom(50_000) for _ in range(6)]
    packed = b"".join(gzip.compress(part) for part in parts)
    at = len(packed) // 2 + 10_000
    broken = bytearray(packed)
    broken[at : at + 40] = b"\xff" * 40
    content, source = read(write(bytes(broken)))
    assert b"".join(parts[:3]) == content[:150_000]
    assert "damaged at byte" in str(source.damage)


def test_a_corrupted_zstd_block_costs_only_what_comes_after(write: Write) -> None:
    # stored blocks of 128 KiB: the fourth block's header is made a reserved type
    raw = os.urandom(600_000)
    packed = bytearray(zstandard.ZstdCompressor(level=1, write_content_size=False).compress(raw))
    header = 6 if packed[4] & 0x20 == 0 else 5
    block = 3 + 131_072
    place = header + 3 * block
    assert int.from_bytes(packed[place : place + 3], "little") >> 3 == 131_072
    packed[place] |= 0b110
    content, source = read(write(bytes(packed)))
    assert content == raw[: 3 * 131_072]
    told = re.search(r"damaged at byte ([\d,]+)", str(source.damage))
    assert told
    assert place < int(told.group(1).replace(",", "")) <= place + 4


@pytest.mark.parametrize(
    "magic", [b"\x1f\x8b", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x1f\x8bnot gzip at all", b"\x28\xb5\x2f\xfdno!"]
)
def test_a_magic_number_alone_is_damage(write: Write, magic: bytes) -> None:
    content, source = read(write(magic))
    assert content == b""
    assert source.damage


# --- bombs and limits ----------------------------------------------------------------------------------------------


def gzip_zeros(count: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(count >> 20)) + packer.flush()


@pytest.mark.parametrize(
    "packed", [gzip_zeros(70 * 2**20), zstandard.compress(bytes(70 * 2**20), 3)], ids=["gzip", "zstd"]
)
def test_a_bomb_is_stopped_with_numbers(write: Write, packed: bytes, temporary: Path) -> None:
    error = refused(write(packed))
    assert error.code == "too_large"
    assert "bomb" in error.message
    assert any(character.isdigit() for character in error.message)
    assert "yourself" in str(error.hint)
    assert not list(temporary.iterdir())


def test_a_high_ratio_is_no_bomb_while_little_comes_out(write: Write) -> None:
    content, source = read(write(gzip_zeros(20 * 2**20)))
    assert len(content) == 20 * 2**20
    assert source.damage is None


def test_no_more_than_the_largest_upload_is_unpacked(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_UNPACKED_BYTES", len(TEXT))
    assert read(write(gzip.compress(TEXT)))[0] == TEXT
    error = refused(write(gzip.compress(TEXT + b"\n")))
    assert error.code == "too_large"
    assert f"{len(TEXT):,}" in error.message
    monkeypatch.undo()
    assert streams.MAX_UNPACKED_BYTES == 8 * 2**30


def test_a_zstd_window_beyond_the_limit_is_refused(write: Write) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    error = refused(write(packer.compress(TEXT) + packer.flush()))
    assert error.code == "too_large"
    assert "--long" in error.message


def test_slices_bound_what_comes_out_at_once(write: Write) -> None:
    bomb = write(zstandard.compress(bytes(256 * 2**20), 19))
    with bomb.open("rb") as file:
        chunks = unpacking.Unpacking(file, "zstd", name="bomb", param="data.train").chunks()
        assert len(next(chunks)) <= 64 * 2**20
        with pytest.raises(DataError):
            next(chunks)


# --- what the operating system refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nothing.jsonl", "nul\0byte.jsonl"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    error = refused(f"{tmp_path}/{name}")
    assert error.code == "file_not_found"
    assert str(Path.cwd()) in str(error.hint)


def test_a_folder(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "not_a_file"


def test_what_cannot_be_read_is_told_with_its_cause() -> None:
    error = unreadable("data.jsonl", PermissionError(13, "Permission denied"), param="data.train")
    assert (error.code, error.param) == ("file_not_readable", "data.train")
    assert "Permission denied" in error.message
    assert "permissions" in str(error.hint)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    assert refused(tmp_path / ("x" * 5000)).code == "file_not_readable"


def test_a_full_temporary_disk_names_the_way_out(write: Write, temporary: Path) -> None:
    path = write(gzip.compress(os.urandom(300_000)))
    code = (
        "import resource, sys, tempfile; from luthier.data.reading.streams import opened\n"
        "from luthier.errors import DataError\n"
        "tempfile.tempdir = sys.argv[2]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n with opened(sys.argv[1], param='data.train'): pass\n"
        "except DataError as error: print(error.code, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path, temporary], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("file_not_written ")
    assert "TMPDIR" in done.stdout
    assert str(temporary) in done.stdout
    assert not list(temporary.iterdir())


def test_no_temporary_folder_at_all(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent/folder")
    error = refused(write(gzip.compress(TEXT)))
    assert error.code == "file_not_written"
    assert "TMPDIR" in str(error.hint)


# --- standard input and pipes --------------------------------------------------------------------------------------

PRINT_INPUT = (
    "import sys, tempfile; from luthier.data.reading.streams import opened\n"
    "tempfile.tempdir = sys.argv[1]\n"
    "with opened('-', param='FILE') as source:\n"
    " print(source.name, source.compression, source.damage, file=sys.stderr)\n"
    " sys.stdout.buffer.write(source.path.read_bytes())"
)


@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_standard_input_may_be_packed(packer: str | None, temporary: Path) -> None:
    given = PACKERS[packer](TEXT) if packer else TEXT
    done = subprocess.run([sys.executable, "-c", PRINT_INPUT, temporary], input=given, capture_output=True, check=True)
    assert done.stdout == TEXT
    assert done.stderr.decode().split() == ["<stdin>", str(packer), "None"]
    assert not list(temporary.iterdir())


def test_standard_input_that_is_replaced_by_python(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    content, source = read("-")
    assert (content, source.name) == (TEXT, "<stdin>")
    assert not list(temporary.iterdir())


def test_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    error = refused("-")
    assert error.code == "file_not_readable"
    assert "<stdin>" in error.message


def test_a_non_blocking_input_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading) as file, open(writing, "wb"):  # noqa: PTH123 - handles, not paths
        monkeypatch.setattr(sys, "stdin", file)
        assert refused("-").code == "file_not_readable"


@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_a_named_pipe_is_read_once_and_can_be_read_again(tmp_path: Path, temporary: Path, packer: str | None) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[PACKERS[packer](TEXT) if packer else TEXT])
    writer.start()
    content, source = read(pipe)
    writer.join()
    assert (content, source.compression) == (TEXT, packer)
    assert pipe.exists()
    assert not list(temporary.iterdir())


def test_an_empty_device_is_an_empty_file() -> None:
    content, source = read("/dev/null")
    assert (content, source.damage) == (b"", None)


# --- leaving nothing behind ----------------------------------------------------------------------------------------


def test_an_error_in_the_block_leaves_no_temporary_file(write: Write, temporary: Path) -> None:
    seen: list[Source] = []

    def fail() -> None:
        with opened(write(gzip.compress(TEXT)), param="FILE") as source:
            seen.append(source)
            assert list(temporary.iterdir()) == [source.path]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(temporary.iterdir())
    assert seen[0].file.closed


@pytest.mark.parametrize("when", ["in the block", "while spooling"])
def test_ctrl_c_leaves_no_temporary_file(temporary: Path, when: str) -> None:
    code = (
        "import signal, sys, tempfile, time; from luthier.data.reading.streams import opened\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background is born deaf to it
        "tempfile.tempdir = sys.argv[1]\n"
        "print('ready', flush=True)\n"
        "with opened('-', param='FILE') as source:\n"
        " print(source.path.exists(), flush=True)\n"
        " time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, temporary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(gzip.compress(os.urandom(2**21)))
    process.stdin.flush()
    if when == "in the block":
        process.stdin.close()
        assert process.stdout.readline() == b"True\n"
    else:
        deadline = time.monotonic() + 30
        while not [file for file in temporary.iterdir() if file.stat().st_size] and time.monotonic() < deadline:
            time.sleep(0.02)
    assert list(temporary.iterdir())
    for _ in range(30):  # Python swallows an interrupt that falls into a destructor; a person presses Ctrl-C again
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=1)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.poll() is not None
    assert not list(temporary.iterdir())
    process.stdin.close()
    process.stdout.close()
    assert process.stderr is not None
    assert b"KeyboardInterrupt" in process.stderr.read()
    process.stderr.close()


def test_an_abandoned_generator_leaves_no_temporary_file(write: Write, temporary: Path) -> None:
    path = write(gzip.compress(TEXT))

    def lines() -> object:
        with opened(path, param="FILE") as source:
            yield from source.file

    generator = lines()
    assert next(generator).startswith(b"{")  # type: ignore[call-overload]
    assert list(temporary.iterdir())
    del generator
    assert not list(temporary.iterdir())
