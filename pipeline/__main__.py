"""`python -m pipeline`: the `vitv1` command."""

from pipeline.cli.main import script

if __name__ == "__main__":
    script()
