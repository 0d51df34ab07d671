"""What Random User's nationalities have and mimesis does not: numbers' formats and some places.

In a pattern `#` stands for a digit, `%` for one from 2 to 9, `@` for a capital letter and `~` for
what the original has in Canada and the Ukraine: a letter or a digit.
"""

from dataclasses import dataclass

FIVE_DIGITS = range(10_000, 100_000)
FOUR_DIGITS = range(2_000, 10_000)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


@dataclass(frozen=True, slots=True)
class Nationality:
    """`locale` is mimesis' name for the language of names and places.

    `id_value` None is no value. A post code is a number out of a range, or text by a pattern.
    """

    country: str
    locale: str
    phone: str
    cell: str
    id_name: str = ""
    id_value: str | None = None
    post_code: range | str = FIVE_DIGITS
    # A man's, and those of women.
    titles: tuple[str, tuple[str, ...]] = ("Mr", ("Miss", "Ms", "Mrs"))
    # For countries of which mimesis has no locale: another one's would show.
    cities: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    men: tuple[str, ...] = ()
    women: tuple[str, ...] = ()
    families: tuple[str, ...] = ()


NATIONALITIES = {
    "AU": Nationality(
        *("Australia", "en-au", "0#-####-####", "04##-###-###", "TFN", "#########"),
        post_code=FOUR_DIGITS,
    ),
    "BR": Nationality(
        *("Brazil", "pt-br", "(##) ####-####", "(##) ####-####", "CPF", "###.###.###-##")
    ),
    "CA": Nationality(
        *("Canada", "en-ca", "@~~ @~~-####", "@~~ @~~-####", "SIN", "#########"),
        post_code="@#@ #@#",
    ),
    "CH": Nationality(
        *("Switzerland", "de-ch", "07# ### ## ##", "07# ### ## ##", "AVS", "756.####.####.##"),
        post_code=FOUR_DIGITS,
        titles=("Monsieur", ("Madame", "Mademoiselle")),
    ),
    "DE": Nationality(
        *("Germany", "de", "0###-#######", "017#-#######", "SVNR", "## ###### @ ###")
    ),
    "DK": Nationality("Denmark", "da", "########", "########", "CPR", "######-####"),
    "ES": Nationality("Spain", "es", "9##-###-###", "6##-###-###", "DNI", "########-@"),
    # As the original answers: its arithmetic has gone wrong there.
    "FI": Nationality("Finland", "fi", "0#-###-###", "04#-###-##-##", "HETU", "NaNNA###undefined"),
    "FR": Nationality(
        *("France", "fr", "0%-##-##-##-##", "06-##-##-##-##", "INSEE", "############## ##")
    ),
    "GB": Nationality(
        *("United Kingdom", "en-gb", "0#### ######", "07### ######", "NINO", "@@ ## ## ## @"),
        post_code="@@%# #@@",
    ),
    "IE": Nationality(
        *("Ireland", "en-gb", "0#1-###-####", "081-###-####", "PPS", "#######T"),
        cities=_list("Ardee, Birr, Dún Laoghaire, Kells, Letterkenny, Tramore"),
        states=_list("Cavan, Clare, Donegal, Laois, Offaly, Roscommon"),
    ),
    "IN": Nationality(
        *("India", "en", "%#########", "%#########", "UIDAI", "############"),
        cities=_list("Adoni, Darbhanga, Jalna, Mysore, Rewa, Tenali"),
        states=_list("Assam, Daman and Diu, Goa, Kerala, Punjab, Uttarakhand"),
        men=_list("Aarav, Arjun, Ishaan, Kabir, Rohan, Vihaan, Nikhil, Om"),
        women=_list("Aadhya, Ananya, Diya, Kavya, Meera, Priya, Saanvi, Uma"),
        # With the initial that some Indians have for a family name.
        families=_list("Iyer, Kapoor, Mehta, Nair, Patil, Rao, Sharma, D"),
    ),
    "IR": Nationality("Iran", "fa", "0##-########", "09##-###-####"),
    "MX": Nationality(
        *("Mexico", "es-mx", "(###) ### ####", "(###) ### ####", "NSS", "## ## ## #### #")
    ),
    "NL": Nationality("Netherlands", "nl", "(###)-###-####", "(###)-###-####", "BSN", "########"),
    "NO": Nationality(
        *("Norway", "no", "########", "9#######", "FN", "###########"), post_code="%###"
    ),
    "NZ": Nationality(
        *("New Zealand", "en-au", "(###)-###-####", "(###)-###-####"),
        cities=_list("Ashburton, Dunedin, Invercargill, Lower Hutt, Nelson, Taupo"),
        states=_list("Auckland, Bay of Plenty, Canterbury, Hawke's Bay, Southland"),
    ),
    "RS": Nationality(
        *("Serbia", "hr", "0##-####-###", "06#-####-###", "SID", "#########"),
        cities=_list("Aleksinac, Bačka Topola, Kruševac, Niš, Šabac, Užice"),
        states=_list("Bor, Mačva, Pčinja, Raška, Šumadija, Zlatibor"),
    ),
    "TR": Nationality("Turkey", "tr", "(###)-###-####", "(###)-###-####"),
    "UA": Nationality("Ukraine", "uk", "(09#) ~##-####", "(06#) ~##-####"),
    "US": Nationality(
        *("United States", "en", "(%##) ###-####", "(%##) ###-####", "SSN", "###-##-####")
    ),
}
