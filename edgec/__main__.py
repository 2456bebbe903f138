"""`python -m edgec`, which is also what torchrun starts."""

from edgec.cli.main import main

if __name__ == "__main__":
    main()
