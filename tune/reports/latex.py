"""Escaping of any Unicode text for LaTeX, without extra packages and without dropping a character."""

from __future__ import annotations

from htt.text import printable

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}", '"': "''",
    "−": "$-$", "–": "--", "—": "---", "…": r"\dots{}", "\u00a0": "~", "‘": "`", "’": "'", "“": "``", "”": "''",
}  # fmt: skip
_MATHS = {
    "×": "times", "±": "pm", "·": "cdot", "÷": "div", "→": "rightarrow", "←": "leftarrow", "↔": "leftrightarrow",
    "⇒": "Rightarrow", "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "≡": "equiv", "∞": "infty", "∈": "in",
    "∑": "sum", "∏": "prod", "√": "surd", "∂": "partial", "∇": "nabla", "∅": "emptyset", "∪": "cup", "∩": "cap",
    "∧": "wedge", "∨": "vee", "¬": "neg", "⊕": "oplus", "⊗": "otimes", "′": "prime", "°": "circ", "ℓ": "ell",
}  # fmt: skip
_NAMES = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma sigma tau upsilon "
    "varphi chi psi omega phi Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega mu"
)
_GREEK = dict(zip("αβγδεζηθικλμνξπρςστυφχψωϕΓΔΘΛΞΠΣΥΦΨΩµ", _NAMES.split(), strict=True))
_RAISED = {letter: f"$^{{{number}}}$" for number, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_LOWERED = {letter: f"$_{{{number}}}$" for number, letter in enumerate("₀₁₂₃₄₅₆₇₈₉")}
_KNOWN = {
    **_SPECIAL,
    **{letter: f"$\\{name}$" for letter, name in {**_MATHS, **_GREEK}.items() if name not in ("circ", "prime")},
    **{letter: f"$^{{\\{name}}}$" for letter, name in _MATHS.items() if name in ("circ", "prime")},
    **_RAISED,
    **_LOWERED,
}
_LATIN = frozenset(chr(code) for code in range(0xC0, 0x180)) - frozenset("×÷ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
"""Accented letters that pdflatex has in its default fonts and reads as UTF-8."""


def escaped(text: str) -> str:
    """Return text escaped for LaTeX; a character that LaTeX lacks becomes its code point, such as U+4E2D."""
    line = " ".join(printable(text).split())
    before = f" {line}"  # LaTeX would join two hyphens into a dash
    return "".join("{}-" if pair == ("-", "-") else _one(pair[1]) for pair in zip(before, line, strict=False))


def _one(letter: str) -> str:
    if letter in _KNOWN:
        return _KNOWN[letter]
    return letter if letter.isascii() or letter in _LATIN else f"U+{ord(letter):04X}"
