"""Puts a checkpoint's own figures into the model card.

    python card.py --from FOLDER --gguf ../chat.gguf --card ../CARD.md
"""

import argparse
import math
import re
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--card", type=Path, required=True)
    options = parser.parse_args()
    record = torch.load(options.source / "model.pt", map_location="cpu")["record"]
    loss = record["held_out_loss"]
    figures = {
        "bytes": f"{options.gguf.stat().st_size:,}",
        "parameters": f"{record['parameters']:,}",
        "steps": f"{record['step']:,}",
        "tokens": f"{record['tokens']:,}",
        "minutes": f"{record['minutes']:.0f}",
        "loss": f"{loss:.3f}",
        "perplexity": f"{math.exp(loss):.2f}",
    }
    text = options.card.read_text()
    for name, value in figures.items():
        text, found = re.subn(rf"(<!--{name}-->)[^<]*(<!---->)", rf"\g<1>{value}\g<2>", text)
        if found != 1:
            raise SystemExit(f"{options.card}: {found} places for {name}, not 1")
    options.card.write_text(text)


if __name__ == "__main__":
    main()
