"""The pages of LibreOffice's help: where a language's are, and their blocks.

A language's pages are a folder (``<language>/text/**/*.html``, installed or unpacked) or a Debian package, which
``apt-get`` downloads.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from hybrid_retrieval.cache import scratch
from hybrid_retrieval.data.languages import STANDS_FOR
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import open_input

PACKAGE = "libreoffice-help-"
PACKAGED = "ca cs da de dz el en en_gb es et eu fi fr gl hi hu id it ja km ko nl om pl pt pt_br ru sk sl sv tr vi zh zh_tw"
"""What Debian 12 has a package of; others may be asked for by name."""
HEADING_TAGS = frozenset(("h", "h1", "h2", "h3", "h4", "h5", "h6"))

Page = dict[str, tuple[bool, str]]
"""Block id -> (is a heading, text), in reading order."""
Pages = dict[str, Page]


def folder_name(language: str) -> str:
    """The folder of a language: ``pt_br`` -> ``pt-BR``."""
    head, _, tail = STANDS_FOR.get(language, language).partition("_")
    return f"{head}-{tail.upper()}" if tail else head


def package_name(language: str) -> str:
    """The distribution's package of a language: ``pt_br`` -> ``libreoffice-help-pt-br``."""
    return PACKAGE + folder_name(language).lower()


def installed_version(package: str) -> str:
    """The version of an installed package, or ``unknown``."""
    if not shutil.which("dpkg-query"):
        return "unknown"
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def download(package: str, into: Path) -> None:
    """Fetch a package's file with ``apt-get download``, which needs the package lists but not root."""
    advice = "check dataset.languages, install the libreoffice-help packages, set dataset.help_dir, or choose dataset=synthetic"
    if not shutil.which("apt-get"):
        raise InputError(f"LibreOffice help is not installed and apt-get is not there to download it: {advice}")
    # The sandbox user that apt drops to as root cannot write here.
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package]
    with scratch(into) as work:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        files = list(work.glob("*.deb"))
        if done.returncode or not files:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "apt-get failed")
            way = "run 'apt-get update' as root (or 'make data' as root)"
            raise InputError(f"cannot download {package} ({reason.strip()}): {way}; otherwise {advice}")
        files[0].replace(into / files[0].name)


def refresh_package_lists() -> bool:
    """Run ``apt-get update``; whether it worked (it needs root)."""
    if not shutil.which("apt-get"):
        return False
    return subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False).returncode == 0


def read_all(places: Iterable[Path], processes: int) -> Iterator[Pages]:
    """The pages of each place, read in `processes` of their own, or here where there is one."""
    if processes == 1:
        yield from map(read_pages, places)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(read_pages, places)


def read_pages(place: Path) -> Pages:
    """All pages of a language, from a folder or a package file, by path below ``text/``."""
    if place.is_file():
        with tempfile.TemporaryDirectory() as folder:
            unpack = ["dpkg-deb", "--extract", str(place), folder]
            if subprocess.run(unpack, capture_output=True, check=False).returncode:
                raise InputError(f"{place} is damaged: delete it, and it will be downloaded again")
            return read_pages(next(Path(folder).glob("**/help/*/text"), Path(folder)).parent)
    root = place / "text"
    pages: Pages = {}
    for file in sorted(root.rglob("*.html")):
        with open_input(file) as opened:
            content = opened.read()
        if not content.strip():
            raise InputError(f"{place}: page {file.relative_to(root)} is empty")
        pages[str(file.relative_to(root))] = parse_page(content)
    if not pages:
        raise InputError(f"{place} holds no help pages (text/**/*.html)")
    return dict(sorted(pages.items()))


def parse_page(content: bytes) -> Page:
    """The blocks of a page; an id that a page repeats counts once."""
    from lxml import html

    area = html.document_fromstring(content).xpath("//*[@id='DisplayArea']")
    page: Page = {}
    for element in area[0].iter() if area else ():
        block = element.get("id") if isinstance(element.tag, str) else None
        if block and block not in page and (element.tag == "p" or element.tag in HEADING_TAGS):
            page[block] = (element.tag in HEADING_TAGS, " ".join(element.text_content().split()))
    return page


def sections(page: Page) -> dict[str, list[str]]:
    """The blocks after each heading, up to the next one."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for block, (is_heading, _) in page.items():
        if is_heading:
            current = found[block] = []
        else:
            current.append(block)
    return found
