"""One module per stage of dvc.yaml, run as ``python -m assay.stages.<stage>``."""

import gc
import sys

# Importing torch and transformers makes a million objects that stay; collecting between them takes a sixth of a stage's
# start. ``timing.timed`` turns collection on again. argv[0] is "-m" only while Python looks for the stage to run.
if sys.argv[0] == "-m":
    gc.disable()
