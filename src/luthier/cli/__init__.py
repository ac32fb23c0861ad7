"""The `luthier` command: parses, calls the SDK, prints."""
