"""The laws of perturbations, over real questions in every language of XQuAD-R and MLDR."""

from __future__ import annotations

import unicodedata
from itertools import product
from pathlib import Path

import pytest
import regex

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.perturbations import perturbation as engine
from hybrid_retrieval.evaluation.perturbations.perturbation import Perturbation, Perturbed, perturb, split
from hybrid_retrieval.evaluation.perturbations.suite import PERTURBATIONS, chosen, perturbations

QUESTIONS = {
    "ar": "كم عدد النقاط التي حققها فريق البانثرز في عام ٢٠١٥؟ إنّه سؤالٌ أوّل",
    "de": "Wie viele Punkte gab die Verteidigung der Panthers 2015 in Zürich ab, größer als zuvor?",
    "el": "Πόσους πόντους έδωσε η άμυνα των Πάνθερς το 2015 στην Αθήνα;",
    "en": "How many points did the Panthers' defense surrender in 2015, Mr. O'Neill asked?",
    "es": "¿Cuántos puntos dio la defensa de los Panthers en 2015, señor Núñez?",
    "fr": "Combien de points la défense des Panthers a-t-elle cédés en 2015, à l'été de l'année dernière ?",
    "hi": "पैंथर्स की रक्षा ने 2015 में कितने अंक दिए और क्षेत्र का नाम क्या है?",
    "it": "Quanti punti ha concesso la difesa dei Panthers nel 2015, perché è così?",
    "ja": "パンサーズの防御は2015年に何点を許しましたか?東京の大学について",
    "ko": "팬서스 수비는 2015년에 몇 점을 내줬습니까? 서울의 대학교",
    "pt": "Quantos pontos a defesa dos Panthers cedeu em 2015, não é então?",
    "ru": "Сколько очков уступила защита «Пантер» в 2015 году, ещё и в Москве?",
    "th": "แนวรับของแพนเธอร์เสียกี่แต้มในปี 2015 และที่กรุงเทพมหานคร",
    "tr": "Panthers savunması 2015'te kaç puan verdi, İstanbul'da ışık var mı?",
    "vi": "Đội phòng thủ của Panthers đã để mất bao nhiêu điểm vào năm 2015?",
    "zh": "黑豹队的防守在2015年丢了多少分?北京大学在哪里",
}
"""Of XQuAD-R's languages and MLDR's, with marks, digits, quotes, elisions and names in it."""
SEVERITIES = [0.0, 0.1, 0.3, 0.6, 1.0]
DENSE = ("keyboard", "swap", "drop", "repeat", "word_order", "casing", "spaces")
"""Perturbations with a place for every budget of a tenth or more in most texts."""
SHORT = ["", " ", "?", "a", "क्षि", "가", "👩‍👩‍👧‍👦🇩🇪", "e\u0301tude", "ไม้", "ﬁ", "\u0301a", "İI", "ß", "1"]
SHORT += ["क्\u200dष कितने", "می\u200cخواهم بروم", "ΐδιος"]


LEXICA = {
    "omw-lexicon": {
        "eng": [
            *("1\twater|H2O", "2\tyear", "3\thow_many", "4\tdefense", "5\tbank", "6\tbank", "7\tbank", "9\tbank", "8\tthe"),
            *("20\tbook", "21\tbook|tome", "22\tbook", "23\tbook", "24\tbook", "30\tqueen", "31\tking", "32\tmyriad"),
        ],
        "fra": ["1\teau", "2\tannée|an", "4\tdéfense", "20\tlivre", "21\tlivre"],
        "spa": ["1\tagua", "2\taño", "4\tdefensa", "5\tbanco", "6\torilla", "7\tfila", "9\tfondo", "8\tartículo"],
        "cmn": ["1\t水", "2\t年", "4\t防守", "30\t女王", "31\t王", "32\t王万"],
    },
    "cldr-names": {
        "en": ["territory\tDE\tGermany\t", "territory\tJP\tJapan\t", "language\tgaa\tGa\t", "emoji\tx\twave\twater"],
        "de": ["territory\tDE\tDeutschland\t", "emoji\tx\tWelle\tWasser"],
        "zh": ["territory\tJP\t日本\t"],
        "th": ["territory\tJP\tญี่ปุ่น\t", "language\tgaa\tกา\t"],
    },
}
"""In the layout of the folders that are read."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> PathsConfig:
    folder = tmp_path_factory.mktemp("data")
    for name, files in LEXICA.items():
        (folder / name).mkdir()
        for language, lines in files.items():
            (folder / name / f"{language}.tsv").write_text("".join(f"{line}\n" for line in lines))
    return PathsConfig(data=str(folder), cache=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def every(paths: PathsConfig) -> list[Perturbation]:
    return perturbations(chosen("all"), paths)


Results = list[tuple[Perturbation, str, str, float, Perturbed]]


@pytest.fixture(scope="module")
def results(every: list[Perturbation]) -> Results:
    return [
        (one, language, text, severity, made)
        for one in every
        for language, question in QUESTIONS.items()
        for text in (question, *SHORT)
        for severity, made in zip(SEVERITIES, perturb(one, text, language, SEVERITIES, 1, "q7"), strict=True)
    ]


def words(text: str) -> list[str]:
    return regex.findall(r"[\p{L}\p{M}\p{N}]+(?:(?:\u200c|\u200d|['’-])[\p{L}\p{M}\p{N}]+)*", text)


def graphemes(text: str) -> list[str]:
    return regex.findall(r"\X", text)


def distance(a: list[str], b: list[str], exchanges: bool) -> int:
    """Levenshtein's, or with an exchange of two neighbours as one edit: optimal string alignment."""
    rows = [list(range(len(b) + 1))]
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right)))
            if exchanges and i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


def test_severity_0_is_the_identity_and_all_is_in_nfc(results: Results) -> None:
    changed = set()
    for one, language, text, severity, made in results:
        if severity == 0 or not made.edits:
            assert made.text == text
        else:
            assert unicodedata.is_normalized("NFC", made.text), (one.name, language, text)
            made.text.encode("utf-8")
            changed.add(one.name)
    assert changed == set(PERTURBATIONS)


def test_the_budget_is_the_share_of_the_units_and_is_kept(results: Results) -> None:
    for one, language, text, severity, made in results:
        if one.knows(language) and severity:
            clean = unicodedata.normalize("NFC", text)
            size = len(words(clean)) if one.by_words(language) else sum(not unit.isspace() for unit in graphemes(clean))
            assert made.edits <= made.budget
            assert severity * size <= made.budget + 1e-6 < severity * size + 1 + 1e-5


@pytest.mark.parametrize(
    "name", ["keyboard", "drop", "repeat", "diacritics", "vowel_signs", "homoglyphs", "digits", "punctuation", "swap", "spaces"]
)
def test_as_many_graphemes_are_edited_as_is_said(name: str, every: list[Perturbation]) -> None:
    """By an edit distance over grapheme clusters that knows nothing of the engine: a joined cluster would be one too many."""
    one = next(one for one in every if one.name == name)
    met = 0
    for language, text in product(QUESTIONS, (None, *SHORT)):
        text = QUESTIONS[language] if text is None else text
        clean = graphemes(unicodedata.normalize("NFC", text))
        for made in perturb(one, text, language, SEVERITIES, 3, "q"):
            if not made.edits:
                continue
            found = distance(clean, graphemes(made.text), exchanges=name == "swap")
            assert found <= made.edits <= made.budget, (language, made.text)
            met += made.edits == made.budget or name not in DENSE
    assert met >= (30 if name in DENSE else 5)


@pytest.mark.parametrize("name", ["transliteration", "code_switching", "word_order", "function_words", "casing"])
def test_as_many_words_are_edited_as_is_said(name: str, every: list[Perturbation]) -> None:
    """By an edit distance over words, where spaces part them, that knows nothing of the engine."""
    one, met = next(one for one in every if one.name == name), 0
    for language, text in product(QUESTIONS, (None, *SHORT)):
        text = QUESTIONS[language] if text is None else text
        clean = words(unicodedata.normalize("NFC", text))
        for made in perturb(one, text, language, SEVERITIES, 3, "q"):
            if one.by_words(language) and made.edits:
                assert distance(clean, words(made.text), exchanges=name == "word_order") <= made.edits, (language, made.text)
                met += 1
    assert met >= 5


def test_a_budget_is_used_up_where_the_text_is_long_enough(every: list[Perturbation]) -> None:
    """Nothing that is possible and fits is left: what is not spent is less than any edit that remains."""
    for one in every:
        for language, question in QUESTIONS.items():
            low, high = perturb(one, question * 3, language, [0.05, 1.0], 2, "q")
            if high.edits >= low.budget and one.name != "code_switching":
                assert low.edits == low.budget, (one.name, language)
            assert low.edits <= high.edits


@pytest.mark.parametrize(
    ("name", "language", "text"),
    [
        ("casing", "th", "ใครเขียน Super Bowl ในปี 2015"),
        ("casing", "zh", "谁写了 Super Bowl"),
        ("casing", "ar", "من كتب Super Bowl"),
        ("homoglyphs", "zh", "一个 Berg"),
        ("homoglyphs", "hi", "Berg कितनी"),
    ],
)
def test_a_script_that_it_does_not_know_is_left_alone_with_foreign_names_in_it(
    name: str, language: str, text: str, every: list[Perturbation]
) -> None:
    one = next(one for one in every if one.name == name)
    assert not one.knows(language)
    assert [made.text for made in perturb(one, text, language, [0.5, 1.0], 1, "q")] == [text, text]


@pytest.mark.parametrize("name", ["keyboard", "repeat", "diacritics", "vowel_signs", "homoglyphs", "digits", "casing"])
def test_what_a_severity_changes_a_higher_one_changes_too(name: str, every: list[Perturbation]) -> None:
    """Of edits that keep their place: units that differ at a low severity are the same at a higher one, and differ, too."""
    one, compared = next(one for one in every if one.name == name), 0
    for language, text in QUESTIONS.items():
        if name == "repeat":  # a repeated letter moves the others: what is kept of the longer text is the shorter one
            low, high = (made.text for made in perturb(one, text, language, [0.1, 0.4], 1, "q"))
            rest = iter(graphemes(high))
            assert all(unit in rest for unit in graphemes(low))
            compared += low != high
            continue
        clean = split(text, one.by_words(language))
        low, high = (split(made.text, one.by_words(language)) for made in perturb(one, text, language, [0.1, 0.4], 1, "q"))
        changed = [at for at, unit in enumerate(clean) if low[at] != unit]
        assert [high[at] for at in changed] == [low[at] for at in changed]
        compared += bool(changed)
    assert compared


def test_a_slip_of_a_key_stays_one_letter(every: list[Perturbation]) -> None:
    keyboard = next(one for one in every if one.name == "keyboard")
    for query in range(300):
        [made] = perturb(keyboard, "PÜ PÜ", "de", [1.0], 1, f"q{query}")
        assert len(graphemes(made.text)) == 5
        assert distance(list("PÜ PÜ"), graphemes(made.text), exchanges=False) == made.edits == 4


def test_the_script_stays(results: Results) -> None:
    for one, language, text, _, made in results:
        if one.scripts_stay and made.edits:
            before, after = ({engine.script(unit) for unit in graphemes(of)} - {""} for of in (text, made.text))
            assert after <= before, (one.name, language, made.text)
    assert {name for name, one in PERTURBATIONS.items() if not one.scripts_stay} == {
        "transliteration",
        "homoglyphs",
        "code_switching",
    }


def test_a_text_is_a_function_of_what_names_it(every: list[Perturbation]) -> None:
    for one in every:
        texts = {}
        for seed in (1, 2):
            for query_id in ("a", "b"):
                made = [perturb(one, text, language, [0.3], seed, query_id)[0].text for language, text in QUESTIONS.items()]
                alone = [
                    perturb(one, text, language, [0.1, 0.3], seed, query_id)[1].text for language, text in QUESTIONS.items()
                ]
                assert made == alone
                texts[seed, query_id] = tuple(made)
        if one.name in DENSE:
            assert len(set(texts.values())) == 4, one.name


def test_what_is_drawn_does_not_hang_on_the_process() -> None:
    """Written down once: another machine has the same."""
    one = PERTURBATIONS["keyboard"](PathsConfig())
    assert [made.text for made in perturb(one, QUESTIONS["en"], "en", [0.1, 0.2], 0, "q1")] == KEYBOARD


KEYBOARD = [
    "How kany plijts did tne Pangheds' defense surdender in 2015, Mr. O'Neill asked?",
    "Hos kany llijts xie tne Pangheda' defense surdwnder jn 2015, Mr. O'Neill asked?",
]


def test_known_facts(every: list[Perturbation]) -> None:
    by_name = {one.name: one for one in every}

    def whole(name: str, text: str, language: str) -> str:
        return perturb(by_name[name], text, language, [1.0], 1, "q")[0].text

    assert whole("diacritics", "Żółć, mañana, Öl, đồng, ещё мой", "pl") == "Zolc, manana, Ol, dong, еще мой"
    assert whole("vowel_signs", "इन्डोनेशिया", "hi") == "इन्डनशय"
    assert whole("vowel_signs", "أُسرة ذَهَبَ", "ar") == "اسرة ذهب"
    assert whole("transliteration", "Москва 東京 とう", "ja") == "Moskva 東京 tou"
    assert whole("transliteration", "北京", "zh") == "BeiJing"
    assert whole("casing", "İstanbul ışık", "tr") in {"istanbul Işık", "istanbul IŞIK"}
    assert whole("casing", "ไทย", "th") == "ไทย"
    assert whole("casing", "ΐδιος", "el") in {"Ϊ\u0301διος", "Ϊ\u0301ΔΙΟΣ"}
    assert whole("casing", "Ϊ\u0301ΔΙΟΣ", "el") == "ΐδιος"
    assert whole("digits", "2015", "ar") == "٢٠١٥"
    assert whole("digits", "٢٠١٥", "ar") == "2015"
    assert whole("digits", "2015", "hi") == "२०१५"
    assert whole("punctuation", "Who? «Me».", "en") == "Who Me"
    assert whole("function_words", "the king of the hill", "en") == "king hill"
    assert whole("spaces", "a b c", "en") == "abc"
    assert whole("word_order", "one two", "en") == "two one"
    assert set(whole("homoglyphs", "aeop", "en")) & set("aeop") == set()
    assert all("가" <= syllable <= "힣" for syllable in whole("keyboard", "한국대학교", "ko"))


def test_a_word_becomes_one_of_the_same_meaning(every: list[Perturbation]) -> None:
    one = next(one for one in every if one.name == "code_switching")
    assert perturb(one, "eau", "fr", [1.0], 1, "q")[0].text in {"water", "H2O"}
    assert perturb(one, "Deutschland", "de", [1.0], 1, "q")[0].text == "Germany"
    assert perturb(one, "Wasser", "de", [1.0], 1, "q")[0].text == "Wasser"
    assert perturb(one, "日本", "zh", [1.0], 1, "q")[0].text.lower() == "japan"
    assert perturb(one, "bank", "en", [1.0], 1, "q")[0].text == "bank"  # of four meanings, each of its own word
    assert perturb(one, "the", "en", [1.0], 1, "q")[0].text == "the"  # a function word
    assert perturb(one, "livre", "fr", [1.0], 1, "q")[0].text == "book"  # in both meanings; a tome in one of two
    for query in "abcdefgh":  # whatever is drawn: no king in it, and no word that begins inside of another
        assert perturb(one, "女王万岁", "zh", [1.0], 1, query)[0].text == "queen万岁"
    assert perturb(one, "การ", "th", [1.0], 1, "q")[0].text == "การ"  # too short to be a word by itself
    assert not one.knows("tlh")


def test_joiners_part_no_word(every: list[Perturbation]) -> None:
    word_order = next(one for one in every if one.name == "word_order")
    assert perturb(word_order, "می\u200cخواهم بروم", "fa", [1.0], 1, "q")[0].text == "بروم می\u200cخواهم"


def test_an_empty_query_is_kept_and_counted() -> None:
    one = PERTURBATIONS["drop"](PathsConfig())
    made = perturb(one, "a", "en", [1.0], 1, "q")[0]
    assert (made.text, made.edits, made.emptied) == ("a", 0, True)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"evaluation.perturb='keybord' is unknown.*keyboard"):
        chosen(["drop", "keybord"])
    assert chosen("none") == []
    assert chosen("drop") == ["drop"]
    assert chosen(["drop", "all"]) == list(PERTURBATIONS)


def test_every_file_is_an_entry() -> None:
    folder = Path(engine.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "perturbation", "suite", "examples"}
    assert files == set(PERTURBATIONS)
