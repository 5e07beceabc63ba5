"""`python -m mtum_eod`: the console script, where it is not on the path."""

from mtum_eod.cli import main

if __name__ == "__main__":
    main()
