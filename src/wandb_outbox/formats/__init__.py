"""What a run folder is, what in it says that it is done or failed, and how its content is read.

``recognise`` and ``evidence`` run in the daemon: they are cheap, read a bounded part of a file and import no
YAML, OmegaConf or orjson. ``read`` runs in the uploader only.
"""

from wandb_outbox.formats.content import Content, SampleRange, Samples
from wandb_outbox.formats.done_when import done_when
from wandb_outbox.formats.registry import FORMATS, Format, evidence, read, recognise

__all__ = [
    "FORMATS",
    "Content",
    "Format",
    "SampleRange",
    "Samples",
    "done_when",
    "evidence",
    "read",
    "recognise",
]
