"""The rules about what must not be in the data, and their remedies."""

from __future__ import annotations

from luthier.data.findings import Rule

CONTAMINATION = Rule(
    "contamination",
    "error",
    "leak",
    "rows stand in the held-out data, too, so a score on it would be worthless",
    "Delete them here or there. `luthier clean FILE --against HELD_OUT` leaves them out of FILE, listed.",
    fix="leaves the row out",
)
CONTAMINATION_PARTLY = Rule(
    "contamination",
    "warning",
    "leak",
    "rows share a long passage with the held-out data",
    "Look whether the passage gives an answer away; a quotation or boilerplate may be harmless.",
)
SECRET = Rule(
    "secret",
    "error",
    "leak",
    "the text holds what looks like a live key or password; a model repeats what it was trained on",
    "Revoke it, and write a made-up one in its place.",
    fix="masks it",
)
SECRET_ELSEWHERE = Rule(
    "secret",
    "error",
    "leak",
    "the arguments of a call, or a refusal, hold what looks like a live key or password; a model repeats what it was "
    "trained on",
    "Revoke it, and write a made-up one in its place.",
)
PII = Rule(
    "pii",
    "warning",
    "leak",
    "the text holds personal data; a model repeats what it was trained on",
    "Replace it with made-up data, or make sure that you may train on it.",
    fix="replaces it with a reserved one (only when asked for by name)",
)
PII_ELSEWHERE = Rule(
    "pii",
    "warning",
    "leak",
    "the arguments of a call, or a refusal, hold personal data; a model repeats what it was trained on",
    "Replace it with made-up data, or make sure that you may train on it.",
)

RULES = (
    CONTAMINATION,
    CONTAMINATION_PARTLY,
    SECRET,
    SECRET_ELSEWHERE,
    PII,
    PII_ELSEWHERE,
)
