"""``python -m rlrecbench``."""

from rlrecbench.cli import main

if __name__ == "__main__":
    main()
