"""Networks that look at a picture. The fast filter is trained twice: name -> stage, the simpler one first."""

FILTERS = {"plain": "train_stage1", "distilled": "distill_stage1"}
# What a filter says of the val role, in its folder.
VAL_SCORES = "scores_val.parquet"
