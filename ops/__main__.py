"""Start the operators' command line: `python -m ops`."""

from ops.cli import cli

if __name__ == "__main__":
    cli(prog_name="ops")
