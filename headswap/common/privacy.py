"""Opts out of the telemetry of onnxruntime, Gradio and huggingface_hub before they are imported.

Weights are downloaded and models pushed on request only; nothing else shall leave this machine. The libraries read
these variables once, while they are imported, so this module comes before any of them and imports none; a program
that imports onnxruntime before headswap has to set its variable itself. Values that are set already are overwritten:
the promise to the owners of the images must not depend on a setting that was made for another program.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType

TELEMETRY_OPT_OUTS: Mapping[str, str] = MappingProxyType(
    {
        # onnxruntime's native code: a device number and a database below ~/.cache, and a collector at Microsoft.
        "ORT_DISABLE_TELEMETRY": "1",
        # Gradio: the components of a page, each launch and each error, and a check for a newer version.
        "GRADIO_ANALYTICS_ENABLED": "False",
        # huggingface_hub, also within Gradio: each start, versions of other packages, other programs that it finds.
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Every library that honours https://donottrack.sh.
        "DO_NOT_TRACK": "1",
    }
)

os.environ.update(TELEMETRY_OPT_OUTS)
