"""The versions that throw away what was made with an older one: each stands for what the code does with these samples.

A test here fails when the code does something else under the same version. Then raise the version, and add its digest
below the others: what was made with the old version is made anew.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from attrloop.components.annotate import request
from attrloop.components.catalogue import prompts, schema
from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.records import Listing
from attrloop.components.catalogue.schema import Attribute, Vertical
from attrloop.components.digests import digest
from attrloop.components.run.config import AnnotateConfig, DataConfig

LISTING = Listing(
    id="m1", vertical="mug", images=("a.jpg", "b.jpg"), title="Camp <b>mug</b>, 12 oz", metadata={"maker": "Acme & Co"}
)
ONE = Attribute.model_validate(
    {
        "description": "what closes it",
        "values": [
            "Lid",
            {"name": "none", "description": "open"},
            "not_visible",
            {"name": "Café-au-lait", "synonyms": ["milky"]},
        ],
    }
)
MANY = Attribute.model_validate({"values": ["dotted", "heart", "1.10", "A-", "5 oz"], "many": True})
MUG = Vertical(description="to drink from", attributes={"lid": ONE, "pattern": MANY})
CHAINS = (
    "I see a lid. Answer: Lid",
    "answer : Lid\nAnswer: none",
    "Answer:\nLid",
    "Answer: dotted; heart",
    "The answer: heart",
    "It is open",
    "ANSWER: none",
    "Answer: wool",
    "Answer:\n\n* heart\n\n* dotted",
    "Answer: heart;\ndotted",
    '{"answer": 1.10}',
)
SPELLINGS = (
    "lid",
    " LID ",
    "cafe-au-lait",
    "Cafe\u0301 au lait",
    "milky",
    "none.",
    "",
    "-",
    "dotted;heart",
    "5oz",
    "A-",
    "A",
    "1.1",
)


def _prompts() -> object:
    asked = [
        prompts.question(LISTING, "lid", attribute, title, metadata)
        for attribute in (ONE, MANY)
        for title in (False, True)
        for metadata in (False, True)
    ]
    taught = [
        prompts.completion(*label) for label in (("I see  a\nlid.", "Lid"), ("", "none"), ("It is. ", "dotted; heart"))
    ]
    read = [
        (prompts.answer_of(chain, attribute), prompts.rationale_of(chain))
        for chain in CHAINS
        for attribute in (ONE, MANY)
    ]
    views = [(prompts.views_of(LISTING, views), prompts.shown(LISTING, -1)) for views in ("first", "all", "each")]
    return [asked, prompts.messages("What is it?", 2), taught, read, views]


def _values() -> object:
    return [attribute.canonical(text) for text in SPELLINGS for attribute in (ONE, MANY)] + [
        MANY.canonical(["heart", "dotted"])
    ]


def _request() -> object:
    made = request.make_request(LISTING, MUG, request.answer_model(MUG), AnnotateConfig(), ["digest"])
    return [made.text, made.instructions, made.reply.model_json_schema()]


def _photographs(folder: Path) -> object:
    gradient = Image.linear_gradient("L").resize((16, 12))
    turned = Image.Exif()
    turned[0x0112] = 6
    samples = {
        "plain": gradient.convert("RGB"),
        "grey": gradient,
        "transparent": Image.merge("RGBA", [gradient, gradient.rotate(180), gradient, gradient]),
        "grey-transparent": Image.merge("LA", [gradient, gradient.rotate(180)]),
        "palette": gradient.convert("RGB").quantize(8),
        "grey16": gradient.convert("I").point(lambda value: value * 257).convert("I;16"),
        "dark16": gradient.convert("I").point(lambda value: value * 16).convert("I;16"),
    }
    for name, image in samples.items():
        image.save(folder / f"{name}.png")
    samples["plain"].save(folder / "turned.png", exif=turned)
    samples["plain"].save(folder / "cmyk.tif")
    floats = gradient.convert("F")
    floats.putpixel((3, 3), 1e30)
    floats.save(folder / "broken.tif")
    reader = ImageReader(folder, DataConfig(catalogue_schema="", listings=""))
    decoded = [reader.open(file.name) for file in sorted(folder.iterdir())]
    return [(image.size, image.mode, digest(image.tobytes())) for image in decoded]


# name -> the version now, and what each version does with the samples
VERSIONS: dict[str, tuple[int, Callable[..., object], dict[int, str]]] = {
    "catalogue/prompts.py VERSION": (
        prompts.VERSION,
        _prompts,
        {1: "b63d687b483a7619", 2: "bd1848ee382dea9d", 3: "81efe7947d4d69d0"},
    ),
    "catalogue/schema.py VERSION": (schema.VERSION, _values, {1: "5fb3e4e04e8b5d88", 2: "a29543d6cd84ab46"}),
    "annotate/request.py VERSION": (request.VERSION, _request, {1: "d69f527ce5e03a01"}),
    "catalogue/images.py ImageReader.version": (
        ImageReader.version,
        _photographs,
        {2: "023161b5bb0b0df6", 3: "5941d6de7757b1ad", 4: "5a70f38f9186c65e"},
    ),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_stands_for_what_the_code_does(name: str, tmp_path: Path) -> None:
    version, made, known = VERSIONS[name]
    found = digest(made(tmp_path) if made is _photographs else made())
    told = f"{name} = {version} did something else: raise the version, and add it here as {found!r}"
    assert known.get(version) == found, told
    assert len(set(known.values())) == len(known)
