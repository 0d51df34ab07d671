"""A writer that follows rules: needs no account and no network, and says what it is."""

from datetime import date, timedelta

import orjson

from services.summarizer.prompts import LeadFacts, Prompt
from services.summarizer.providers import Completion
from shared.domain.lead import LeadSource, LeadStatus
from shared.domain.summary import SummaryText

# How long a new lead may wait before it counts as getting cold, and as cold.
COOLING = timedelta(days=3)
COLD = timedelta(days=30)

_ORIGINS: dict[LeadSource | None, str] = {
    LeadSource.MANUAL: "was entered by hand",
    LeadSource.RANDOMUSER: "came in through the scheduled sync with Random User",
    LeadSource.IMPORT: "came in with an import",
}
_STATUSES: dict[LeadStatus | None, str] = {
    LeadStatus.NEW: "Nobody has been in touch yet.",
    LeadStatus.CONTACTED: "A first contact has been made; whether there is a need is still open.",
    LeadStatus.QUALIFIED: "The need is confirmed, so this one is worth an offer.",
    LeadStatus.UNQUALIFIED: "It was found not to be a fit.",
    LeadStatus.CONVERTED: "It has become a customer.",
}
_LACKS = {"phone": "a phone number", "city": "a city", "country": "a country"}


class OfflineProvider:
    """Two texts by rule from status, age, source and what is missing from the record."""

    name = "offline"
    model = "rules-1"

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ARG002, ASYNC109 (nothing to wait for)
        """Write at once; never fails."""
        text = write(prompt.facts, today=prompt.today)
        return Completion(text=_as_json(text), tokens_in=0, tokens_out=0)


def write(facts: LeadFacts, *, today: date) -> SummaryText:
    """Return what the rules say about a lead."""
    return SummaryText(_summary(facts), _next_action(facts, age=today - facts.created_on))


def _summary(facts: LeadFacts) -> str:
    place = f" from {facts.place}" if facts.place else ""
    origin = _ORIGINS.get(_source(facts), f"came in through {facts.source}")
    sentences = [
        f"{facts.name}{place} {origin} on {_day(facts.created_on)}.",
        _STATUSES.get(_status(facts), f"Its status is {facts.status}."),
    ]
    if facts.missing:
        lacks = _listed([_LACKS.get(name, name) for name in facts.missing])
        sentences.append(f"The record still lacks {lacks}.")
    return " ".join(sentences)


def _next_action(facts: LeadFacts, *, age: timedelta) -> str:
    match _status(facts):
        case LeadStatus.NEW:
            return _first_contact(facts, age)
        case LeadStatus.CONTACTED:
            return (
                f"{_reach(facts)} to follow up on the first contact: ask what {facts.first_name} "
                f"needs and by when, and set the status to qualified or unqualified."
            )
        case LeadStatus.QUALIFIED:
            return (
                f"Send {facts.first_name} an offer this week and agree on a day to talk it "
                f"through{_and_ask(facts)}."
            )
        case LeadStatus.UNQUALIFIED:
            return (
                f"Note why {facts.first_name} was not a fit, and look at the lead again in six "
                "months instead of spending more time on it now."
            )
        case LeadStatus.CONVERTED:
            return (
                f"Hand {facts.first_name} over to customer care, and plan a call in 30 days to "
                "hear how things are going."
            )
        case None:
            return f"Check the status of {facts.first_name}, and {_lower(_reach(facts))}."


def _first_contact(facts: LeadFacts, age: timedelta) -> str:
    if age > COLD:
        return (
            f"{_reach(facts)} to ask whether there is still interest; the record is more than a "
            f"month old, so set {facts.first_name} to unqualified if no answer comes in a week."
        )
    when = "this week, before the lead gets cold" if age > COOLING else "within a day"
    return f"{_reach(facts)} {when}: {_opening(facts)}{_and_ask(facts)}."


def _opening(facts: LeadFacts) -> str:
    match _source(facts):
        case LeadSource.MANUAL:
            return "refer to the conversation in which the details were taken down"
        case LeadSource.IMPORT:
            return "say where the contact comes from and ask whether a talk is welcome"
        case _:
            return "introduce yourself, since the contact did not come from a talk with the team"


def _reach(facts: LeadFacts) -> str:
    verb = "Write an e-mail to" if "phone" in facts.missing else "Call"
    return f"{verb} {facts.first_name}"


def _and_ask(facts: LeadFacts) -> str:
    """Return the request for what the sales team cannot do without."""
    if "phone" in facts.missing:
        return ", and ask for a phone number"
    if {"city", "country"} & set(facts.missing):
        return ", and ask where to send things"
    return ""


def _source(facts: LeadFacts) -> LeadSource | None:
    return LeadSource(facts.source) if facts.source in set(LeadSource) else None


def _status(facts: LeadFacts) -> LeadStatus | None:
    return LeadStatus(facts.status) if facts.status in set(LeadStatus) else None


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _listed(parts: list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _as_json(text: SummaryText) -> str:
    return orjson.dumps({"summary": text.summary, "next_action": text.next_action}).decode()
