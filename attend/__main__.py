"""`python -m attend` is the program `attend`."""

from attend.experiments.cli.main import main

if __name__ == "__main__":
    main()
