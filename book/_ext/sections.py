"""In which section of a chapter the numbers of a claim are computed: read off the code."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

HEADING = re.compile(r"^#{2,4} (.+)$", re.MULTILINE)
DEPTH = 6  # how far names are followed through the cells of the claims


class Statement(NamedTuple):
    section: str
    stores: set[str]
    loads: set[str]
    claims: dict[str, set[str]]  # of each claim made here, the names in its call


def origins(notebook: dict) -> dict[str, str]:
    """For each claim, the heading of the section that computes what it is judged by.

    From the call `Claim(id, ...)` names are followed back to the statements that assign them;
    helpers beside the claims lead on to what they use. A name counts the less, the more claims use
    it. A claim whose numbers come from no other section is left out.
    """
    code = _statements(notebook)
    homes = {one for one, statement in enumerate(code) if statement.claims}
    names = {claim: found for i in homes for claim, found in code[i].claims.items()}
    used = [name for found in names.values() for name in found]
    return {
        claim: section
        for i in sorted(homes)
        for claim in code[i].claims
        if (section := _origin(code[: i + 1], names[claim], used))
    }


def _origin(code, names, used):
    home, seen, votes = code[-1].section, set(), {}
    for _ in range(DEPTH):
        further = set()
        for name in sorted(names - seen):
            where = [s for s in code if name in s.stores]
            if where and where[-1].section == home:
                further |= where[-1].loads
            elif where and where[-1].section:
                weight = 1 / max(used.count(name), 1)
                votes[where[-1].section] = votes.get(where[-1].section, 0) + weight
        seen |= names
        names = further
        if votes and max(votes.values()) >= 0.5:
            break
    order = list(dict.fromkeys(s.section for s in code))
    return max(votes, key=lambda s: (votes[s], order.index(s)), default=None)


def _statements(notebook):
    found, section = [], ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            section = (HEADING.findall(text) or [section])[-1].strip()
        elif cell["cell_type"] == "code":
            try:
                tree = ast.parse(text)
            except SyntaxError:  # a magic
                continue
            found += [_statement(node, section) for node in tree.body]
    return found


def _statement(node, section):
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    stores = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    stores |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and n.args]
    claims = {
        call.args[0].value: {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}
        for call in calls
        if getattr(call.func, "id", "") == "Claim" and isinstance(call.args[0], ast.Constant)
    }
    return Statement(section, stores, {n.id for n in names} - stores, claims)
