"""Languages as this house calls them, of the three-letter codes (ISO 639-3) that some publishers use."""

from __future__ import annotations

SHORT_NAMES = (
    "afr:af amh:am ara:ar arb:ar aze:az bak:ba bel:be ben:bn bod:bo bos:bs bre:br bul:bg cat:ca ces:cs cha:ch cmn:zh cor:kw "
    "cym:cy dan:da deu:de div:dv dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fry:fy "
    "gla:gd gle:ga glg:gl guj:gu hau:ha heb:he hin:hi hrv:hr hun:hu hye:hy ibo:ig ido:io ile:ie ina:ia ind:id isl:is ita:it "
    "jav:jv jpn:ja kan:kn kat:ka kaz:kk khm:km kin:rw kir:ky kor:ko kur:ku lao:lo lat:la lav:lv lit:lt ltz:lb lvs:lv mal:ml "
    "mar:mr mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nde:nd nep:ne nld:nl nno:nn nob:nb nya:ny oci:oc orm:om pan:pa "
    "pes:fa pol:pl por:pt pus:ps ron:ro rus:ru sin:si slk:sk slv:sl smo:sm sna:sn snd:sd som:so spa:es sqi:sq srp:sr ssw:ss "
    "swa:sw swe:sv swh:sw tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti ton:to tsn:tn tuk:tk tur:tr uig:ug ukr:uk "
    "urd:ur uzb:uz ven:ve vie:vi wol:wo xho:xh yid:yi yor:yo zho:zh zsm:ms zul:zu"
)
SHORT = dict(name.split(":") for name in SHORT_NAMES.split())


def short_names(codes: str) -> dict[str, str]:
    """The codes by our names: ``de`` for ``deu``, ``pt_br`` for ``por-BR``; one without two letters stays as it is."""
    parts = {code: code.partition("-") for code in codes.split()}
    names = {"_".join(filter(None, (SHORT.get(code, code), more.lower()))): whole for whole, (code, _, more) in parts.items()}
    return {{"zh_cn": "zh"}.get(name, name): code for name, code in names.items()}
