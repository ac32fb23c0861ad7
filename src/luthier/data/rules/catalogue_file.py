"""The rules about a file as a piece of JSONL."""

from __future__ import annotations

from luthier.data.findings import Rule

CHAT_ROW = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
ONE_OBJECT_A_LINE = "Write one JSON object a line, in Python with `json.dumps(row)`."

NOT_JSON = Rule(
    "not-json",
    "error",
    "file",
    "the row is not JSON",
    'Mend the row at the column given; inside a string, a double quote is written \\" and a line break \\n. '
    "Files written with `json.dumps` never have this.",
)
NOT_AN_OBJECT = Rule(
    "not-an-object",
    "error",
    "file",
    "the row is JSON, but not an object",
    'Write each row as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.',
)
NOT_JSONL = Rule(
    "not-jsonl",
    "warning",
    "file",
    "the file is not JSONL, one object a line. Every row was read exactly all the same, but other tools will refuse it",
    ONE_OBJECT_A_LINE,
    fix="writes one object a line",
)
PYTHON_LITERAL = Rule(
    "not-jsonl",
    "error",
    "file",
    "the row is a Python literal, as `str(row)` writes it (single quotes, True, None), not JSON",
    "Write the rows with `json.dumps(row)` instead of `str(row)`. They can be converted without loss.",
    fix="writes the same values as JSON",
)
PYTHON_SOURCE = Rule(
    "not-jsonl",
    "error",
    "file",
    "this is Python source code saved under a data file's name: there are no examples in it",
    "Run the program that writes the examples, and give the file that it writes.",
)
ENCODING = Rule(
    "encoding",
    "error",
    "file",
    "the text is not valid UTF-8 text",
    "Save the file as UTF-8 (unpack it first if it is compressed), and write the broken characters again. "
    "From UTF-16: `iconv -f UTF-16 -t UTF-8 FILE > FILE2`; from Windows-1252: `iconv -f CP1252 -t UTF-8 FILE > FILE2`.",
)
BYTE_ORDER_MARK = Rule(
    "encoding",
    "warning",
    "file",
    "the file begins with a UTF-8 byte-order mark (EF BB BF). It was skipped, but other tools take it for a part of "
    "the first row and refuse the file",
    "Save the file as “UTF-8”, not “UTF-8 with BOM”.",
    fix="removes the mark",
)
OVER_LIMIT = Rule(
    "over-limit",
    "error",
    "file",
    "the row is past what can be read without loss",
    "Write one example a line; split or simplify this one.",
)
DUPLICATE_KEY = Rule(
    "duplicate-key",
    "error",
    "file",
    "a key stands twice in one object, and only one of its values can be used",
    "Keep one of the two values.",
)
TRUNCATED_ROW = Rule(
    "truncated-row",
    "error",
    "file",
    "the row is cut off before its end",
    "Write the file again: the program that wrote it was stopped, or a copy or download was not complete.",
)
TRUNCATED_FILE = Rule(
    "truncated-row",
    "error",
    "file",
    "the file is cut off before its end",
    "Write the file again: the program that wrote it was stopped, or a copy or download was not complete.",
)
MERGE_CONFLICT = Rule(
    "merge-conflict",
    "error",
    "file",
    "the file has the markers of an unresolved git merge, so it holds both sides of a conflict",
    "Resolve the conflict: keep the rows you want from between the markers, and delete the marker lines.",
)
COMMENT_LINE = Rule(
    "comment-line",
    "warning",
    "file",
    "a comment was skipped. JSON has no comments, so other tools refuse the file",
    "Delete the comments.",
    fix="deletes the comments",
)
BLANK_LINE = Rule(
    "blank-line",
    "info",
    "file",
    "a blank line was skipped",
    "Nothing needs to be done here; some other tools refuse blank lines.",
    fix="deletes the blank lines",
)
BAD_RECORD = Rule(
    "bad-record",
    "error",
    "file",
    "a record of the table cannot be read exactly",
    "Mend the record, or export the table again; every record needs as many fields as the header.",
)
EMPTY_FILE = Rule(
    "empty-file",
    "error",
    "file",
    "the file is empty: it holds no row at all",
    "Check that the program that writes the examples ran to its end, and that this is its file.",
)

MOJIBAKE = Rule(
    "mojibake",
    "warning",
    "file",
    "text was decoded with the wrong code page at some time",
    "Export the texts again as UTF-8.",
    fix="repairs it",
)
MOJIBAKE_LOST = Rule(
    "mojibake",
    "warning",
    "file",
    "characters were lost when text was decoded with the wrong code page at some time",
    "Export the texts again as UTF-8: what became � must come from the source.",
)
MIXED_FORMATS = Rule(
    "mixed-formats",
    "warning",
    "file",
    "the rows have different shapes",
    "Bring all rows into one shape; the rarer shape is often left from an earlier export.",
)
MIXED_TRAINABLE = Rule(
    "mixed-formats",
    "error",
    "file",
    "the rows are of several training formats, and a file may have only one",
    "Give each format a file of its own. A chat row that has lost its answer looks like a reinforcement row.",
)
CONVERTIBLE_FORMAT = Rule(
    "unknown-format",
    "error",
    "file",
    "the rows are in none of OpenAI's formats",
    f"Write each row as {CHAT_ROW}: what the model is given goes into the user message, what it shall answer into the "
    "assistant message. `luthier clean --convert` does it.",
    fix="with --convert, writes the row as a chat or preference row",
)
UNKNOWN_FORMAT = Rule(
    "unknown-format",
    "error",
    "file",
    "the rows are in none of OpenAI's formats",
    f"Write each row as {CHAT_ROW}: what the model is given goes into the user message, what it shall answer into the "
    "assistant message.",
)
OTHER_FORMAT = Rule(
    "unknown-format",
    "error",
    "file",
    "the row is in another format than the one asked for",
    "Give each format a file of its own.",
)
TOO_FEW = Rule(
    "too-few-examples",
    "error",
    "file",
    "there are too few examples",
    "Add examples: results begin to improve at 50 to 100 good ones.",
)
FEW = Rule(
    "too-few-examples",
    "info",
    "file",
    "the examples are few",
    "Add examples, or give a test file of their own with `data.test`: results begin to improve at 50 to 100 good ones.",
)

RULES = (
    NOT_JSON,
    NOT_AN_OBJECT,
    NOT_JSONL,
    PYTHON_LITERAL,
    PYTHON_SOURCE,
    ENCODING,
    BYTE_ORDER_MARK,
    OVER_LIMIT,
    DUPLICATE_KEY,
    TRUNCATED_ROW,
    TRUNCATED_FILE,
    MERGE_CONFLICT,
    COMMENT_LINE,
    BLANK_LINE,
    BAD_RECORD,
    EMPTY_FILE,
    MOJIBAKE,
    MOJIBAKE_LOST,
    MIXED_FORMATS,
    MIXED_TRAINABLE,
    CONVERTIBLE_FORMAT,
    UNKNOWN_FORMAT,
    OTHER_FORMAT,
    TOO_FEW,
    FEW,
)
