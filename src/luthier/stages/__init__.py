"""The stages of a run, each of which finishes whole or goes on where it stopped: prepare, train, evaluate.

`luthier.sdk` calls them in order; nothing else does.
"""
