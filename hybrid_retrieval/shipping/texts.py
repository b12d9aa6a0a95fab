"""Texts that an export is checked with: many scripts, and what tokenizers stumble over."""

from __future__ import annotations

SENTENCES = (
    "The spreadsheet keeps its formulas when a sheet is copied.",
    "Die Tabelle behält ihre Formeln, wenn ein Blatt kopiert wird.",
    "La hoja de cálculo conserva sus fórmulas al copiar una hoja.",
    "Comment changer la police d'un paragraphe ?",
    "Come si inserisce un'immagine nel documento?",
    "Таблица сохраняет формулы при копировании листа.",
    "Як зберегти документ у форматі PDF?",
    "Πώς αλλάζω τη γλώσσα του εγγράφου;",
    "スプレッドシートの数式をコピーするにはどうすればよいですか。",
    "如何在文档中插入表格？",
    "문서의 여백을 어떻게 바꾸나요?",
    "كيف أغيّر لغة المستند؟",
    "כיצד מוסיפים טבלה למסמך?",
    "दस्तावेज़ में चित्र कैसे जोड़ें?",
    "ฉันจะบันทึกเอกสารได้อย่างไร",
    "Làm thế nào để chèn bảng vào tài liệu?",
    "Jak zmienić czcionkę w całym dokumencie?",
    "Belgenin kenar boşluklarını nasıl değiştiririm?",
    "Hvordan ændrer jeg sidens retning?",
    "Hogyan lehet a táblázatot rendezni?",
    "Jinsi ya kuhifadhi hati yako",
    "COPY  a <mask> sheet\tof 12,5 % & 3 ﬁles 🎉",
    "a",
)
TEXTS = (*SENTENCES, " ".join(SENTENCES), " ".join(SENTENCES[::-1] * 8))
