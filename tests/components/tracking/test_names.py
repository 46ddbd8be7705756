import pytest

from attrloop.components.tracking.names import slug, slugs


@pytest.mark.parametrize(("name", "short"), [("Café Mugs & Cups", "cafe-mugs-cups"), ("rug", "rug"), (" a/b ", "a-b")])
def test_slugs_are_plain(name: str, short: str) -> None:
    assert slug(name) == short


def test_names_that_would_share_a_slug_stay_apart() -> None:
    short = slugs(["mugs & cups", "mugs cups", "rug", "鞋", "帽"])
    assert len(set(short.values())) == 5 and all(short.values())
    assert short["rug"] == "rug"
