"""`python` graders: they run, and whatever they do, they harm nothing and cannot stop an evaluation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from luthier.evaluate.graders import grade_all, open_grader
from luthier.evaluate.sandbox import process
from luthier.evaluate.sandbox.process import Limits, Outcome, run_grade

pytestmark = [pytest.mark.unit, pytest.mark.skipif(sys.platform != "linux", reason="the limits differ elsewhere")]

# the clock decides in the tests that are about it alone: this machine may stand still for a while
SMALL = Limits(seconds=100, memory_bytes=400 * 1024**2, disk_bytes=20_000_000)


def ran(body: str, before: str = "", limits: Limits = SMALL, **sample: object) -> Outcome:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return run_grade(f"{before}\ndef grade(sample, item):\n{lines}\n", {"output_text": "x", **sample}, {"a": 1}, limits)


def held(kind: str) -> tuple[str, ...]:
    """What keeps graders in on this machine."""
    isolation = ran("return 1.0").isolation
    assert isolation is not None
    return tuple(getattr(isolation, kind))


def test_the_guides_examples_run():
    source = (
        "from rapidfuzz import fuzz, utils\n\ndef grade(sample, item) -> float:\n"
        '    output_text = sample["output_text"]\n    reference_answer = item["reference_answer"]\n'
        "    return fuzz.WRatio(output_text, reference_answer, processor=utils.default_process) / 100.0\n"
    )
    grader = open_grader({"type": "python", "source": source, "image_tag": "2025-05-08"})
    found = grader.grade("", "fuzzy wuzzy was a bear", {"reference_answer": "fuzzy wuzzy had no hair"})
    assert 0.5 < found.score < 1
    assert grader.isolation is not None
    assert "kept from the network by" in grader.isolation.sentence


def test_it_sees_sample_and_item_as_openai_has_them():
    body = "assert item == {'target': 't', 'k': [1, None]}, item\n" + (
        "assert sample['output_json'] == {'a': 1.5}\nassert sample['output_tools'] == []\n"
        "assert sample['output_audio'] is None\nreturn sample['choices'][0]['message']['content'] == '{\"a\": 1.5}'"
    )
    source = "def grade(sample, item):\n" + "\n".join(f"    {line}" for line in body.splitlines())
    found = open_grader({"type": "python", "source": source}).grade("t", '{"a": 1.5}', {"k": [1, None]})
    assert (found.score, found.reason) == (1.0, None)


@pytest.mark.parametrize(
    ("body", "value"), [("return 1", 1.0), ("return True", 1.0), ("return 0.25", 0.25), ("return np.float32(0.5)", 0.5)]
)
def test_numbers_of_any_kind_are_scores(body, value):
    assert ran(body, "import numpy as np", Limits()).value == value


@pytest.mark.parametrize(
    ("body", "before", "said"),
    [
        ("bytearray(10**10)", "", "ran out of its"),
        ("kept = []\nwhile True: kept.append('x' * 10**6)", "", "ran out of its"),
        ("while True: print('x' * 10_000)", "", "printed more than"),
        ("sys.exit(3)", "import sys", "called sys.exit(3)"),
        ("return 1", "import sys; sys.exit()", "called sys.exit(None)"),
        ("os._exit(3)", "import os", "ended its process with status 3"),
        ("ctypes.string_at(0)", "import ctypes", "ended by signal 11"),
        ("raise ValueError('no')", "", "raised ValueError: no (line 3)"),
        ("raise KeyboardInterrupt", "", "raised KeyboardInterrupt"),
        ("raise E()", "class E(BaseException):\n    def __str__(self): raise E()", "raised E"),
        ("return grade(sample, item)", "", "raised RecursionError"),
        ("return item['b']", "", "raised KeyError: 'b'"),
        ("return 1", "import no_such_package", "raised ModuleNotFoundError"),
        ("return None", "", "returned no number, but NoneType"),
        ("return '1'", "", "returned no number, but str"),
        ("return float('nan')", "", "returned no number, but nan"),
        ("return 1 + 2j", "", "returned no number, but complex"),
        ("return F()", "class F:\n    def __float__(self): raise SystemExit", "returned no number, but F"),
        ("os.closerange(0, 256)\nreturn 1", "import os", "grade "),
        ("for n in range(99): open(str(n), 'wb').write(b'x' * 10**6)\ntime.sleep(3)", "import time", "wrote more than"),
        ("open('a', 'wb').write(b'x' * 10**8)", "", "raised OSError"),
        ("for n in range(3, 99):\n  try: os.write(n, b'{}\\n[1]\\n')\n  except OSError: pass", "import os", "grade "),
    ],
)
def test_whatever_goes_wrong_is_no_score_with_a_reason(body, before, said):
    outcome = ran(body, before)
    assert outcome.value is None
    assert said in str(outcome.reason)
    assert len(str(outcome.reason)) < 600


@pytest.mark.parametrize(
    ("body", "before"),
    [("while True: pass", ""), ("return 1", "while True: pass"), ("time.sleep(99)", "import time")],
)
def test_an_endless_loop_is_ended(body, before):
    outcome = ran(body, before, Limits(seconds=1))
    assert outcome.value is None
    assert outcome.reason == "grade took longer than 1 s"


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("socket.create_connection(('127.0.0.1', 9))\nreturn 1", "import socket"),
        ("socket.socket(socket.AF_UNIX)\nreturn 1", "import socket"),
        ("urllib.request.urlopen('http://192.0.2.1')\nreturn 1", "import urllib.request"),
        ("return len(socket.getaddrinfo('example.org', 80))", "import socket"),
    ],
)
def test_there_is_no_network(body, before):
    outcome = ran(body, before)
    assert held("network")
    assert outcome.value is None
    assert "raised" in str(outcome.reason)


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("while True: os.fork()", "import os"),
        ("subprocess.run(['true'])\nreturn 1", "import subprocess"),
        ("os.execv('/bin/true', ['true'])", "import os"),
        ("os.posix_spawn('/bin/true', ['true'], {})\nreturn 1", "import os"),
        ("os.kill(os.getppid(), 9)\nreturn 1", "import os"),
    ],
)
def test_there_are_no_new_processes_and_no_signals_to_others(body, before):
    outcome = ran(body, before)
    assert held("processes")
    assert outcome.value is None
    assert "raised PermissionError" in str(outcome.reason)


def test_a_fork_bomb_that_goes_on_is_stopped_in_time_and_leaves_nothing():
    outcome = ran("while True:\n  try: os.fork()\n  except OSError: pass", "import os", Limits(seconds=1))
    assert outcome.value is None
    assert "took longer than 1 s" in str(outcome.reason)


def test_threads_are_allowed():
    body = "t = threading.Thread(target=print)\nt.start()\nt.join()\nreturn 1"
    assert ran(body, "import threading", Limits()).value == 1.0


def test_files_outside_of_its_folder_are_closed_where_the_kernel_has_landlock(tmp_path):
    secret = tmp_path / "answers.jsonl"
    secret.write_text("secret")
    if not held("files"):
        pytest.skip("this kernel has no Landlock; a grader reads what its user reads (docs/graders.md)")
    for body in (
        f"return len(open({str(secret)!r}).read())",
        f"return len(os.listdir({str(tmp_path)!r}))",
        f"open({str(tmp_path / 'new')!r}, 'w')\nreturn 1",
        f"os.remove({str(secret)!r})\nreturn 1",
        f"os.symlink({str(secret)!r}, 'link')\nreturn len(open('link').read())",
        f"return len(open('/proc/{os.getpid()}/environ').read())",
        "return len(open('/etc/passwd').read())",
    ):
        outcome = ran(body, "import os")
        assert outcome.value is None, body
        assert "PermissionError" in str(outcome.reason), body
    assert secret.read_text() == "secret"


def test_its_own_folder_is_empty_writable_and_gone_afterwards():
    body = "assert os.listdir() == []\nopen('a', 'w').write('x')\ntempfile.NamedTemporaryFile().write(b'x')\n"
    outcome = ran(body + "raise ValueError(os.getcwd())", "import os, tempfile")
    folder = str(outcome.reason).split("ValueError: ")[1].split(" ")[0]
    assert Path(folder).name.startswith("luthier-grader-")
    assert not Path(folder).exists()


def test_a_folder_nested_deeper_than_python_can_remove_is_removed():
    outcome = ran("for n in range(1100):\n  os.mkdir('d')\n  os.chdir('d')\nraise ValueError(first)",
                  "import os\nfirst = os.getcwd()", Limits())  # fmt: skip
    folder = str(outcome.reason).split("ValueError: ")[1].split(" ")[0]
    assert not Path(folder).exists()


def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    outcome = ran("raise ValueError(sorted(os.environ))", "import os")
    assert "OPENAI_API_KEY" not in str(outcome.reason)
    assert "TMPDIR" in str(outcome.reason)


def test_each_answer_has_a_process_of_its_own():
    source = "calls = []\ndef grade(sample, item):\n    calls.append(1)\n    return len(calls) == 1"
    grader = open_grader({"type": "python", "source": source})
    grades = grade_all(grader, ["a"] * 4, ["b"] * 4, workers=2)
    assert [found.score for found in grades] == [1.0] * 4


def test_a_score_off_the_scale_cannot_be_scored():
    found = open_grader({"type": "python", "source": "def grade(s, i): return 7"}).grade("a", "b")
    assert found.score is None
    assert "the score is 7, which is not between 0 and 1" in str(found.reason)


def test_a_long_answer_and_half_a_surrogate_pair_arrive():
    assert ran("return len(sample['output_text']) == 3_000_000", output_text="x" * 3_000_000).value == 1.0
    assert ran("return len(sample['output_text'])", output_text="\ud800").value == 1.0


def test_a_process_that_cannot_be_shut_in_gives_no_score(monkeypatch, tmp_path):
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit('no memory for this')")
    monkeypatch.setattr(process, "_CHILD", broken)
    outcome = ran("return 1")
    assert outcome.value is None
    assert outcome.by == "machine"
    assert "no memory for this" in str(outcome.reason)
    found = open_grader({"type": "python", "source": "def grade(s, i): return 1"})
    assert found.grade("a", "b").score is None


def test_where_the_kernel_grants_nothing_the_audit_hook_holds(monkeypatch, tmp_path):
    folder = Path(process.__file__).parent
    for name in ("child.py", "kernel.py"):
        text = (folder / name).read_text("utf-8")
        if name == "kernel.py":
            text += "\n\nleave_network = close_files = filter_calls = lambda *_: False\n"
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(process, "_CHILD", tmp_path / "child.py")
    outcome = ran("return 1.0")
    assert outcome.value == 1.0
    assert outcome.isolation is not None
    assert (outcome.isolation.network, outcome.isolation.processes) == (("audit hook",), ("audit hook",))
    assert "files not at all" in outcome.isolation.sentence
    for body in ("import socket; socket.socket()", "import os; os.fork()", "import os; os.kill(os.getppid(), 9)"):
        assert "is not allowed in a grader" in str(ran(body).reason)
