"""One module per stage of dvc.yaml, run as ``python -m assay.stages.<stage>``."""

import gc

# Importing torch and transformers makes a million objects that stay; collecting between them takes a sixth of a stage's
# start. ``assay.core.stage.timed`` puts the usual threshold back.
gc.set_threshold(1_000_000)
