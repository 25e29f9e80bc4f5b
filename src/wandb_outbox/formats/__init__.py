"""What a run folder is, what in it says that it is done or failed, and how its content is read.

``recognise`` and ``evidence`` run in the daemon: they are cheap, read a bounded part of a file and import no
YAML or orjson. ``upload_wish`` does, too, and imports YAML only where the folder says something of its
upload. ``read`` and ``read_declaration`` run in the uploader only.
"""

from wandb_outbox.formats.content import Content, SampleRange, Samples
from wandb_outbox.formats.declaration import (
    DECLARATION,
    HOLD,
    NEVER,
    Declaration,
    DeclaredArtifact,
    read_declaration,
    upload_wish,
)
from wandb_outbox.formats.done_when import done_when
from wandb_outbox.formats.registry import (
    Format,
    bytes_to_send,
    evidence,
    faults,
    kind_of,
    of_unit,
    read,
    recognise,
    units,
    weights_of,
)

__all__ = [
    "DECLARATION",
    "HOLD",
    "NEVER",
    "Content",
    "Declaration",
    "DeclaredArtifact",
    "Format",
    "SampleRange",
    "Samples",
    "bytes_to_send",
    "done_when",
    "evidence",
    "faults",
    "kind_of",
    "of_unit",
    "read",
    "read_declaration",
    "recognise",
    "units",
    "upload_wish",
    "weights_of",
]
