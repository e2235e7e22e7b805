"""`python -m service`: the command line, for a process that starts another."""

from service.cli import main

main()
