"""`python -m everloop` is the `everloop` program."""

from everloop.cli import main

main()
