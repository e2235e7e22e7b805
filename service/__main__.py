"""`python -m service`: the command line, for a process that starts another."""

from service.cli import main

if __name__ == "__main__":
    main()
