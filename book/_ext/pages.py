"""Small repairs of what jupyter-book 1 renders."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode

from lib.wording import typeset

NOT_HERE = "–<span class='visually-hidden'> (not measured at this scale)</span>"

# the typesetter, what it loads when a formula asks for it, its fonts, and speech in English
MATHJAX = ("tex-chtml.js", "input/tex/extensions/", "output/chtml/fonts/woff-v2/", "a11y/")
MATHJAX += tuple(f"sre/mathmaps/{name}.json" for name in ("base", "en", "nemeth"))

REPAIRS = [
    # it may scroll: reachable by keyboard
    (r"<pre(?=[ >])(?![^>]* tabindex=)", '<pre tabindex="0"'),
    (r'<div(?= class="math[ "])', '<div tabindex="0"'),
    (r"<img(?= )(?![^>]* alt=)", '<img alt=""'),
    # the old role is deprecated and its list wants items
    (r' role="doc-biblioentry"', ' role="listitem"'),
    # numbers that a cell has computed: a minus sign, powers of ten; a dash for what is not there
    (r'(?<=<span class="pasted-text">)[+-]?nan(?=<)', NOT_HERE),
    (r'(?<=<span class="pasted-text">)[^<]+', lambda found: typeset(found[0])),
]


def thebe_once(app, pagename, templatename, context, doctree):
    """sphinx-thebe declares its constants twice, which is a JavaScript error on every page."""
    seen = set()
    for script in list(context.get("script_files", [])):
        body = getattr(script, "attributes", {}).get("body", "") or ""
        if "THEBE_JS_URL" in body:
            if body in seen:
                context["script_files"].remove(script)
            seen.add(body)


def colab(app, pagename, templatename, context, doctree):
    """Colab cannot open the Markdown source: point its button at the published notebook."""
    for button in context.get("header_buttons", []):
        for entry in button.get("buttons", []):
            if "colab" in str(entry.get("url", "")):
                entry["url"] = re.sub(
                    r"/blob/[^/]+/book/([\w-]+)\.\w+$", r"/blob/notebooks/\1.ipynb", entry["url"]
                )


def plain_types(app, what, name, obj, options, signature, return_annotation):
    """jaxtyping renders as Float[jaxlib._jax.Array, 'n d']; show Float[Array, 'n d']."""

    def clean(text):
        text = text and re.sub(r"(?:jaxlib\._jax|jax)\.Array", "Array", text)
        text = text and re.sub(r"\boptax\._src\.\w+\.", "optax.", text)
        return text and re.sub(r"\b(?:jaxtyping|numpy|collections\.abc|typing|pathlib)\.", "", text)

    return clean(signature), clean(return_annotation)


def one_fold(app, doctree, docname):
    """Folded cells without output that follow each other go into one fold: those of the claims."""
    for parent in list(doctree.findall(nodes.section)):
        run: list[nodes.Node] = []
        for child in [*parent.children, None]:
            if child is not None and _only_folded(child):
                run.append(child)
                continue
            if len(run) > 2:
                group = HideCodeCellNode(
                    prompt_show=f"Show the code of {len(run)} cells",
                    prompt_hide=f"Hide the code of {len(run)} cells",
                    classes=["above-input"],
                )
                box = nodes.container("", group, classes=["cell", "tag_hide-input"])
                parent.insert(parent.index(run[0]), box)
                for cell in run:
                    parent.remove(cell)
                    inside = [node for fold in cell.children for node in fold.children]
                    cell.clear()
                    cell.extend(inside)
                    group.append(cell)
            run = []


def _only_folded(node):
    """Whether a cell is folded as a whole, and has no output."""
    return (
        isinstance(node, nodes.container)
        and "cell" in node["classes"]
        and all(isinstance(part, HideCodeCellNode) for part in node.children)
        and not any("cell_output" in one["classes"] for one in node.findall(nodes.container))
    )


def repair(app, exception):
    """Repair what is left to those who use no mouse, see no picture, or know no 2e-07."""
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag, repaired in REPAIRS:
            text = re.sub(tag, repaired, text)
        page.write_text(text, encoding="utf-8")


def only_used_mathjax(app, exception):
    """The offline MathJax is 24 MB, of which pages load the typesetter and its fonts."""
    folder = Path(app.outdir) / "_static" / "mathjax"
    if exception or not folder.is_dir():
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not path.relative_to(folder).as_posix().startswith(MATHJAX):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def setup(app):
    app.connect("html-page-context", colab, priority=900)
    app.connect("html-page-context", thebe_once, priority=901)
    app.connect("autodoc-process-signature", plain_types)
    app.connect("doctree-resolved", one_fold)
    app.connect("build-finished", only_used_mathjax)
    app.connect("build-finished", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
