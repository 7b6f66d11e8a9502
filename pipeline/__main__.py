"""`python -m pipeline`: the `vitv1` command."""

from pipeline.cli.app import script

if __name__ == "__main__":
    script()
