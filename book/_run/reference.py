"""Pin what the checked cells of a chapter's smoke run say, for the tests to compare with."""

from __future__ import annotations

import argparse
import json

import nbformat

from chapters import ROOT, code_cells, executed


def checked(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The text of each checked cell, by the cell's name."""
    return {
        cell.metadata["name"]: "".join(
            output.data["text/plain"] for output in cell.outputs if "data" in output
        )
        for cell in code_cells(notebook)
        if "nbval-check-output" in cell.metadata.get("tags", [])
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slug")
    slug = parser.parse_args().slug
    file = ROOT / "tests" / "reference" / f"{slug}.smoke.json"
    file.parent.mkdir(exist_ok=True)
    text = checked(nbformat.read(executed(slug, "smoke"), 4))
    file.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {file.relative_to(ROOT)}: read it before you commit it")
