"""What commands read from the environment.

Apart from `running`, whose clients take longer to import than a migration with nothing to do.
"""

from typing import TypeVar

import click

from shared.settings import EXIT_MISCONFIGURED, SettingsError, SettingsGroup, load

Group = TypeVar("Group", bound=SettingsGroup)


class WrongSettingsError(click.ClickException):
    """The environment does not hold what the command needs."""

    exit_code = EXIT_MISCONFIGURED


def settings(group: type[Group]) -> Group:
    """Read settings; what is wrong with them ends the command."""
    try:
        return load(group)
    except SettingsError as error:
        raise WrongSettingsError(f"Wrong settings:\n{error}") from error
