"""Methods of the figures of a study, in a few sentences each: the text behind a title."""

from __future__ import annotations

METHODS: dict[str, str] = {
    "steps_to_result": (
        "Of the first N COMPLETE trials of a search at one batch size (and those STOPPED at the "
        "goal or by the race), the fewest steps at which one was strictly past the goal at an "
        "evaluation; the truth lies between that evaluation and the one before. R searches give "
        "their median and their range."
    ),
    "repeats": (
        "The trial with the fewest steps of all searches gives a configuration, trained again "
        "with R fresh seeds, each once; a divergence, or no crossing within the length, is an "
        "infinite number of steps. Of ten, the second and the ninth smallest enclose the median "
        "with 97.9%, whatever the distribution. The selection effect is that median over the steps "
        "of the trial that was selected."
    ),
    "importance": (
        "PED-ANOVA (Watanabe et al. 2023): the Pearson divergence of two kernel densities of one "
        "hyperparameter, on its own scale: that of the best trials of a batch size from that of "
        "all; its share in the sum over the hyperparameters. The line of chance is the 95% order "
        "statistic of 199 random choices of as many trials."
    ),
    "definitions": (
        "The end of perfect scaling is the largest batch size that needs at most 10, 20 or 50% "
        "more examples than perfect scaling, or twice as many. Perfect scaling is read off the "
        "fitted curve of free sharpness (the headline), off the hyperbola, off the best convex "
        "curve through the points, or anchored at the smallest batch size, and each again with an "
        "end of the curve left out."
    ),
    "budgets": (
        "The best value at any evaluation within the step budget, or within the example budget, of "
        "the trials that train to their full length; R such searches give their median and range."
    ),
    "budget_levels": ("As the best value under a budget, within 1/8, 1/4, 1/2 and all of it."),
    "cost": (
        "Time to the goal: steps to result times the seconds of one step, those measured in the "
        "record or stated by a plan. Cost: that time, times the devices, times the price of a "
        "device's hour (one where none is given). R searches give their median and range."
    ),
    "speed": (
        "Computational speed: steps a second, the inverse of the seconds of one step. Convergence "
        "speed: the inverse of the steps to result. Their product is the inverse of the time to "
        "the goal, so lines of equal time fall."
    ),
    "best_hyperparameters": (
        "The hyperparameters of the trial that gave each batch size its steps to result. The "
        "effective learning rate is learning_rate / (1 - momentum). The linear rule multiplies the "
        "rate of the smallest batch size by B / B0, the square-root rule by sqrt(B / B0)."
    ),
    "rounds": (
        "The rounds as study.json holds them: the points of the first search in their order, with "
        "who proposed each, and the box of every round. A round is proposed from the seed and from "
        "what the trials of earlier rounds of this search have shown."
    ),
    "rules": (
        "From the best trial at one batch size each rule says which hyperparameters another one "
        "should take; the steps to the goal there are interpolated between the trials that were "
        "run at that batch size. Regret is those steps over the fewest of any trial there, minus "
        "one. Nothing is extrapolated."
    ),
    "rule_map": (
        "The same regret from every batch size to every other, for the rule named above a panel."
    ),
    "search": (
        "Each trial at its place in the search space. Goal reached: some evaluation was strictly "
        "past the goal. Infeasible: a loss or a parameter was not finite, or the loss passed the "
        "workload's divergence limit."
    ),
    "validation_curves": (
        "The recorded evaluations of each batch size's best trial, thinned to about a hundred "
        "points for the page; the CSV holds all of them."
    ),
    "axis_plots": (
        "The best finite value at any evaluation of each trial, against one hyperparameter at a "
        "time; the others vary along."
    ),
    "parallel": (
        "The trials of each batch size with the best value at any evaluation. Positions on an axis "
        "are those of the scale that was searched: linear, logarithmic, or logarithmic in 1 - x."
    ),
    "best_of_trials": (
        "The median of the best value of k trials drawn from those recorded, for every k: the "
        "order statistics of the sample, nothing is drawn at random. Exact bands need independent "
        "trials and come from the binomial distribution of ranks."
    ),
    "noise_scale": (
        "B_simple = tr(Sigma) / |G|^2 (McCandlish et al. 2018) from the squared norms of gradients "
        "over two sizes of batch: unbiased estimates of |G|^2 and tr(Sigma), averaged apart over "
        "the window before they are divided. The interval is a block jackknife's."
    ),
    "noise_scale_in_training": (
        "The same estimate over a moving window of evaluations along the training of one trial."
    ),
    "noise_scale_layers": (
        "The estimate at the goal for each array of the parameters: tr(Sigma) and |G|^2 are sums "
        "over entries, so a layer's are those of its own entries."
    ),
}

FITTED_CURVE = (
    "The curve S = S_min (1 + (B_noise / B)^p)^(1/p) is fitted to the logarithm of each search's "
    "steps; p = 1 is a hyperbola, a larger p a sharper elbow. The perfect-scaling line is its "
    "E_min / B, E_min = S_min B_noise."
)
"""Of the steps to result of one study, beside `METHODS`."""
