"""What do second-order rules save on a convex problem: steps, and evaluations beside them?

Command:   batchscale run second_order_digits
           batchscale run second_order_digits --smoke    (half a minute)
Time:      about three minutes on two CPU cores.
Expected:  with the whole training set in every step, Newton's method and Newton-CG reach the goal
           in a few steps and L-BFGS in some ten, where Nesterov's momentum takes more; but a step
           of Newton's costs one evaluation for each of the 650 parameters and one more, so that
           by evaluations of the loss or a derivative of it L-BFGS and Newton-CG are ahead.

Logistic regression on scikit-learn's digits: the loss is convex, the model small enough for its
Hessian. An evaluation is one pass over the batch for the loss, its gradient or a product with its
Hessian; a first-order rule makes one a step. At the smaller batch size every step sees another
problem, whose minimum a second-order rule goes to at once.

The goal and the budgets are ours, from pilot runs.
"""

import dataclasses

from experiments.spec.comparison import Comparison, of_optimizers
from experiments.spec.study import Study
from workloads.base import Goal
from workloads.digits_fc import WORKLOAD

LOGISTIC = dataclasses.replace(
    WORKLOAD,
    name="digits_logistic",
    model_options={"hidden_sizes": [], "classes": 10},
    goal=Goal("cross_entropy", 0.25),
    search_spaces={},
)

_ONE = Study(
    name="second_order_digits",
    question="How many steps does it take to fit the digits by logistic regression?",
    workload=LOGISTIC,
    batch_sizes=(128, 1024),
    step_budget=80,
    example_budget=10 * 1024,
    trials=12,
)

STUDY = Comparison(
    name="second_order_digits",
    question="What do second-order rules save on a convex problem: steps, and evaluations?",
    studies=of_optimizers(_ONE, ("nesterov", "lbfgs", "hessian_free", "newton")),
    expected=(
        "With the whole training set in a step, Newton's method needs the fewest steps; L-BFGS "
        "and Newton-CG need the fewest evaluations."
    ),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="second_order_digits-smoke",
    studies=of_optimizers(
        dataclasses.replace(
            _ONE, name="second_order_digits-smoke", batch_sizes=(1024,), trials=3, step_budget=20
        ),
        ("nesterov", "lbfgs", "hessian_free", "newton"),
    ),
)
