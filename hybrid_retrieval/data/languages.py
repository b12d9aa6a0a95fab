"""Languages by what files call them: BCP 47 with underscores, in two letters where there are two, as the house writes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from hybrid_retrieval.errors import InputError

CODES = (
    "aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bh:bih bi:bis "
    "bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu dv:div "
    "dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle gd:gla "
    "gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina id:ind ie:ile ig:ibo "
    "ii:iii ik:ipk io:ido is:isl it:ita iu:iku iw:heb ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan "
    "ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg "
    "mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor "
    "nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron "
    "ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw "
    "st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi "
    "ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul"
)
ISO_639_3 = dict(pair.split(":") for pair in CODES.split())
"""Codes of three letters by those of two, ISO 639-1."""
INDIVIDUAL = {"ar": "arb", "fa": "pes", "lv": "lvs", "ms": "zsm", "ne": "npi", "no": "nob", "sw": "swh"}
"""Those of the language that is written, where ISO 639-3 has a code for a family of them under the one above."""
STANDS_FOR = {"en": "en_us", "zh": "zh_cn"}
"""The region that a bare name is."""
DISTINCT = ("pt_br", "zh_hk", "zh_tw")
"""With a region that is not left out."""
OTHER_NAMES = {"zh_hans": "zh", "zh_hant": "zh_tw", "zhtw": "zh_tw"} | {name: bare for bare, name in STANDS_FOR.items()}

SCRIPTS = {
    "Grek": "el",
    "Cyrl": "ru uk be bg mk sr kk ky tg tt ba mn",
    "Armn": "hy",
    "Geor": "ka",
    "Hebr": "he yi",
    "Arab": "ar fa ur ps sd ug ckb azb prs arz ary acm apc ars ajp aeb ks",
    "Ethi": "am ti",
    "Deva": "hi mr ne sa mai bho mag awa hne",
    "Beng": "bn as mni",
    "Guru": "pa",
    "Gujr": "gu",
    "Orya": "or",
    "Taml": "ta",
    "Telu": "te",
    "Knda": "kn",
    "Mlym": "ml",
    "Sinh": "si",
    "Thai": "th",
    "Laoo": "lo",
    "Tibt": "bo dz",
    "Mymr": "my shn",
    "Khmr": "km",
    "Olck": "sat",
    "Tfng": "tzm",
    "Hang": "ko",
    "Jpan": "ja",
    "Hans": "zh yue",
    "Hant": "zh_tw zh_hk",
    "Latn": "",
}
"""Languages by the script that each is mostly written in, ISO 15924's code; others are in Latin letters, or unknown."""

UNSPACED = ("ja", "km", "lo", "my", "th", "zh")
"""Written without spaces between words."""

_TWO = {"cmn": "zh", "ekk": "et", "fil": "tl"}
for _codes in (ISO_639_3, INDIVIDUAL):
    for _two, _three in _codes.items():
        _TWO.setdefault(_three, _two)
_SCRIPT = {language: code for code, languages in SCRIPTS.items() for language in languages.split()}
LANGUAGE_CODE = re.compile(r"([a-z]{2,3})([-_][A-Za-z0-9]{2,8})*")
REGION = re.compile(r"([a-z]{2,3})_([a-z]{2}|[0-9]{3})")


def known_language(code: str) -> bool:
    """Whether it is a code of a language: ISO 639-1, or three letters; with a script or a region after it."""
    found = LANGUAGE_CODE.fullmatch(code)
    return found is not None and (len(found[1]) == 3 or found[1] in ISO_639_3)


def primary(language: str) -> str:
    """A language without its region or script."""
    return language.partition("_")[0]


def three_letters(language: str) -> str:
    """The ISO 639-3 code of a language, of the one that is written."""
    head = primary(language)
    return INDIVIDUAL.get(head) or ISO_639_3.get(head, head)


def spelt(name: str) -> str:
    """A language as the house writes it, region kept: ``pt-BR``, ``zh_CN``, ``sr@latin``, ``fra``: pt_br, zh, sr_latn, fr."""
    name = name.lower().replace("@latin", "_latn").replace("-", "_")
    head, bar, tail = name.partition("_")
    name = _TWO.get(head, head) + bar + tail
    return OTHER_NAMES.get(name, name)


def script(language: str) -> str | None:
    """The key of `SCRIPTS` that a language's name holds, or else that of its line; None: it is in no line."""
    name = spelt(language)
    named = next((part.title() for part in name.split("_")[1:] if part.title() in SCRIPTS), None)
    return named or _SCRIPT.get(name) or _SCRIPT.get(primary(name))


def by_language(names: str) -> dict[str, str]:
    """Names, between spaces, by the language that each is: ``de`` for ``deu``; the first of those that are one language."""
    found: dict[str, str] = {}
    for name in names.split():
        found.setdefault(spelt(name), name)
    return found


def languages_of(names: Iterable[str], place: str) -> dict[str, str]:
    """The language of each of the names that are one: ``de-DE`` is de, unless there is another German.

    Args:
        place: where the names are from, for errors.

    Raises:
        InputError: two names are one language.
    """
    full = {name: language for name in sorted(names) if known_language(language := spelt(name))}
    short = {name: _without_region(language) for name, language in full.items()}
    several = Counter(short.values())
    found = {name: short[name] if several[short[name]] == 1 else full[name] for name in full}
    first: dict[str, str] = {}
    for name, language in found.items():
        if (other := first.setdefault(language, name)) != name:
            raise InputError(f"{place} has {other} and {name}, which are both {language}: keep one of them")
    return found


def _without_region(language: str) -> str:
    found = REGION.fullmatch(language)
    return found[1] if found and language not in DISTINCT else language
