"""`ops doctor`."""

from collections.abc import Sequence

import click

from ops.output import as_json, print_json, print_table
from ops.running import doctor_settings, open_servers, run
from shared.administration.doctor.diagnosis import Finding, Severity
from shared.administration.doctor.examination import Doctor


@click.command("doctor")
@click.option("--strict", is_flag=True, help="End with 1 for warnings, too.")
@as_json
def command(*, as_json: bool, strict: bool) -> None:
    """Check everything the system stands on, and say what to do.

    Each check may take 3 s: one that hangs has failed. Ends with 1 when something has failed, with
    0 when there are warnings or nothing, and with 2 when the settings are wrong.
    """
    findings = run(_examine())
    if as_json:
        print_json(findings)
    else:
        print_table(
            ("", "check", "found", "what to do"),
            ((one.severity, one.check, one.detail, one.advice or "") for one in findings),
        )
    bad = {Severity.FAILURE, Severity.WARNING} if strict else {Severity.FAILURE}
    if any(one.severity in bad for one in findings):
        raise SystemExit(1)


async def _examine() -> Sequence[Finding]:
    async with open_servers() as servers:
        return await Doctor(servers.redis, servers.database, doctor_settings()).examine()
