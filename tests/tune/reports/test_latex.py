import pytest

from tune.reports import latex


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("−3 < x", "$-$3 $<$ x"),
        ("\\{#$}", r"\textbackslash{}\{\#\$\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("σ² ≥ 5 µm, 90°", r"$\sigma$$^{2}$ $\geq$ 5 $\mu$m, 90$^{\circ}$"),
        ("déjà “vu” – …", "déjà ``vu'' -- \\dots{}"),
        ("中 Ð", "U+4E2D U+00D0"),
    ],
)
def test_every_letter_is_one_that_latex_takes(text, tex):
    assert latex.escaped(text) == tex


def test_each_greek_letter_has_its_own_name():
    names = [latex.escaped(letter) for letter in "αβγδεζηθικλμνξπρςστυφχψωϕΓΔΘΛΞΠΣΥΦΨΩ"]
    assert len(set(names)) == len(names)
    assert latex.escaped("λ Λ") == r"$\lambda$ $\Lambda$"
