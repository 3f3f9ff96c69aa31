"""Study of a quarter of the labels: the variants of ``labels`` with as many, and all labels, on the same trials."""

from dataclasses import replace

from tune.experiments.studies import labels

VARIANTS = {name: changes for name, changes in labels.STUDY.variants.items() if not name.startswith("10 %")}

STUDY = replace(
    labels.STUDY,
    variants=VARIANTS,
    reference="25 %",
    primary=(),
    notes={
        "25 %": labels.STUDY.notes["10 %"],
        **{name: text for name, text in labels.STUDY.notes.items() if name in VARIANTS},
    },
)
