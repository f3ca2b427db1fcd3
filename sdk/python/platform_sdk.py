"""Helpers for plugins in Python: settings, problems with them, the log, the answers of a policy.

The modules `wit_world` and `componentize_py_types` are generated from `plugin.wit` when the component is built;
`componentize-py -d WIT -w plugin bindings DIR` writes them for an editor to read.
"""

import json

from componentize_py_types import Err
from wit_world.exports import lifecycle
from wit_world.imports import log


def problem(message, at=None):
    """What is wrong with settings, to be raised; `at` points to the setting at fault."""
    return Err(lifecycle.Problem(message, at))


def settings(text, **defaults):
    """The settings as an object, with defaults for what is not given. What is not among them is refused."""
    given = json.loads(text)
    for name in given:
        if name not in defaults:
            there = ", ".join(f"`{known}`" for known in sorted(defaults))
            raise problem(f"unknown setting `{name}`; there are {there}", f"/{name}")
    return {**defaults, **given}


def log_line(message, level="info", **fields):
    """Writes a line to the log of the host."""
    log.write(log.Level[level.upper()], message, [(name, str(value)) for name, value in fields.items()])


def allow(reason="", set_headers=(), remove_headers=()):
    """The request may go on, unless another policy of the chain denies it."""
    from wit_world.imports import types

    return types.Decision_Allow(types.Allow(reason, list(set_headers), list(remove_headers)))


def deny(reason, status=0, headers=()):
    """The request must not go on. Status 0 is the usual one: 401 without a verified caller, else 403."""
    from wit_world.imports import types

    return types.Decision_Deny(types.Deny(reason, status, list(headers)))


def abstain():
    """This policy has no opinion."""
    from wit_world.imports import types

    return types.Decision_Abstain()


def kv_error(kind, value):
    """Why a call of a key-value store failed, to be raised: `kv_error("Invalid", "the key is empty")`."""
    from wit_world.imports import types

    return Err(getattr(types, f"Error_{kind}")(value))
