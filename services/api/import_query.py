"""The parameters of an import."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from services.api.lead_queries import Flag
from services.api.query_parameters import Query
from shared.domain.lead_file import ImportMode
from shared.lead_files.columns import FIELDS, SEPARATOR, Layout, mapped

MOST_MAPPED = 100
LONGEST_TITLE = 200


def _check_mapping(value: str) -> str:
    try:
        mapped(value)
    except ValueError as error:
        raise PydanticCustomError("mapping", "{reason}", {"reason": str(error)}) from error
    return value


Mapping = Annotated[
    str,
    Field(
        max_length=LONGEST_TITLE,
        json_schema_extra={"pattern": rf"\S.*{SEPARATOR}({'|'.join(FIELDS.values())})?$"},
    ),
    AfterValidator(_check_mapping),
]


class LeadImportQuery(Query):
    """What is to become of a file's rows."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"map"})

    mode: Annotated[
        ImportMode,
        Field(
            description="`create` leaves leads that are known alone; `upsert` changes those with "
            "a row's `externalId`"
        ),
    ] = ImportMode.CREATE
    dry_run: Annotated[Flag, Field(description="Only tell what would become of the rows")] = False
    map: Annotated[
        tuple[Mapping, ...],
        Field(
            max_length=MOST_MAPPED,
            default_factory=tuple,
            description="A column of a CSV file whose title is no field's, as `title:field`, or "
            "`title:` to pass the column over. May be given for each column",
        ),
    ]

    def mapping(self) -> dict[str, str]:
        """Return the fields of columns by their titles."""
        return dict(map(mapped, self.map))

    def layout(self) -> Layout:
        """Return the same in the terms of files' readers."""
        return Layout(mapping=self.mapping(), mode=self.mode)
