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
        console.out.print(f"Other users could read {file}; the permissions are now restricted to you.")
    verb = "Wrote a new token to" if token_file.make() else "Kept the existing token in"
    console.out.print(f"{verb} {file}; only you can read it. Do not put it into repositories or messages.")
    console.out.print("To use it with Ray's own commands, type in each shell: export RAY_AUTH_MODE=token")


if __name__ == "__main__":
    console.run(Options, main)
