"""What a claim of a chapter rests on, read off the names in its code.

A chapter's cells assign names, and a claim is a call `Claim(id, ...)` that uses some. Following
names back tells the section in which a claim's numbers are computed, and the cells without which it
cannot be.
"""

from __future__ import annotations

import ast
import re
import symtable
from typing import NamedTuple

HEADING = re.compile(r"^#{2,4} (.+)$", re.MULTILINE)
FEW = 0.1  # of a vote: a name that ten claims use says nothing of one
DEPTH = 6  # how far names are followed through the cells of the claims


class Piece(NamedTuple):
    """A statement at the top of a cell."""

    section: str  # the heading above
    stores: set[str]  # names that it assigns or imports
    maybe: set[str]  # names that it assigns if a loop or a branch comes to it
    changes: set[str]  # names whose objects it changes: x[0] = 1, x.append(1)
    loads: set[str]
    later: set[str]  # names that a function it defines will load
    claims: dict[str, set[str]]  # of each claim made here, the names in its call

    @property
    def touches(self) -> set[str]:
        """Names that are not the same after it."""
        return self.stores | self.maybe | self.changes


def origins(notebook: dict) -> dict[str, str]:
    """For each claim, the heading of the section that computes what it is judged by.

    Helpers beside the claims lead on to what they use. A name counts the less, the more claims use
    it. A claim whose numbers come from no other section is left out.
    """
    code = [
        _piece(node, section)
        for text, section in _code(notebook)
        for node in ast.parse(text).body
        if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    homes = [one for one, statement in enumerate(code) if statement.claims]
    names = {claim: found for i in homes for claim, found in code[i].claims.items()}
    used = [name for found in names.values() for name in found]
    return {
        claim: section
        for i in homes
        for claim in code[i].claims
        if (section := _origin(code[: i + 1], names[claim], used))
    }


def rests_on(notebook: dict, claims: set[str]) -> tuple[list[int], str]:
    """The numbers of the code cells that some claims need, and a last cell that shows just these.

    Raises ValueError for a claim that no cell makes by a literal `Claim("id", ...)`.
    """
    cells = [text for text, _ in _code(notebook)]
    calls = {
        call.args[0].value: ast.get_source_segment(text, call)
        for text in cells
        for call in _claim_calls(ast.parse(text))
    }
    if missing := sorted(claims - calls.keys()):
        raise ValueError(f"no cell says Claim(id, ...) of {', '.join(missing)}")
    made = ", ".join(calls[one] for one in sorted(claims))
    last = f'Claims({made}, slug="some", scale=scale, seed=seed)'
    statements = [ast.parse(text).body for text in [*cells, last]]
    modules = _imported(one for cell in statements for one in cell)
    pieces = [[_piece(node, "", modules) for node in cell] for cell in statements]
    needed, always = {len(cells)}, set()
    while True:  # a function may use what is assigned below it, so that one pass is not enough
        wanted, before = set(), len(needed)
        for i in range(len(cells), -1, -1):
            if i in needed or any(p.touches & (wanted | always) for p in pieces[i]):
                needed.add(i)
                for p in reversed(pieces[i]):
                    wanted = (wanted - p.stores) | p.loads | p.changes
                    always |= p.later
        if len(needed) == before:
            return sorted(needed - {len(cells)}), last


def _origin(code, names, used):
    home, seen, votes = code[-1].section, {"scale", "seed"}, {}
    data = set()
    for _ in range(DEPTH):  # a function that uses one that uses data does so itself
        data |= {name for s in code if _tells(s, data) for name in s.touches}
    for _ in range(DEPTH):
        further = set()
        for name in sorted(names - seen):
            where = [s for s in code if name in s.touches]
            if where and where[-1].section == home:
                further |= where[-1].loads | where[-1].later
            elif where and where[-1].section and _tells(where[-1], data):
                weight = 1 / max(used.count(name), 1)
                votes[where[-1].section] = votes.get(where[-1].section, 0) + weight
        seen |= names
        names = further
        if votes and max(votes.values()) >= 0.5:
            break
    order = list(dict.fromkeys(s.section for s in code))
    best = max(votes, key=lambda s: (votes[s], order.index(s)), default=None)
    return best if votes.get(best, 0) >= FEW else None


def _tells(piece, data):
    """No function that computes with its arguments alone: that one may stand anywhere."""
    return not piece.later or bool(piece.later & data)


def _code(notebook):
    """The text of each code cell, and the heading above it; magics count as empty."""
    section = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            section = (HEADING.findall(text) or [section])[-1].strip()
        elif cell["cell_type"] == "code":
            try:
                ast.parse(text)
            except SyntaxError:
                text = ""
            yield text, section


def _imported(statements):
    """Names that import statements bind: a call of what is in a module does not change it."""
    imports = [one for one in statements if isinstance(one, ast.Import | ast.ImportFrom)]
    return {(a.asname or a.name).split(".")[0] for one in imports for a in one.names}


def _piece(statement, section, modules=frozenset()):
    nodes = list(ast.walk(statement))
    defines = isinstance(statement, ast.FunctionDef | ast.ClassDef)
    sure = isinstance(statement, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom)
    (stores, loads, inside), maybe = _names(statement), set()
    changed = [
        n
        for n in nodes
        if isinstance(n, ast.Subscript | ast.Attribute) and isinstance(n.ctx, ast.Store)
    ]
    changes = {root for n in changed if (root := _root(n))}
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        changes |= {_root(statement.value.func)} - {None} - modules  # x.append(1)
    if not (sure or defines):
        maybe, stores = stores, set()
    claims = {call.args[0].value: _exposed(ast.Expr(call)) for call in _claim_calls(statement)}
    if defines:
        return Piece(section, stores, maybe, changes, loads, inside, claims)
    return Piece(section, stores, maybe, changes, _exposed(statement), set(), claims)


def _exposed(statement):
    """Names that a statement loads before it has stored them itself."""
    if isinstance(statement, ast.For | ast.With):
        heads = [statement.iter] if isinstance(statement, ast.For) else statement.items
        targets = [statement.target] if isinstance(statement, ast.For) else statement.items
        bound = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        loads = {n.id for h in heads for n in ast.walk(h) if isinstance(n, ast.Name)}
        if isinstance(statement, ast.With):
            bound -= {n for one in heads for n in _loaded(one)}
        return (loads - bound) | (_exposed_by(statement.body) - bound)
    if isinstance(statement, ast.If):
        return _loaded(statement.test).union(
            _exposed_by(statement.body), _exposed_by(statement.orelse)
        )
    _, loads, inside = _names(statement)
    return loads | inside


def _exposed_by(statements):
    wanted = set()
    for statement in reversed(statements):
        stores = _names(statement)[0] if isinstance(statement, ast.Assign) else set()
        wanted = (wanted - stores) | _exposed(statement)
    return wanted


def _loaded(tree):
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _names(statement):
    """What a statement stores, what it loads, and what functions inside it load."""
    table = symtable.symtable(ast.unparse(statement), "cell", "exec")
    symbols = table.get_symbols()
    stores = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    loads = {s.get_name() for s in symbols if s.is_referenced()}
    if isinstance(statement, ast.AugAssign):
        loads |= _loaded(ast.parse(ast.unparse(statement.target)))
    inside = {name for child in table.get_children() for name in _globals(child)}
    return stores, loads, inside


def _globals(table):
    """Names that a function, a class or a comprehension takes from the notebook."""
    own = {s.get_name() for s in table.get_symbols() if s.is_global()}
    return own.union(*(_globals(child) for child in table.get_children()))


def _claim_calls(tree):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Claim"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]


def _root(node):
    """`x` of `x[i].y.append`; None for a plain name."""
    if not isinstance(node, ast.Subscript | ast.Attribute):
        return None
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
