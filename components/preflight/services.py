"""The check of the annotator."""

from contextlib import closing

from attrloop.components.preflight.finding import Finding
from attrloop.components.run.config import RunConfig


def check_annotator(config: RunConfig) -> Finding:
    """The annotator is one that exists, has a key and can be used."""
    from attrloop.components.annotate.annotators import make_annotator  # their SDKs take a second to import

    finding = Finding("annotator")
    with finding.gathering("annotate"), closing(make_annotator(config.annotate)) as annotator:
        readiness = annotator.check()
        finding.detail, finding.note = readiness.detail, readiness.doubtful
    return finding
