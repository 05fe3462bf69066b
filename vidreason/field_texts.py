"""The texts below the fields of a dataclass, which Python itself does not keep."""

import ast
import inspect
import textwrap
from functools import cache


@cache
def field_texts(schema: type) -> dict[str, str]:
    """Return what stands below each field of a dataclass, by its name, on one line.

    Fields without a text are left out. Empty where the source is not there, as in a frozen
    application.
    """
    texts: dict[str, str] = {}
    # From the oldest parent down, without object, so that a subclass has the last word.
    for base in reversed(schema.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):
            continue
        (definition,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
        name = ""
        for node in definition.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
            # A text belongs to the field right above it.
            elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                texts[name] = " ".join(str(node.value.value).split())
                name = ""
            else:
                name = ""
    return texts
