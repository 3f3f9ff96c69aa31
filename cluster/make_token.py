"""Command that makes the token for access to your clusters. Run it once, before the first ``ray up``.

::

    python -m cluster.make_token
"""

from __future__ import annotations

from dataclasses import dataclass

from htt import console, token_file


@dataclass
class Options(console.Options):
    """Write a new token to ~/.ray/auth_token, readable only by you; an existing token is kept."""


def main(options: Options) -> None:  # noqa: ARG001 - the command has no options of its own
    """Write the token if there is none, and print where it is and what to type; the token itself is never printed."""
    file = token_file.path()
    if token_file.restrict_to_owner():
        console.out.print(f"Others could read {file}; now only you can.")
    found = "A new token is in" if token_file.make() else "You have a token, which is kept, in"
    console.out.print(f"{found} {file}; only you can read it. Keep it out of repositories and messages.")
    console.out.print("Ray's own commands use it in shells where you type: export RAY_AUTH_MODE=token")


if __name__ == "__main__":
    console.run(Options, main)
