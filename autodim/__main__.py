"""`python -m autodim` is the command line."""

from autodim.cli import main

main()
