"""Terminal output of a study: its plan before training, and its results at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import tune.experiments.spaces
from htt import console, registry
from htt.errors import ConfigError
from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.execution.plan import Plan
from tune.experiments import power
from tune.experiments.space import Space
from tune.reports import commands, study_table
from tune.reports import format as fmt
from tune.results import study_results
from tune.results.run_folder import RunFolder


def show_plan(plan: Plan, command: Callable[..., str]) -> None:
    """Print each variant with its changes, number of parameters and counts of trials, and the expected duration.

    Warnings are printed last, to the error stream.

    Args:
        plan: plan of the study.
        command: returns the user's command line, with the options changed that are given as keywords.
    """
    study, count = plan.study, len(plan.study.seeds)
    console.out.print(f"\n{study.question}", style="bold")
    console.out.print(
        f"{len(study.variants)} variants x {plural(count, 'seed')} ({', '.join(map(str, study.seeds))}) = "
        f"{plural(len(plan.pairs), 'training')}, judged by {', '.join(study.metrics)}.\n"
    )
    console.print_table(list(_plan_rows(plan)))
    for origin in sorted({found.folder.name for found in plan.shared.values()}):
        taken = [found for found in plan.shared.values() if found.folder.name == origin]
        commits = ", ".join(sorted({found.record.commit for found in taken if found.record}))
        console.out.print(f"\n{len(taken)} reused from {origin} (commit {commits}); --no-share trains them again.")
    console.out.print(f"\n{_time(plan, command)}", markup=False)
    for warning in plan.warnings:
        console.print_message("warning:", warning)


def show_tuning(plan: Plan) -> None:
    """Print the searches of a tuned study, and the number of trainings in all; nothing without ``--tune``."""
    spec, study = plan.spec, plan.spec.study
    if spec.tune is None:
        return
    count = len(study.variants)
    domains = [f"  {path}: {domain}" for path, domain in spec.domains.items()]
    console.out.print(
        f"\nTuning: each variant, the reference too, is searched with {spec.tune} trials of space {spec.space}, by "
        f"{spec.metric}:\n" + "\n".join(domains),
        markup=False,
    )
    with contextlib.suppress(ConfigError):  # the space of a resumed run may be gone
        space = registry.value(tune.experiments.spaces, str(spec.space), "SPACE", Space)
        if fixed := [path for path in space.domains if path not in spec.domains]:
            console.out.print(f"Not searched, because the study or --set fixes it: {', '.join(fixed)}.", markup=False)
    if spec.tuned:
        console.out.print("All searches have ended.")
        return
    own = count * len(study.seeds)
    console.out.print(
        f"In all at most {own + count * spec.tune + own} trainings: {own} at shared settings, {count} x {spec.tune} in "
        f"the searches, which stop bad ones early, and {own} of the variants at their own best."
    )
    if plan.seconds:
        usual = sum(plan.seconds.values()) / len(plan.seconds)
        later_s = sum(plan.seconds.get(name, usual) for name in study.variants) * (spec.tune + len(study.seeds))
        console.out.print(
            f"Searches and tuned trainings take at most about {fmt.duration(later_s / plan.at_once)} more."
        )


def show_results(folder: RunFolder) -> None:
    """Print each variant's mean and difference with intervals for each metric, and the commands to run next."""
    results = study_results.read(folder)
    shared, *tuned = study_results.parts(results)
    for part, words in ((shared, ""), *((each, ", each variant at its own best") for each in tuned)):
        for result in study_results.results_by_metric(part):
            console.out.print(f"\n{METRICS[result.metric].title}, validation{words}", style="bold")
            table = study_table.terminal(study_table.variants(result))
            console.out.print(table.terminal(console.width()), markup=False)
    for warning in results.record.incomplete:
        console.print_message("warning:", warning)
    for variant, why in results.missing().items():
        console.out.print(f"Missing of {variant}: {'; '.join(why)}", markup=False)
    run, shown = commands.quoted(folder.path), commands.relative(folder.path)
    console.out.print(f"\nReport  {shown}/report.md\nPage    {shown}/report.html\n\nNext:", markup=False)
    wanted = power.seeds_needed(len(shared.study.compared))
    untuned = results.record.study.tune is not None and not tuned
    if results.missing() or untuned or len(results.seeds) < wanted:
        more = "" if results.missing() or untuned else f" --seeds {wanted}"
        console.out.print(f"  python tune/ablate.py --resume {run}{more}", markup=False)
    console.out.print(f"  python -m tune.reports {run}", markup=False)


def _plan_rows(plan: Plan) -> Iterator[list[str]]:
    yield ["variant", "changes", "parameters", "done", "reused", "to train"]
    left = {pair.key for pair in plan.left}
    for name, changes in plan.study.variants.items():
        own = [pair for pair in plan.pairs if pair.variant == name]
        counts = (
            sum(plan.has(pair) for pair in own),
            sum(pair.key in plan.shared for pair in own),
            sum(pair.key in left for pair in own),
        )
        title = f"{name} (reference)" if name == plan.study.reference else name
        yield [title, fmt.changes(changes), f"{plan.parameters[name]:,}", *map(str, counts)]


def _time(plan: Plan, command: Callable[..., str]) -> str:
    if not plan.left:
        return "All trainings are done."
    if plan.expected_s is None:
        one = "" if plan.resume else f"\nOr train one seed first: {command(seeds='1', dry_run=False)}"
        return (
            "Duration unknown: no such training has ended here yet. Estimate it from a few steps of each variant: "
            f"{command(dry_run=True, time_steps=3)}{one}"
        )
    total = f"About {fmt.duration(plan.expected_s)} on this machine, {plan.at_once} at once"
    if not plan.estimated:
        return f"{total} ({_mean(plan.seconds)} per training, by finished ones)."
    ended = f", {_mean(plan.seconds)} by finished ones" if plan.seconds else ""
    return (
        f"{total}: an estimate ({_mean(plan.estimated)} per training by a few timed steps{ended}). It leaves out "
        "startup, checkpoints, and trainings that slow each other down."
    )


def _mean(seconds: Mapping[str, float]) -> str:
    return fmt.duration(sum(seconds.values()) / len(seconds))
