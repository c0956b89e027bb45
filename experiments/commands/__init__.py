"""The commands, one file each: ``add(commands)`` declares it, a function of the options does it.

Every import that costs time is made by the function that needs it, so that ``--help`` answers at
once.
"""

from experiments.commands import (
    automl,
    branch,
    check,
    clip_threshold,
    compare,
    curvature,
    data,
    diagnose,
    ensemble,
    evaluate,
    export,
    growth,
    import_batch_science,
    listing,
    nqm,
    plan,
    plot_schedule,
    repeat,
    report,
    rescale,
    run,
    start,
    status,
    steps_search,
    verdict,
    warmup_search,
)

COMMANDS = (
    listing, plan, run, status, report, repeat, compare, evaluate, curvature, branch, ensemble,
    export, import_batch_science, plot_schedule, check, start, diagnose, warmup_search,
    clip_threshold, steps_search, verdict, rescale, data, nqm, growth, automl,
)  # fmt: skip
