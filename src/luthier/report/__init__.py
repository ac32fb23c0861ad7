"""The report a person reads (HTML, terminal) and the one a program reads (JSON)."""
