"""Run the command `invact` as `python -m invact`."""

from invact.cli.main import main

if __name__ == "__main__":
    main()
