"""`python -m invact` is the command `invact`."""

from invact.cli.main import main

if __name__ == "__main__":
    main()
