"""Letting a classroom in: the address of this computer in its own network, as words and as a QR code.

Asks nobody: the address is the one from which this computer would send. Knows nothing of the page.
"""

from __future__ import annotations

import io
import socket

ALL_INTERFACES = "0.0.0.0"
PROBE_ADDRESS = ("192.0.2.1", 9)  # set aside for examples; connecting a datagram's socket sends nothing
PLAIN_HTTP_NOTE = (
    "Over plain http a browser opens no camera and pastes no images: phones and other computers choose files, or take "
    "single photographs with a phone's own camera. On this computer everything works at http://127.0.0.1:{port}/"
)


def find_lan_address() -> str:
    """This computer's address in the network that it is in; the loopback's where it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(PROBE_ADDRESS)
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def format_invitation(host: str, port: int) -> str:
    """What to write on the board: the address, its QR code, and what this way cannot do."""
    import segno

    address, code = f"http://{host}:{port}/", io.StringIO()
    segno.make(address, error="l", micro=False).terminal(code, border=2, compact=True)
    return f"\n{code.getvalue()}\nEverybody in this network: {address}\n{PLAIN_HTTP_NOTE.format(port=port)}\n"
