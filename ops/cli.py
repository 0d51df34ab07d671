"""The commands by name; each one's module is imported only when it is used."""

import importlib

import click

# Importing every command, and with it every driver, would take longer than most of them run.
COMMANDS = {
    "backup": ("ops.backups.backup", "Back up leads, events and all else in the schema."),
    "dead-letters": ("ops.commands.dead_letters", "List, show, retry and discard dead letters."),
    "doctor": ("ops.commands.doctor", "Check everything the system stands on, and say what to do."),
    "events": ("ops.commands.events", "Browse applied events, newest first."),
    "export": ("ops.commands.export", "Write events or leads to a file."),
    "exporter": ("ops.exporter.process", "Export what all processes share as metrics."),
    "import": ("ops.commands.import_", "Read events or leads from a file."),
    "log": ("ops.commands.log", "Show what operators did by hand."),
    "metrics": ("ops.exporter.metrics", "Show the metrics of all processes together."),
    "migrate": (
        "ops.commands.migrate",
        "Bring the database's schema up to date, while services run.",
    ),
    "replay": ("ops.commands.replay", "Put past events back for one consumer group."),
    "replays": ("ops.commands.replays", "Show the latest replays and how far they have come."),
    "restore": ("ops.backups.restore", "Make an empty database what it was at a backup."),
    "streams": ("ops.commands.streams", "Show streams, groups and consumers."),
    "summaries": ("ops.commands.summaries", "Have summaries written."),
    "sync": ("ops.commands.sync", "Fetch leads from the external source now."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        """Import a command; each module calls it `command`."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = importlib.import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's signature)
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, no_args_is_help=True)
def cli() -> None:
    """Operate the leads system."""
