"""`python -m experiments` is `attend`."""

from experiments.cli import main

main()
