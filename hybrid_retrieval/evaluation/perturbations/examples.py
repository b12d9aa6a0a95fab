"""Every perturbation in every script, as a page: ``python -m hybrid_retrieval.evaluation.perturbations.examples``."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.perturbations.perturbation import perturb
from hybrid_retrieval.evaluation.perturbations.suite import PERTURBATIONS, perturbations

QUESTIONS = {
    "ar": "كم عدد النقاط التي حققها فريق الدفاع في عام 2015؟",
    "de": "Wie viele Bücher schrieb die Königin im Jahr 1815 über Wasser?",
    "el": "Πόσα βιβλία έγραψε η βασίλισσα το 1815 για το νερό;",
    "en": "How many books did the Queen's brother write about water in 1815?",
    "es": "¿Cuántos libros escribió la reina en el año 1815 sobre el agua?",
    "fr": "Combien de livres la reine a-t-elle écrits sur l'eau en 1815 ?",
    "hi": "रानी ने 1815 में पानी के बारे में कितनी किताबें लिखीं?",
    "it": "Quanti libri scrisse la regina sull'acqua nel 1815, e perché?",
    "ja": "女王は1815年に水についての本を何冊書きましたか?",
    "ko": "여왕은 1815년에 물에 관한 책을 몇 권 썼습니까?",
    "pt": "Quantos livros a rainha escreveu sobre a água em 1815, então?",
    "ru": "Сколько книг о воде написала ещё королева в 1815 году?",
    "th": "ราชินีเขียนหนังสือเกี่ยวกับน้ำกี่เล่มในปี 1815?",
    "tr": "Kraliçe 1815 yılında su hakkında kaç kitap yazdı, ışık mı?",
    "vi": "Nữ hoàng đã viết bao nhiêu cuốn sách về nước vào năm 1815?",
    "zh": "女王在1815年写了多少本关于水的书?",
}
SEVERITIES = (0.1, 0.2, 0.4)


def page(paths: PathsConfig) -> Iterator[str]:
    """Markdown, line by line."""
    yield "# Perturbed queries, as they look"
    yield ""
    yield "Made by `python -m hybrid_retrieval.evaluation.perturbations.examples`, without what a perturbation does not change."
    for one in perturbations(list(PERTURBATIONS), paths):
        about = " ".join((type(one).__doc__ or "").split())
        yield from ("", f"## {one.name}", "", about, "")
        yield f"| | {' | '.join(f'severity {severity:g}' for severity in SEVERITIES)} |"
        yield f"|---|{'---|' * len(SEVERITIES)}"
        for language, question in QUESTIONS.items():
            made = [each.text for each in perturb(one, question, language, SEVERITIES, 0, "example")]
            if set(made) != {question}:
                yield f"| {language} | {' | '.join(made)} |"


if __name__ == "__main__":
    print("\n".join(page(PathsConfig())))
