"""Made-up files of leads, and what an import must say of them."""

from collections.abc import Iterable

HEADER = "First Name,Last Name,Email,City"


def csv_file(rows: Iterable[str], *, header: str = HEADER) -> bytes:
    """Return a CSV file of these lines."""
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


def mixed_rows(number: int, *, domain: str = "example.com") -> list[str]:
    """Return lines of which every tenth is invalid and every twentieth repeats the one before."""
    return [_row(n, domain) for n in range(number)]


def mixed_report(number: int) -> dict[str, int]:
    """Return the report on so many mixed rows, a multiple of 20."""
    invalid, duplicate = number // 10, number // 20
    return {
        "rows": number,
        "created": number - invalid - duplicate,
        "updated": 0,
        "duplicate": duplicate,
        "invalid": invalid,
        "refused": 0,
    }


def _row(n: int, domain: str) -> str:
    if n % 10 == 3:
        return f"Ada,Lovelace {n},nobody,London"
    if n % 20 == 12:
        n -= 1
    return f"Ada,Lovelace {n},ada.{n}@{domain},London"
