"""Every annotator by its name, the config's `annotate.provider`.

To add one, write a module with a class that follows `annotator.Annotator`, and give it a line in `ANNOTATORS`.
"""

from collections.abc import Callable

from attrloop.components.annotate.annotator import Annotator
from attrloop.components.annotate.openai_endpoint import OpenAIEndpoint
from attrloop.components.errors import fail
from attrloop.components.run.config import AnnotateConfig

ANNOTATORS: dict[str, Callable[[AnnotateConfig], Annotator]] = {
    "openai": OpenAIEndpoint,
}


def make_annotator(config: AnnotateConfig) -> Annotator:
    """The annotator that the config names.

    Raises:
        InputError: there is none of this name, or it has no key.
    """
    if config.provider not in ANNOTATORS:
        what = f"there is no annotator {config.provider!r}"
        raise fail("annotate.provider", what, f"Use one of: {', '.join(ANNOTATORS)}")
    return ANNOTATORS[config.provider](config)
