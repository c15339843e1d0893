"""How long somebody waits for what needs little, against `import torch, timm`, taking turns: one line."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import BACKBONE

import headswap

ROOT = Path(__file__).parents[1]
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
PICTURE = ROOT / "assets" / "leaves" / "rust" / "rust-01.jpg"
LITTLE = {
    "import headswap": ["-c", "import headswap"],
    "--help": ["-m", "headswap", "--help"],
    "--version": ["-m", "headswap", "--version"],
    "heads": ["-m", "headswap", "heads"],
}
# A forward pass on as many cores as `predict` takes, of a network that is built in no time that counts.
ALONE = """
import time
began = time.perf_counter()
import torch, timm
imported = time.perf_counter() - began
network = timm.create_model("tf_efficientnet_lite0").eval()
began = time.perf_counter()
with torch.inference_mode():
    network(torch.zeros(1, 3, 224, 224))
print(imported + time.perf_counter() - began)
"""


def seconds(command):
    """Seconds of a new process, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def alone():
    """Seconds of the two imports and a forward pass, as the process itself measures them."""
    done = subprocess.run([sys.executable, "-c", ALONE], check=True, capture_output=True, text=True)
    return float(done.stdout)


def told(name, values):
    """The median and the range of a command."""
    return f"{name} {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        model = Path(home, "model.headswap")
        headswap.save(headswap.adapt(BACKBONE, ["healthy", "mildew", "rust"]), model)
        commands = LITTLE | {"predict": ["-m", "headswap", "predict", str(model), str(PICTURE)]}
        rounds = [({name: seconds(command) for name, command in commands.items()}, alone()) for _ in range(ROUNDS)]
    ratios = [measured["predict"] / baseline for measured, baseline in rounds]
    figures = ", ".join(told(name, [measured[name] for measured, _ in rounds]) for name in commands)
    ratio = f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{figures}; predict is {ratio} `import torch, timm` and a forward pass (median of {ROUNDS} rounds)")
