"""Made-up facts about a lead."""

from datetime import date
from typing import Any

from services.summarizer.prompts import LeadFacts


def facts(**changes: Any) -> LeadFacts:
    """Return facts of a new lead that was entered by hand."""
    usual: dict[str, Any] = {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "city": "London",
        "country": "United Kingdom",
        "status": "new",
        "source": "manual",
        "created_on": date(2026, 11, 23),
    }
    return LeadFacts(**(usual | changes))
