"""The order of languages in a picture: by name, by family, by script, or by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid_retrieval.data.languages import primary, spelt
from hybrid_retrieval.data.languages import script as script_code

ORDERS = ("name", "family", "script", "value")

FAMILIES = {
    "Germanic": "en de nl af lb fy li yi da sv nb nn no is fo",
    "Romance": "pt es gl ast ca oc fr it scn vec lmo fur lij sc ro",
    "Celtic": "ga gd cy br",
    "Baltic": "lt lv ltg",
    "Slavic": "pl szl cs sk sl hr bs sr sh mk bg uk be ru",
    "Hellenic": "el",
    "Albanian": "sq",
    "Armenian": "hy",
    "Iranian": "fa prs tg ckb kmr ku ps",
    "Indo-Aryan": "hi ur pa gu mr ne bn as or si sd ks sa mai bho mag awa hne rom",
    "Uralic": "fi et hu se",
    "Turkic": "tr az azb crh tk uz ug kk ky ba tt",
    "Mongolic": "mn",
    "Kartvelian": "ka",
    "Basque": "eu",
    "Dravidian": "ta ml te kn",
    "Semitic": "ar he mt am ti arz ary acm apc ars ajp aeb",
    "Afro-Asiatic, other": "so om ha gaz kab taq tzm",
    "Sino-Tibetan": "zh yue my bo dz kac lus mni",
    "Japonic": "ja",
    "Koreanic": "ko",
    "Kra-Dai": "th lo shn",
    "Austroasiatic": "vi km sat",
    "Austronesian": "id ms jv su min ban bug bjn ace tl ceb ilo war pag mg mi sm fj",
    "Bantu": "sw rw rn lg ny sn zu xh ss st tn nso ts kg ln lua tum bem umb kmb",
    "Niger-Congo, other": "yo ig tw ak ee wo ff fuv bm dyu fon mos",
    "Creole": "ht kea",
    "Constructed": "eo",
    "Quechuan, Tupian": "qu quy ay ayr gn",
}
SCRIPTS = {
    "Latn": "Latin",
    "Grek": "Greek",
    "Cyrl": "Cyrillic",
    "Armn": "Armenian",
    "Geor": "Georgian",
    "Hebr": "Hebrew",
    "Arab": "Arabic",
    "Ethi": "Ethiopic",
    "Deva": "Devanagari",
    "Beng": "Bengali",
    "Guru": "Gurmukhi",
    "Gujr": "Gujarati",
    "Orya": "Odia",
    "Taml": "Tamil",
    "Telu": "Telugu",
    "Knda": "Kannada",
    "Mlym": "Malayalam",
    "Sinh": "Sinhala",
    "Thai": "Thai",
    "Laoo": "Lao",
    "Tibt": "Tibetan",
    "Mymr": "Burmese",
    "Khmr": "Khmer",
    "Olck": "Ol Chiki",
    "Tfng": "Tifinagh",
    "Hang": "Hangul",
    "Jpan": "Kana",
    "Hans": "Han",
    "Hant": "Han",
}
"""What scripts are called, in the order of a picture."""
UNKNOWN = "unknown"

_FAMILY = {code: family for family, codes in FAMILIES.items() for code in codes.split()}


def family(language: str) -> str:
    """That of a language as the house writes it."""
    return _FAMILY.get(primary(spelt(language)), UNKNOWN)


def script(language: str) -> str:
    """The one that it is mostly written in, or that its name holds; Latin, where only its family is known."""
    code = script_code(language)
    return SCRIPTS[code] if code else (UNKNOWN if family(language) == UNKNOWN else "Latin")


def places(languages: Sequence[str], values: Mapping[str, float]) -> dict[str, list[int]]:
    """The place of each language in each of `ORDERS`; unknown families and scripts last, and what has no value.

    Args:
        values: that the last order goes by, the largest first.
    """
    families, scripts = [*FAMILIES, UNKNOWN], [*SCRIPTS.values(), UNKNOWN]
    within = {code: place for place, code in enumerate(_FAMILY)}

    def kin(name: str) -> tuple[int, int, str]:
        return families.index(family(name)), within.get(primary(spelt(name)), 0), name

    orders = (
        sorted(languages),
        sorted(languages, key=kin),
        sorted(languages, key=lambda name: (scripts.index(script(name)), *kin(name))),
        sorted(languages, key=lambda name: (-values.get(name, -float("inf")), name)),
    )
    return {name: [order.index(name) for order in orders] for name in languages}
