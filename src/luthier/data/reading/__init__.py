"""How files become rows: streams, lines, JSON of many wrappings, tables."""
