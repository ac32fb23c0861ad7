"""The grader of SQL: results are compared, the database stays as it is, and no query takes for ever."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from luthier.errors import EvaluateError
from luthier.evaluate.graders import infer_grader, open_grader, summarise
from luthier.evaluate.graders.sqlite import Database, is_ordered, same_rows

pytestmark = pytest.mark.unit

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "people with spaces?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (name TEXT, age INTEGER, height REAL, photo BLOB)")
        rows = [("Ann", 30, 1.7, b"a"), ("Bob", 25, 1.8, None), ("Cid", 30, 0.1 + 0.2, b"c"), ("Ann", 30, 1.7, b"a")]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return str(path)


def grade(database, target, answer, **limits):
    return open_grader({"type": "sql", "database": database, **limits}).grade(target, answer)


@pytest.mark.parametrize(
    ("target", "answer", "score", "reason"),
    [
        ("SELECT name FROM people", "select NAME as n from people;", 1.0, None),
        ("SELECT name FROM people", "SELECT name FROM people ORDER BY age, name", 1.0, None),
        (
            "SELECT name FROM people ORDER BY age",
            "SELECT name FROM people ORDER BY age DESC",
            0.0,
            "the right rows in another order",
        ),
        ("SELECT name FROM people", "SELECT DISTINCT name FROM people", 0.0, "3 rows, expected 4"),
        ("SELECT name FROM people", "SELECT name, age FROM people", 0.0, "2 columns, expected 1"),
        ("SELECT count(*) FROM people", "SELECT 4.0", 1.0, None),
        ("SELECT count(*) FROM people", "SELECT '4'", 0.0, "other rows than expected"),
        ("SELECT height FROM people WHERE name = 'Cid'", "SELECT 0.3", 1.0, None),
        ("SELECT photo FROM people WHERE name = 'Bob'", "SELECT NULL", 1.0, None),
        ("SELECT 1 WHERE 0", "SELECT 2 WHERE 0", 1.0, None),
        ("SELECT '1.50|  7|a'", "SELECT printf('%.2f|%3d|%s', 1.5, 7, 'a')", 1.0, None),
        ("SELECT 1", "", 0.0, "the answer is empty"),
        ("SELECT 1", "It is one.", 0.0, 'the query fails: near "It": syntax error'),
        ("SELECT 1", "SELECT one FROM people", 0.0, "the query fails: no such column: one"),
        ("SELECT 1", "```sql\nSELECT 1\n```", 0.0, "it stands in a ``` fence, on which a database fails"),
        ("SELECT 1", "SELECT 1; SELECT 2", 0.0, "the query fails: You can only execute one statement at a time."),
        ("SELECT 1", "SELECT '\x00'", 0.0, None),
        ("SELECT 1", "\ud800", 0.0, None),
    ],
)
def test_results_are_compared(database, target, answer, score, reason):
    found = grade(database, target, answer)
    assert found.score == score
    assert reason is None or found.reason == reason


@pytest.mark.parametrize("target", ["", "not sql", "SELECT nothing FROM people", "DELETE FROM people", ENDLESS])
def test_an_expected_query_without_rows_cannot_be_compared(database, target):
    found = grade(database, target, "SELECT 1", max_steps=1_000_000)
    assert found.score is None
    assert str(found.reason).startswith("of the expected answer, ")


@pytest.mark.parametrize(
    "answer",
    [
        "DELETE FROM people",
        "DROP TABLE people",
        "INSERT INTO people VALUES ('x', 1, 1, NULL)",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = WAL",
        "SELECT * FROM pragma_table_info('people')",
        "ATTACH DATABASE 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "BEGIN IMMEDIATE",
        "SELECT load_extension('evil')",
        "WITH x AS (SELECT 1) DELETE FROM people",
        "EXPLAIN DELETE FROM people",
        "REINDEX",
    ],
)
def test_nothing_is_changed(database, answer, tmp_path):
    before = Path(database).read_bytes()
    found = grade(database, "SELECT 1", answer)
    assert found.score == 0.0
    assert found.details == {"executes": 0.0}
    assert Path(database).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["people with spaces?.db"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ENDLESS, "more than 1,000,000 steps"),
        ("SELECT count(*) FROM " + ", ".join(f"people p{n}" for n in range(20)), "more than 1,000,000 steps"),
        ("SELECT a.name FROM people a, people b, people c, people d", "more than 100 rows"),
        ("SELECT randomblob(500000000)", "fails: string or blob too big"),
        ("SELECT printf('%.*c', 500000000, 'x')", "fails: user-defined function raised exception"),
        ("SELECT format('%500000000d', 1)", "fails: user-defined function raised exception"),
        ("SELECT printf('%9999d', 1)" + " || printf('%9999d', 1)" * 20, "fails: string or blob too big"),
        ("SELECT 'a' LIKE '" + "%a" * 2_000 + "'", "pattern too complex"),
    ],
)
def test_no_query_takes_for_ever_or_fills_the_memory(database, answer, said):
    found = grade(database, "SELECT 1", answer, max_steps=1_000_000, max_rows=100)
    assert found.score == 0.0
    assert said in str(found.reason)


def test_where_the_clock_runs_out_nothing_is_said_of_the_answer(database):
    found = grade(database, "SELECT 1", ENDLESS, timeout_s=0.05)
    assert found.score is None
    assert found.reason == "the query took longer than 0.05 s"


def test_summary_counts_what_runs(database):
    grader = open_grader({"type": "sql"}, database=database)
    rows = [("SELECT 1", "SELECT 1"), ("SELECT 1", "SELECT 2 - 1"), ("SELECT 1", "nonsense"), ("nonsense", "SELECT 1")]
    grades = [grader.grade(*row) for row in rows]
    assert [found.score for found in grades] == [1.0, 1.0, 0.0, None]
    found = summarise(grader, [target for target, _ in rows], [answer for _, answer in rows], grades)
    assert found == {"executes": pytest.approx(2 / 3), "same_text": pytest.approx(1 / 3)}


@pytest.mark.parametrize("name", ["missing.db", "folder", "text.db"])
def test_what_is_no_database_is_refused_when_opened(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("no database at all, though long enough for a header of one hundred bytes " * 4)
    with pytest.raises(EvaluateError) as caught:
        open_grader("sql", database=str(tmp_path / name))
    assert (caught.value.code, caught.value.param) == ("no_database", "evaluate.database")
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(EvaluateError, match="needs a database"):
        open_grader("sql")


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("select a from t order\n by a limit 1", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)", False),
        ("SELECT 'order by' FROM t", False),
        ('SELECT "order by" FROM t -- order by a', False),
        ("SELECT a FROM t /* order by a", False),
        ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ("SELECT rank() OVER (PARTITION BY (b) ORDER BY (a)) FROM t ORDER BY (c)", True),
        ("SELECT reorder BYTES FROM t", False),
    ],
)
def test_whether_an_order_is_asked_for(query, ordered):
    assert is_ordered(query) is ordered


def test_rows_are_compared_as_often_as_they_stand():
    assert same_rows([(1,), (1,), (2,)], [(2,), (1,), (1,)], ordered=False)
    assert not same_rows([(1,), (1,), (2,)], [(2,), (2,), (1,)], ordered=False)
    assert not same_rows([(1,), (2,)], [(2,), (1,)], ordered=True)


def test_sql_is_inferred_where_queries_run_and_said_where_they_could(database):
    targets = [f"SELECT name FROM people WHERE age > {age}" for age in range(30)]
    name, reason = infer_grader(targets, database=database)
    assert name == "sql"
    assert "30 of 30" in reason
    name, reason = infer_grader(targets)
    assert name == "exact"
    assert "evaluate.database=FILE" in reason
    name, reason = infer_grader([target.replace("people", "persons") for target in targets], database=database)
    assert name == "exact"
    assert "only 0 of 30" in reason


def test_the_nba_roster_grades_its_own_answers_right(public_data, tmp_path):
    folder = public_data / "nba-sql-exec"
    copy = shutil.copy(folder / "nba_roster.db", tmp_path / "nba.db")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    targets = [row["messages"][-1]["content"] for row in rows]
    assert infer_grader(targets, database=str(copy))[0] == "sql"
    grader = open_grader("sql", database=str(copy))
    assert [grader.grade(target, target).score for target in targets] == [1.0] * len(targets)
    wrong = [grader.grade(target, other).score for target, other in itertools.pairwise(targets)]
    assert wrong.count(0.0) > len(wrong) / 2
    assert None not in wrong


def test_a_database_is_not_read_where_a_path_only_looks_like_an_option(tmp_path):
    with pytest.raises(EvaluateError):
        Database(tmp_path / "a.db?mode=rwc", max_rows=1, max_steps=1_000, timeout_s=1)
    assert list(tmp_path.iterdir()) == []
