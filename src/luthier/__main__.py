"""`python -m luthier` is the `luthier` command."""

from luthier.cli.app import main

if __name__ == "__main__":
    main()
