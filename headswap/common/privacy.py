"""Nothing leaves this machine: what the libraries beneath would report home is switched off before they are imported.

They read these variables once, while they are imported, so this comes before any of them and imports none; a program
that imports onnxruntime before headswap has to set its variable itself. Whatever the variables said before does not
count: a promise to people whose pictures are on this machine cannot hang on how somebody set it up for another program.

Knows nothing of what somebody asks for: weights are downloaded, and models pushed, by name and on request.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType

TELEMETRY_OPT_OUTS: Mapping[str, str] = MappingProxyType(
    {
        # onnxruntime's native code: a device number and a database below ~/.cache, and a collector at Microsoft.
        "ORT_DISABLE_TELEMETRY": "1",
        # Gradio: what a page is made of, each launch and each error, and whether there is a newer version.
        "GRADIO_ANALYTICS_ENABLED": "False",
        # The hub's client, and Gradio's: each start, versions of other packages, a list of programs to look for.
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Whatever else honours https://donottrack.sh.
        "DO_NOT_TRACK": "1",
    }
)

os.environ.update(TELEMETRY_OPT_OUTS)
