"""The annotator's key."""

from attrloop.components.errors import fail
from attrloop.components.run.config import AnnotateConfig
from attrloop.components.secrets import secret


def read_key(config: AnnotateConfig) -> str:
    """The key, from the environment only.

    Raises:
        InputError: when it is not set, or is none.
    """
    if key := secret(config.key_env):
        return key
    remedy = f"export {config.key_env}=... (any text for an endpoint that needs none), or name another variable in annotate.key_env"
    raise fail("annotate.key_env", f"no key: the environment variable {config.key_env} is not set", remedy)
