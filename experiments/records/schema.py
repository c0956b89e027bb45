"""The record on disk: names, types and versions. What is written here can be drawn for ever.

A study's folder holds::

    study.json                       the whole question, versions, device, precision, plans
    records/trials-000001.parquet        one row a trial; written last, it commits its group
    records/evaluations-000001.parquet   one row a measurement
    records/layers-000001.parquet        one row an evaluation and layer, where asked for
    records/norms-000001.parquet         one row a step, where norms are recorded at every step
    records/committed.json               the newest committed group, so that a lost one is noticed
    lock                             held (flock) by the one coordinator that writes
    repeats/                         a record of the same form: best configurations trained again

Tables (schema version 2; docs/record.md has the rules, types and older versions)

trials: ``batch_size, seed, trial, identity, status, train_steps, steps, seconds, plan,
message``; ``reason`` (goal, race, pruned or patience, of a STOPPED one) and ``race_bound`` (steps
after which the race ends it, or would), null where the study does not stop trials;
``clipped_share`` (steps whose gradient was clipped, of ``steps``) where the study clips; then one
column per hyperparameter under its own name (float64; listed in study.json's ``hyperparameters``).

evaluations: ``batch_size, seed, trial, step, examples`` (consumed: step * batch_size, unless the
batch grows: ``batch_size`` is then that of the first step), then ``split/metric`` columns
(float64) such as ``validation/classification_error`` and ``train/cross_entropy``; for second-order
rules ``function_evaluations``, made up to that step (the loss, its gradient or a Hessian-vector
product over the batch count one each); with ``record_norms = evaluations`` also ``gradient_norm,
update_norm, parameter_norm, learning_rate``.

norms: ``batch_size, seed, trial, step, examples, gradient_norm, update_norm, parameter_norm,
learning_rate``; where the study clips, here and beside the norms of evaluations, ``clipped``
(0 or 1); ``gradient_norm`` is always that of the gradient before clipping.

layers: ``batch_size, seed, trial, step, layer, gradient_norm, update_norm, parameter_norm``, one
row an evaluation and an array of the parameters (``layer``, its path), where the study asks for
``norms_per_layer``: of the step that follows, the update and the parameters after it.

study.json: ``schema_version``; ``study`` (`ResolvedStudy.describe`: one entry a row of
experiments/spec/fields.py, and ``train_size``); ``changed_code`` (list; the user's code that the
record went on with where --allow-changed-code was given, file -> sha256 of its text); ``dataset``
(name, sizes, source, checksum); ``identity``;
``hyperparameters`` (column names); ``environment`` (versions, device, commit) in which the
record began, ``environments`` all it was continued in;
``plans`` (list; a trial's ``plan`` is its index here); ``imported`` where the trials come from an
archive (exchange/batch_science.py): ``format``, ``path`` in it, its ``studies`` (batch size ->
study.json as it stood) and ``columns`` (batch size -> header); the study then holds only what the
archive says, and trials may lack ``seconds`` and ``plan``.

repeats/study.json: as the study's, with the identity and the seeds of the repeats, ``purpose``
("repeat") and ``configurations`` (list, in the order of choice; each ``batch_size``, the ``seed``
and ``trial`` that selected it, ``steps`` of that trial to the goal, ``hyperparameters``); ``trial``
of a row is the place of its configuration among those of its batch size.
"""

from __future__ import annotations

SCHEMA_VERSION = 2
OLD_VERSION = 1
"""Read, analysed and drawn, never continued: no checksums, 64-bit keys, another example order."""
STUDY_FILE = "study.json"
COMPARISON_FILE = "comparison.json"
PATHS_FILE = "paths.json"
PROCEDURE_FILE = "procedure.json"
LOCK_FILE = "lock"
RECORDS_FOLDER = "records"
REPEATS_FOLDER = "repeats"
"""Of a study's folder: a record of its own, of configurations that were trained again."""
COMMITTED_FILE = "committed.json"
TABLES = ("evaluations", "norms", "layers", "trials")  # in the order they are written
TRIAL_COLUMNS = (
    "batch_size",
    "seed",
    "trial",
    "identity",
    "status",
    "train_steps",
    "steps",
    "seconds",
    "plan",
    "message",
)
MEASUREMENT_KEY = ("batch_size", "seed", "trial", "step")
OPTIONAL_TRIAL_COLUMNS = ("reason", "race_bound", "clipped_share")
NORM_COLUMNS = ("gradient_norm", "update_norm", "parameter_norm", "learning_rate", "clipped")
