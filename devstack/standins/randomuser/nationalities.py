"""How people of each of Random User's nationalities are named, housed, telephoned and numbered.

In a pattern `#` stands for a digit, `%` for one from 2 to 9, `@` for a capital letter and `~` for
what the original has in Canada and the Ukraine: a letter or a digit.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Nationality:
    """`locale` is mimesis' name for the language of names and streets.

    `post_code` None is the default, an integer of five digits, and `id_value` None is no value.
    """

    country: str
    locale: str
    cities: tuple[str, ...]
    states: tuple[str, ...]
    phone: str
    cell: str
    id_name: str = ""
    id_value: str | None = None
    post_code: str | None = None
    # An integer in spite of the pattern, as in Australia and Switzerland.
    is_numeric: bool = False
    # A man's, and those of women.
    titles: tuple[str, tuple[str, ...]] = ("Mr", ("Miss", "Ms", "Mrs"))
    # Men's first names, women's and family names, where mimesis has none.
    names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None = None


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


_INDIAN_NAMES = (
    _list("Aarav, Arjun, Hrithik, Ishaan, Kabir, Rohan, Vihaan, Dhruv, Nikhil, Samarth, Om"),
    _list("Aadhya, Ananya, Diya, Ishita, Kavya, Meera, Priya, Riya, Saanvi, Tanvi, Uma"),
    _list("Dawangave, Iyer, Kapoor, Mehta, Nair, Patil, Rao, Shah, Sharma, Verma, D, Saldanha"),
)

NATIONALITIES = {
    "AU": Nationality(
        "Australia",
        "en-gb",
        _list("Townsville, Bowral, Geelong, Hobart, Mackay, Orange, Perth, Wagga Wagga"),
        _list("Queensland, Tasmania, Victoria, New South Wales, Northern Territory"),
        "0#-####-####",
        "04##-###-###",
        "TFN",
        "#########",
        "%###",
        is_numeric=True,
    ),
    "BR": Nationality(
        "Brazil",
        "pt-br",
        _list("Curitiba, Maringá, Natal, Niterói, Olinda, São Luís, Uberlândia, Taubaté"),
        _list("Acre, Bahia, Ceará, Goiás, Paraná, Rio Grande do Sul, São Paulo"),
        "(##) ####-####",
        "(##) ####-####",
        "CPF",
        "###.###.###-##",
    ),
    "CA": Nationality(
        "Canada",
        "en",
        _list("Burlington, Cochrane, Delta, Field, Grand Falls, Kingston, Osgoode, Wellington"),
        _list("Alberta, British Columbia, Nova Scotia, Ontario, Prince Edward Island, Yukon"),
        "@~~ @~~-####",
        "@~~ @~~-####",
        "SIN",
        "#########",
        "@#@ #@#",
    ),
    "CH": Nationality(
        "Switzerland",
        "fr",
        _list("Aarau, Burgdorf, Chur, Delémont, Lausanne, Neuchâtel, Sion, Winterthur"),
        _list("Aargau, Appenzell Innerrhoden, Genève, Neuchâtel, Schwyz, Uri, Valais"),
        "07# ### ## ##",
        "07# ### ## ##",
        "AVS",
        "756.####.####.##",
        "%###",
        is_numeric=True,
        titles=("Monsieur", ("Madame", "Mademoiselle")),
    ),
    "DE": Nationality(
        "Germany",
        "de",
        _list("Bad Köstritz, Cottbus, Diemelstadt, Hürth, Jena, Neuötting, Trier, Xanten"),
        _list("Bayern, Berlin, Hessen, Niedersachsen, Sachsen-Anhalt, Thüringen"),
        "0###-#######",
        "017#-#######",
        "SVNR",
        "## ###### @ ###",
    ),
    "DK": Nationality(
        "Denmark",
        "da",
        _list("Aarhus, Ebeltoft, Hornbæk, Nørrebro, Odense Sv, Ribe, Skagen, Ålsgårde"),
        _list("Danmark, Hovedstaden, Midtjylland, Nordjylland, Sjælland, Syddanmark"),
        "########",
        "########",
        "CPR",
        "######-####",
    ),
    "ES": Nationality(
        "Spain",
        "es",
        _list("Alcobendas, Ávila, Cádiz, Gijón, La Palma, Móstoles, Orihuela, Vigo"),
        _list("Andalucía, Aragón, Castilla y León, Cataluña, La Rioja, Navarra"),
        "9##-###-###",
        "6##-###-###",
        "DNI",
        "########-@",
    ),
    "FI": Nationality(
        "Finland",
        "fi",
        _list("Hämeenkyrö, Ii, Jyväskylä, Kärkölä, Masku, Oulu, Porvoo, Äänekoski"),
        _list("Central Finland, Kainuu, Lapland, Northern Ostrobothnia, Pirkanmaa, Åland"),
        # As the original answers: its arithmetic has gone wrong there.
        "0#-###-###",
        "04#-###-##-##",
        "HETU",
        "NaNNA###undefined",
    ),
    "FR": Nationality(
        "France",
        "fr",
        _list("Aulnay-sous-Bois, Besançon, Dijon, Fort-de-France, Nîmes, Orléans, Saint-Étienne"),
        _list("Aisne, Corrèze, Côte-d'Or, Finistère, Guadeloupe, Lot-et-Garonne, Morbihan"),
        "0%-##-##-##-##",
        "06-##-##-##-##",
        "INSEE",
        "############## ##",
    ),
    "GB": Nationality(
        "United Kingdom",
        "en-gb",
        _list("Bath, City of London, Dawlish, Ely, Newry, Stoke-on-Trent, Swansea, York"),
        _list("Borders, Cambridgeshire, Clwyd, County Down, Dorset, Fife, Isle of Wight"),
        "0#### ######",
        "07### ######",
        "NINO",
        "@@ ## ## ## @",
        "@@%# #@@",
    ),
    "IE": Nationality(
        "Ireland",
        "en-gb",
        _list("Ardee, Birr, Carrigtwohill, Dún Laoghaire, Kells, Letterkenny, Mallow, Tramore"),
        _list("Cavan, Clare, Donegal, Laois, Offaly, Roscommon, Tipperary, Waterford"),
        "0#1-###-####",
        "081-###-####",
        "PPS",
        "#######T",
    ),
    "IN": Nationality(
        "India",
        "en",
        _list("Adoni, Darbhanga, Jalna, Mysore, Parbhani, Rewa, Tenali, Udupi"),
        _list("Assam, Daman and Diu, Goa, Kerala, Lakshadweep, Punjab, Uttarakhand"),
        "%#########",
        "%#########",
        "UIDAI",
        "############",
        names=_INDIAN_NAMES,
    ),
    "IR": Nationality(
        "Iran",
        "fa",
        _list("اردبیل, اهواز, بوشهر, تبریز, زاهدان, قم, کرمان, همدان"),
        _list("البرز, ایلام, خراسان رضوی, فارس, قزوین, گیلان, مازندران, یزد"),
        "0##-########",
        "09##-###-####",
    ),
    "MX": Nationality(
        "Mexico",
        "es-mx",
        _list("Cuautla, El Aguaje, La Paz, Mérida, San Juan del Río, Tepic, Tulum, Uxpanapa"),
        _list("Chiapas, Coahuila, Nuevo León, Quintana Roo, Tamaulipas, Veracruz, Yucatán"),
        "(###) ### ####",
        "(###) ### ####",
        "NSS",
        "## ## ## #### #",
    ),
    "NL": Nationality(
        "Netherlands",
        "nl",
        _list(
            "Aalsmeerderbrug, Den Burg, Ee, 's-Gravenzande, IJmuiden, Oss, Vianen, Wijk en Aalburg"
        ),
        _list("Drenthe, Flevoland, Friesland, Noord-Brabant, Overijssel, Utrecht, Zeeland"),
        "(###)-###-####",
        "(###)-###-####",
        "BSN",
        "########",
    ),
    "NO": Nationality(
        "Norway",
        "no",
        _list("Bø, Ålesund, Eidsfoss, Lillestrøm, Moi, Rjukan, Å, Årdalstangen"),
        _list("Akershus, Finnmark - Finnmárku, Hordaland, Rogaland, Sogn og Fjordane, Østfold"),
        "########",
        "9#######",
        "FN",
        "###########",
        "%###",
    ),
    "NZ": Nationality(
        "New Zealand",
        "en-gb",
        _list("Ashburton, Dunedin, Invercargill, Lower Hutt, Nelson, Taupo, Whanganui"),
        _list("Auckland, Bay of Plenty, Canterbury, Hawke's Bay, Southland, West Coast"),
        "(###)-###-####",
        "(###)-###-####",
    ),
    "RS": Nationality(
        "Serbia",
        "hr",
        _list("Aleksinac, Bačka Topola, Ćuprija, Kruševac, Niš, Šabac, Topola, Užice"),
        _list("Bor, Mačva, North Banat, Pčinja, Raška, Srem, Šumadija, Zlatibor"),
        "0##-####-###",
        "06#-####-###",
        "SID",
        "#########",
    ),
    "TR": Nationality(
        "Turkey",
        "tr",
        _list("Afyonkarahisar, Çorum, Eskişehir, Giresun, Kütahya, Muş, Ordu, Zonguldak"),
        _list("Adana, Düzce, Gümüşhane, İzmir, Niğde, Osmaniye, Uşak"),
        "(###)-###-####",
        "(###)-###-####",
    ),
    "UA": Nationality(
        "Ukraine",
        "uk",
        _list("Bila Cerkva, Chigirin, Dubno, Kagarlik, Lozova, Mukacheve, Reni, Yuzhne"),
        _list("Chernivecka, Donecka, Ivano-Frankivska, Lvivska, Odeska, Volinska, Zhitomirska"),
        "(09#) ~##-####",
        "(06#) ~##-####",
    ),
    "US": Nationality(
        "United States",
        "en",
        _list("Allentown, Boise, Chattanooga, Fargo, Paterson, Saint Paul, Tempe, Yonkers"),
        _list("Alaska, Delaware, Kentucky, New Hampshire, Oregon, Texas, Virginia, West Virginia"),
        "(%##) ###-####",
        "(%##) ###-####",
        "SSN",
        "###-##-####",
    ),
}
